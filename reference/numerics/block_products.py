"""Mirrored. Products with integers in blocks of 256 inputs: one exact sum, then one float product, a block (N4b)."""

import numpy as np

from verbatim.reference.numerics.block_weights import BLOCK, SMALLEST, BlockedTensor, wide_scales
from verbatim.reference.numerics.quantization import GROUP_SIZE


def quantize_rows(x: np.ndarray, quantization: str) -> tuple[np.ndarray, np.ndarray]:
    """Activations as integers for weights of that format (N4b).

    x float32 (rows, inputs); returns int16 or int8 (rows, groups, 32), the last group padded with zeros, and float32
    scales (rows, blocks). A block that holds NaN or an infinity has the scale NaN.
    """
    rows, num_inputs = x.shape
    padded = np.concatenate([x, np.zeros((rows, -num_inputs % BLOCK), np.float32)], axis=1)
    blocks = padded.reshape(rows, padded.shape[1] // BLOCK, BLOCK)
    largest = np.abs(blocks).max(axis=-1, initial=0)
    is_finite, is_zero = np.isfinite(largest), largest < SMALLEST
    blocks = np.where((is_finite & ~is_zero)[..., None], blocks, np.float32(0))
    integers, scales = (_round_wide if quantization.endswith("a16") else _round_bytes)(blocks)
    scales = np.where(is_finite, np.where(is_zero, np.float32(0), scales), np.float32(np.nan))
    return integers.reshape(rows, -1, GROUP_SIZE)[:, : -(-num_inputs // GROUP_SIZE)], scales


def _round_wide(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shifted, steps, inverses = wide_scales(blocks)
    factors = np.float32(1) / np.where(steps == 0, np.float32(1), steps)
    return np.rint(shifted * factors[..., None]).astype(np.int16), steps * inverses


def _round_bytes(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    largest = np.abs(blocks).max(axis=-1, initial=0)
    factors = np.float32(127) / np.where(largest == 0, np.float32(1), largest)
    return np.rint(blocks * factors[..., None]).astype(np.int8), largest / np.float32(127)


def linear_blocks(x: np.ndarray, weight: BlockedTensor) -> np.ndarray:
    """y = sum over blocks, in order from +0, of float32(exact dot of 256 integers) * (s_x * s_w) (N4b).

    x float32 (rows, inputs); returns float32 (rows, outputs). The dot is below 2^31, so float64 holds it, and each
    partial sum, in whatever order BLAS adds; its conversion to float32 is the only rounding.
    """
    integers, scales = quantize_rows(x, weight.format)
    integers, factors = integers.reshape(len(x), -1), weight.factors()
    total = np.zeros((len(x), len(factors)), np.float32)
    for index in range(scales.shape[1]):
        block = slice(index * BLOCK, (index + 1) * BLOCK)
        dots = integers[:, block].astype(np.float64) @ factors[:, block].T.astype(np.float64)
        total += dots.astype(np.float32) * (scales[:, index, None] * weight.scales[None, :, index])
    return total
