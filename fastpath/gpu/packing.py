"""Weights in the GPU kernels' layout: 32 outputs side by side (N3, N4, N4g).

This rearranges bits only; cuda/linear.cu, linear_integers.cu and linear_blocks.cu describe the layouts. Matrices with
the same input and format are packed as one: outputs are independent, so one launch gives the same bits as several.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np

from verbatim.fastpath.gpu.formats import FLOATS, LAYOUTS, TABLES, WARP, Layout, stored_format, widest
from verbatim.fastpath.numerics.words import words_of
from verbatim.reference.checkpoint.tensors import Matrix
from verbatim.reference.checkpoint.weights import Tensor, release
from verbatim.reference.numerics.quantization import QuantizedTensor, SuperblockTensor, to_stored
from verbatim.reference.records.errors import BackendError

EIGHT = 8  # inputs that a thread reads at once, and groups of integers in a block of K
Integers = QuantizedTensor | SuperblockTensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A matrix (outputs, inputs) for the device. `format` is one of LAYOUTS; only integers have scales."""

    format: str
    outputs: int
    inputs: int
    weights: np.ndarray
    scales: np.ndarray | None = None
    bias: np.ndarray | None = None


def format_of(matrix: Matrix, quantization: str | None) -> str:
    """The format of LAYOUTS in which a checkpoint's matrix is computed."""
    form = matrix.format(quantization)
    return FLOATS[matrix.weight.dtype] if form is None else stored_format(form)


def pack(matrices: Sequence[Matrix], quantization: str | None = None, format: str | None = None) -> Packed:
    """Pack a checkpoint's matrices as one matrix, in order of outputs; without a format, in the one that fits all."""
    format = format or _common([format_of(matrix, quantization) for matrix in matrices])
    bias = None
    if any(m.bias is not None for m in matrices):  # a sum that begins with +0 is never -0: adding +0 changes nothing
        bias = np.concatenate(
            [np.zeros(m.weight.shape[0], np.float32) if m.bias is None else m.bias.float32() for m in matrices]
        )
    if not LAYOUTS[format].takes_integers:
        packed = pack_floats([matrix.weight for matrix in matrices], bias, format)
    else:
        packed = pack_integers([m.quantized(m.format(quantization) or format) for m in matrices], bias, format)
    for matrix in matrices:
        release(matrix.weight.bits)
    return packed


def pack_joined(matrices: Sequence[Matrix], quantization: str | None = None) -> list[Packed]:
    """Matrices that share an input, as one where they are all floats or of one format, else by runs of a format."""
    formats = [format_of(matrix, quantization) for matrix in matrices]
    return [pack([matrices[i] for i in run], quantization, format) for format, run in _runs(formats)]


def pack_stacks(groups: Sequence[Sequence[Matrix]], quantization: str | None = None) -> list[Packed]:
    """The same for each of several groups of equal shape, one below the other: experts, found by number."""
    formats = [_common([format_of(matrix, quantization) for matrix in place]) for place in zip(*groups, strict=True)]
    return [
        stacked([pack([group[i] for i in run], quantization, format) for group in groups])
        for format, run in _runs(formats)
    ]


def _common(formats: list[str]) -> str:
    found = widest(formats)
    if found is None:
        named = ", ".join(sorted(set(formats)))
        raise BackendError(f"not on the GPU path: experts of several formats ({named}); --device cpu runs this model")
    return found


def _runs(formats: list[str]) -> list[tuple[str, list[int]]]:
    """Neighbours that are packed as one: their common format, and their places."""
    known = ["float" if format in FLOATS.values() else format for format in formats]
    runs = [list(run) for _, run in groupby(range(len(known)), key=known.__getitem__)]
    return [(_common([formats[i] for i in run]), run) for run in runs]


def stacked(packed: list[Packed]) -> Packed:
    """Matrices of equal shape and format, one below the other."""
    biases = [matrix.bias for matrix in packed]
    if any(bias is not None for bias in biases):
        biases = [np.zeros(matrix.outputs, np.float32) if matrix.bias is None else matrix.bias for matrix in packed]
    stack = {"weights": [m.weights for m in packed], "scales": [m.scales for m in packed], "bias": biases}
    return replace(
        packed[0], **{name: np.concatenate(arrays) for name, arrays in stack.items() if arrays[0] is not None}
    )  # fmt: skip


