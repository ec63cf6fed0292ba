"""Weights in the GPU kernels' layout: 32 outputs side by side (N3, N4).

This rearranges bits only; cuda/linear.cu and cuda/linear_integers.cu describe the layouts. Matrices with the same input
are packed as one: their outputs are independent, so one launch gives the same bits as several.
"""

from dataclasses import dataclass, replace

import numpy as np

from verbatim.reference.checkpoint.weights import Tensor
from verbatim.reference.numerics.quantization import to_stored

WARP = 32
EIGHT = 8  # inputs that a thread reads at once, and groups of integers in a block of K
FORMATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A matrix (outputs, inputs) for the device. `format` is the suffix of its kernels; only integers have scales."""

    format: str
    outputs: int
    inputs: int
    weights: np.ndarray
    scales: np.ndarray | None = None
    bias: np.ndarray | None = None


def pack(matrices, quantization: str | None = None, format: str | None = None) -> Packed:
    """Pack a checkpoint's matrices as one matrix, in order of outputs."""
    bias = None
    if any(m.bias is not None for m in matrices):  # a sum that begins with +0 is never -0: adding +0 changes nothing
        bias = np.concatenate(
            [np.zeros(m.weight.shape[0], np.float32) if m.bias is None else m.bias.float32() for m in matrices]
        )
    if quantization is None:
        return pack_floats([m.weight for m in matrices], bias, format)
    return pack_integers([m.quantized(quantization) for m in matrices], bias)


def pack_stack(groups, quantization: str | None = None) -> Packed:
    """Pack matrices of equal shape into a stack, side by side: experts, found by number."""
    format = None if quantization else _common_format([matrix.weight for matrices in groups for matrix in matrices])
    packed = [pack(matrices, quantization, format) for matrices in groups]
    biases = [matrix.bias for matrix in packed]
    if any(bias is not None for bias in biases):
        biases = [np.zeros(matrix.outputs, np.float32) if matrix.bias is None else matrix.bias for matrix in packed]
    stack = {"weights": [m.weights for m in packed], "scales": [m.scales for m in packed], "bias": biases}
    return replace(
        packed[0], **{name: np.concatenate(arrays) for name, arrays in stack.items() if arrays[0] is not None}
    )  # fmt: skip


def _common_format(tensors: list[Tensor]) -> str:
    """The stored dtype if all tensors share it, else float32 (N1)."""
    dtypes = {tensor.dtype for tensor in tensors}
    return FORMATS[dtypes.pop()] if len(dtypes) == 1 else "float32"


def pack_floats(tensors: list[Tensor], bias=None, format: str | None = None) -> Packed:
    """Pack float tensors (outputs, inputs) in a format, by default their common one."""
    format = format or _common_format(tensors)
    bits = np.concatenate([t.bits if format != "float32" else t.float32() for t in tensors])
    outputs, inputs = bits.shape
    padded = np.zeros((_padded(outputs, WARP), _padded(inputs, EIGHT)), bits.dtype)
    padded[:outputs, :inputs] = bits
    tiles = padded.reshape(len(padded) // WARP, WARP, -1, EIGHT).transpose(0, 2, 1, 3)  # (tiles, eights, 32, 8)
    return Packed(format=format, outputs=outputs, inputs=inputs, weights=np.ascontiguousarray(tiles), bias=bias)


def pack_integers(tensors, bias=None) -> Packed:
    """Pack QuantizedTensors of the same format and number of inputs."""
    format, inputs = tensors[0].format, tensors[0].num_inputs
    stored = _tiles(np.concatenate([to_stored(tensor) for tensor in tensors]).view(np.uint8))
    outputs = sum(len(tensor.scales) for tensor in tensors)
    halves = stored.reshape(*stored.shape[:3], -1, 16).transpose(0, 2, 3, 1, 4)  # (tiles, groups, halves, 32, 16)
    scales = _tiles(np.concatenate([tensor.scales for tensor in tensors]))  # (tiles, 32, groups)
    blocks = np.zeros((*scales.shape[:2], _padded(scales.shape[2], EIGHT)), scales.dtype)
    blocks[..., : scales.shape[2]] = scales
    blocks = blocks.reshape(*scales.shape[:2], -1, EIGHT).transpose(0, 2, 1, 3)  # (tiles, blocks of K, 32, 8)
    return Packed(
        format=format, outputs=outputs, inputs=inputs, weights=np.ascontiguousarray(halves),
        scales=np.ascontiguousarray(blocks), bias=bias,
    )  # fmt: skip


def _padded(count: int, step: int) -> int:
    return -(-count // step) * step


def _tiles(rows: np.ndarray) -> np.ndarray:
    """(outputs, ...) to (tiles, 32, ...), zeros past the last output."""
    padded = np.zeros((_padded(len(rows), WARP), *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return padded.reshape(-1, WARP, *rows.shape[1:])
