"""Matrices as strips of 64 outputs side by side; kernels.h describes the layouts."""

import numpy as np

from verbatim.reference.numerics.block_weights import BlockedTensor

STRIP_SIZE = 64


def in_strips(rows: np.ndarray) -> np.ndarray:
    """(outputs, ...) to (strips, 64, ...), with zeros past the last output."""
    num_strips = -(-len(rows) // STRIP_SIZE)
    if len(rows) < num_strips * STRIP_SIZE:
        padded = np.zeros((num_strips * STRIP_SIZE, *rows.shape[1:]), rows.dtype)
        padded[: len(rows)] = rows
        rows = padded
    return rows.reshape(num_strips, STRIP_SIZE, *rows.shape[1:])


def arrange_blocks(tensor: BlockedTensor) -> np.ndarray:
    """A matrix of N4b as uint8 (strips, bytes of a strip): groups of integers, then the scales of its blocks."""
    strips = in_strips(_bytes_of_groups(tensor))  # (strips, 64, groups, words, 4)
    num_strips, _, num_groups, _, _ = strips.shape
    parts = [strips.transpose(0, 2, 3, 1, 4).reshape(num_strips, num_groups, -1)]
    if tensor.multipliers is not None:
        parts.append(in_strips(tensor.multipliers).transpose(0, 2, 1).view(np.uint8))
    groups = np.concatenate(parts, axis=2).reshape(num_strips, -1)
    scales = np.ascontiguousarray(in_strips(tensor.scales).transpose(0, 2, 1)).view(np.uint8)
    return np.concatenate([groups, scales.reshape(num_strips, -1)], axis=1)


def _bytes_of_groups(tensor: BlockedTensor) -> np.ndarray:
    """The integers of each output as words of four bytes, uint8 (outputs, groups, words, 4)."""
    integers = np.ascontiguousarray(tensor.integers)
    num_outputs, num_groups, _ = integers.shape
    if tensor.format == "w16a16":
        quads = integers.reshape(num_outputs, num_groups, 8, 4)[..., [0, 2, 1, 3]]
        return np.ascontiguousarray(quads).view(np.uint8).reshape(num_outputs, num_groups, 16, 4)
    if tensor.multipliers is not None:
        nibbles = (integers + np.int8(8)).view(np.uint8)
        return (nibbles[..., :16] | nibbles[..., 16:] << 4).reshape(num_outputs, num_groups, 4, 4)
    words = integers.view(np.uint8).reshape(num_outputs, num_groups, 8, 4)
    return words ^ np.uint8(0x80) if tensor.format == "w8a8-256" else words