def pack_floats(tensors: Sequence[Tensor], bias=None, format: str | None = None) -> Packed:
    """Pack float tensors (outputs, inputs) in a format, by default their common one."""
    format = format or _common([FLOATS[tensor.dtype] for tensor in tensors])
    bits = np.concatenate([t.numbers() if format != "float32" else t.float32() for t in tensors])
    outputs, inputs = bits.shape
    padded = np.zeros((_padded(outputs, WARP), _padded(inputs, EIGHT)), bits.dtype)
    padded[:outputs, :inputs] = bits
    tiles = padded.reshape(len(padded) // WARP, WARP, -1, EIGHT).transpose(0, 2, 1, 3)  # (tiles, eights, 32, 8)
    return Packed(format=format, outputs=outputs, inputs=inputs, weights=np.ascontiguousarray(tiles), bias=bias)


def pack_integers(tensors: Sequence[Integers], bias=None, format: str | None = None) -> Packed:
    """Pack matrices of integers with the same number of inputs in a format, by default their common one."""
    format = format or _common([stored_format(tensor.format) for tensor in tensors])
    parts = [_arrange(tensor, format) for tensor in tensors]
    weights = _tiles(np.concatenate([words for words, _ in parts]))  # (tiles, 32, groups, bytes)
    weights = _beside(weights, LAYOUTS[format].bits)
    scales = _in_blocks(_tiles(np.concatenate([numbers for _, numbers in parts])), format)
    return Packed(
        format=format, outputs=sum(len(tensor.integers) for tensor in tensors), inputs=tensors[0].num_inputs,
        weights=weights, scales=np.ascontiguousarray(scales), bias=bias,
    )  # fmt: skip


def _arrange(tensor: Integers, format: str) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of each group (outputs, groups, bytes), and the numbers beside them (outputs, groups or blocks, n)."""
    layout = LAYOUTS[format]
    if isinstance(tensor, SuperblockTensor):
        return _words(tensor.integers, layout), _numbers_of_blocks(tensor)
    if format == "w4a8":
        return to_stored(tensor).view(np.uint8), tensor.scales[..., None]
    words = _words(tensor.integers, layout)
    if not layout.has_shape:
        return words, tensor.scales[..., None]
    minimums = np.zeros(tensor.scales.shape, np.float32) if tensor.minimums is None else tensor.minimums
    numbers = [tensor.scales, minimums] if layout.has_minimum else [tensor.scales]
    return words, np.stack([np.asarray(array, np.float32) for array in numbers], axis=2)


def _numbers_of_blocks(tensor: SuperblockTensor) -> np.ndarray:
    """Words (outputs, blocks, words): factors, minimum factors, and the two float16 numbers, the second 0 for none."""
    outputs, blocks = tensor.scales.shape
    parts = [tensor.factors.view(np.uint8)]
    parts += [] if tensor.minimum_factors is None else [tensor.minimum_factors]
    minimums = np.zeros(tensor.scales.shape, np.float32) if tensor.minimums is None else tensor.minimums
    halves = np.stack([tensor.scales, minimums], axis=2).astype(np.float16)
    rows = [np.ascontiguousarray(array).view(np.uint8).reshape(outputs, blocks, -1) for array in (*parts, halves)]
    return np.concatenate(rows, axis=2).view(np.uint32)


def _words(integers: np.ndarray, layout: Layout) -> np.ndarray:
    """The bytes of each group of int8 (outputs, groups, 32)."""
    if not layout.table:
        return words_of(np.ascontiguousarray(integers).view(np.uint8) + np.uint8(layout.offset), layout.bits)
    places = np.zeros(256, np.uint8)
    places[TABLES[layout.table][::-1].view(np.uint8)] = np.arange(15, -1, -1)  # of two that are alike the first
    found = places[integers.view(np.uint8)].reshape(*integers.shape[:2], 2, 4, 2, 2)  # half, word, byte, half of a byte
    both = found[..., 0] | found[..., 1] << 4
    return both.transpose(0, 1, 3, 2, 4).reshape(*integers.shape[:2], 16)  # of each word the first half of the group


def _beside(weights: np.ndarray, bits: int) -> np.ndarray:
    """(tiles, 32, groups, bytes) to (tiles, groups, bytes of 32 outputs), in pieces of 16 bytes an output, then 8."""
    tiles, _, groups, size = weights.shape
    cuts = (0, 16, 32) if bits == 8 else (0, 16, 24) if bits == 6 else (0, 16)
    pieces = [weights[..., start:stop] for start, stop in pairwise(cuts)]
    beside = [piece.transpose(0, 2, 1, 3).reshape(tiles, groups, -1) for piece in pieces]
    return np.ascontiguousarray(np.concatenate(beside, axis=2).reshape(tiles, groups, WARP * size))


def _in_blocks(numbers: np.ndarray, format: str) -> np.ndarray:
    """(tiles, 32, groups or blocks, n) in the order in which the kernels read them."""
    if LAYOUTS[format].has_shape:
        return numbers.transpose(0, 2, 3, 1)  # (tiles, groups or blocks, n, 32)
    scales = numbers[..., 0]
    blocks = np.zeros((*scales.shape[:2], _padded(scales.shape[2], EIGHT)), scales.dtype)
    blocks[..., : scales.shape[2]] = scales
    return blocks.reshape(*scales.shape[:2], -1, EIGHT).transpose(0, 2, 1, 3)  # (tiles, blocks of K, 32, 8)


def _padded(count: int, step: int) -> int:
    return -(-count // step) * step


def _tiles(rows: np.ndarray) -> np.ndarray:
    """(outputs, ...) to (tiles, 32, ...), zeros past the last output."""
    padded = np.zeros((_padded(len(rows), WARP), *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return padded.reshape(-1, WARP, *rows.shape[1:])
