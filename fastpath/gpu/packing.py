"""Weights in the order in which the GPU's kernels read them: thirty-two outputs side by side (N3, N4).

Only rearranges bits; the layouts are stated in cuda/linear.cu and cuda/linear_integers.cu. Matrices that take the same
input are stacked: their outputs do not depend on each other, so one launch gives the same bits as several.
"""

from dataclasses import dataclass, replace

import numpy as np

from verbatim.reference.checkpoint.weights import Tensor
from verbatim.reference.numerics.quantization import to_stored

WARP = 32
EIGHT = 8  # inputs that a thread reads at once, and groups of integers in a block of K
KINDS = {"F32": "f32", "F16": "f16", "BF16": "bf16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A matrix (outputs, inputs) as bytes for the device; `kind` ends its kernels' names. Only integers have scales."""

    kind: str
    outputs: int
    inputs: int
    weights: np.ndarray
    scales: np.ndarray | None = None
    bias: np.ndarray | None = None


def pack(matrices, quantization: str | None = None, kind: str | None = None) -> Packed:
    """Pack a checkpoint's matrices as one, the outputs of the first come first."""
    biases = [m.bias.float32() if m.bias is not None else None for m in matrices]
    bias = None
    if any(one is not None for one in biases):  # a sum that begins with +0 is never -0: adding +0 changes nothing
        zeros = (np.zeros(m.weight.shape[0], np.float32) for m in matrices)
        bias = np.concatenate([zero if one is None else one for one, zero in zip(biases, zeros, strict=True)])
    if quantization is None:
        return pack_floats([m.weight for m in matrices], bias, kind)
    return pack_integers([m.quantized(quantization) for m in matrices], bias)


def pack_stack(groups, quantization: str | None = None) -> Packed:
    """Pack several stacks of matrices, alike in shape, one behind the other: experts, found by number."""
    kind = None if quantization else _kind([matrix.weight for matrices in groups for matrix in matrices])
    packed = [pack(matrices, quantization, kind) for matrices in groups]
    biases = [one.bias for one in packed]
    if any(bias is not None for bias in biases):
        biases = [np.zeros(one.outputs, np.float32) if one.bias is None else one.bias for one in packed]
    whole = {"weights": [one.weights for one in packed], "scales": [one.scales for one in packed], "bias": biases}
    return replace(
        packed[0], **{name: np.concatenate(arrays) for name, arrays in whole.items() if arrays[0] is not None}
    )  # fmt: skip


def _kind(tensors: list[Tensor]) -> str:
    """As narrow as stored if all are alike, else float32 (N1)."""
    dtypes = {tensor.dtype for tensor in tensors}
    return KINDS[dtypes.pop()] if len(dtypes) == 1 else "f32"


def pack_floats(tensors: list[Tensor], bias=None, kind: str | None = None) -> Packed:
    """Pack float tensors (outputs, inputs), as that kind or as all of them are stored."""
    kind = kind or _kind(tensors)
    bits = np.concatenate([t.bits if kind != "f32" else t.float32() for t in tensors])
    outputs, inputs = bits.shape
    padded = np.zeros((_padded(outputs, WARP), _padded(inputs, EIGHT)), bits.dtype)
    padded[:outputs, :inputs] = bits
    tiles = padded.reshape(len(padded) // WARP, WARP, -1, EIGHT).transpose(0, 2, 1, 3)  # (tiles, eights, 32, 8)
    return Packed(kind=kind, outputs=outputs, inputs=inputs, weights=np.ascontiguousarray(tiles), bias=bias)


def pack_integers(tensors, bias=None) -> Packed:
    """Pack QuantizedTensors of one format and one number of inputs."""
    kind, inputs = tensors[0].format, tensors[0].num_inputs
    stored = _tiles(np.concatenate([to_stored(tensor) for tensor in tensors]).view(np.uint8))
    outputs = sum(len(tensor.scales) for tensor in tensors)
    halves = stored.reshape(*stored.shape[:3], -1, 16).transpose(0, 2, 3, 1, 4)  # (tiles, groups, halves, 32, 16)
    scales = _tiles(np.concatenate([tensor.scales for tensor in tensors]))  # (tiles, 32, groups)
    blocks = np.zeros((*scales.shape[:2], _padded(scales.shape[2], EIGHT)), scales.dtype)
    blocks[..., : scales.shape[2]] = scales
    blocks = blocks.reshape(*scales.shape[:2], -1, EIGHT).transpose(0, 2, 1, 3)  # (tiles, blocks of K, 32, 8)
    return Packed(
        kind=kind, outputs=outputs, inputs=inputs, weights=np.ascontiguousarray(halves),
        scales=np.ascontiguousarray(blocks), bias=bias,
    )  # fmt: skip


def _padded(count: int, step: int) -> int:
    return -(-count // step) * step


def _tiles(rows: np.ndarray) -> np.ndarray:
    """(outputs, ...) to (tiles, 32, ...), zeros past the last output."""
    padded = np.zeros((_padded(len(rows), WARP), *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return padded.reshape(-1, WARP, *rows.shape[1:])
