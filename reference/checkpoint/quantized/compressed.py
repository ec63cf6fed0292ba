"""compressed-tensors, of llm-compressor: integers in words or bytes, or float8 (https://github.com/vllm-project/compressed-tensors).

In words: weight_packed int32 (outputs, inputs * bits / 32), weight_shape, zero points packed along outputs. In bytes:
weight int8 or float8 (outputs, inputs). weight_scale is for a tensor, each output, groups of inputs, or blocks.
"""

import math

import numpy as np

from verbatim.reference.checkpoint.quantized.float8 import read_float8
from verbatim.reference.checkpoint.quantized.matrices import MadeTensor, Packed, Rows, make_matrix
from verbatim.reference.checkpoint.quantized.parts import Parts, centred, fields
from verbatim.reference.checkpoint.quantized.settings import Settings
from verbatim.reference.checkpoint.weights import FLOATS
from verbatim.reference.numerics.quantization import GROUP_SIZE
from verbatim.reference.records.errors import ModelError

ENDS = ("weight_packed", "weight", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx")
SCALE = "weight_scale"


def read_matrix(parts: Parts, settings: Settings) -> MadeTensor:
    """The matrix of these parts: of float8, of bytes, or of words."""
    if "weight_packed" in parts:
        return _packed(parts)
    if parts.get("weight", ("I8", "F8_E4M3")).dtype == "F8_E4M3":
        return read_float8(parts, SCALE, settings.block)
    return _bytes(parts)


def _packed(parts: Parts) -> MadeTensor:
    words = parts.words("weight_packed")
    outputs, num_inputs = (int(size) for size in parts.get("weight_shape", ("I64", "I32"), (2,)).bits)
    widths = {-(-num_inputs * bits // 32): bits for bits in (4, 8)}
    if outputs != len(words) or words.shape[1] not in widths:
        raise ModelError(
            f"weights: tensor {parts.name}.weight_packed has shape {words.shape}: "
            f"({outputs}, {num_inputs}) of 4 or 8 bits has another"
        )
    bits = widths[words.shape[1]]

    def integers(first: int, last: int) -> np.ndarray:
        return centred(fields(words[first:last], bits, along=1), bits)[:, :num_inputs]

    def zeros(num_groups: int) -> Rows | None:
        if "weight_zero_point" not in parts:
            return None
        stored = parts.words("weight_zero_point", (-(-outputs * bits // 32), num_groups))
        unpacked = centred(fields(stored, bits, along=0), bits).astype(np.int16)
        return lambda first, last: unpacked[first:last]

    return _matrix(parts, words, (outputs, num_inputs), bits, integers, zeros)


def _bytes(parts: Parts) -> MadeTensor:
    stored = parts.get("weight", ("I8",)).bits
    if stored.ndim != 2 or not stored.size:
        raise ModelError(f"weights: tensor {parts.name}.weight has shape {stored.shape}, not that of a matrix")

    def zeros(num_groups: int) -> Rows | None:
        if "weight_zero_point" not in parts:
            return None
        whole = parts.get("weight_zero_point", ("I8",), *_shapes(len(stored), num_groups)).bits.astype(np.int16)
        return lambda first, last: _spread(whole, first, last)

    return _matrix(parts, stored, (stored.shape[0], stored.shape[1]), 8, lambda first, last: stored[first:last], zeros)


def _matrix(parts: Parts, stored: np.ndarray, shape: tuple[int, int], bits: int, integers: Rows, zeros) -> MadeTensor:
    """With the size of a group from the shape of the scales."""
    outputs, num_inputs = shape
    last = parts.get(SCALE, FLOATS).shape
    num_groups = last[-1] if len(last) == 2 else 1
    scales = parts.numbers(SCALE, *_shapes(outputs, num_groups))
    size = _group_size(parts, num_inputs, max(num_groups, 1))
    packed = Packed(
        bits=bits, num_inputs=num_inputs, group_size=size, integers=integers, zeros=zeros(num_groups),
        scales=lambda first, last: _spread(scales, first, last), group_of=parts.order("weight_g_idx", size, num_inputs),
    )  # fmt: skip
    return make_matrix(f"{parts.name}.weight", stored, outputs, packed)


def _shapes(outputs: int, num_groups: int) -> tuple[tuple[int, ...], ...]:
    """Those of one number for each group, and, without groups, of one for each output or for the tensor."""
    whole = ((outputs,), (1,), (), (1, 1)) if num_groups == 1 else ()
    return (outputs, num_groups), *whole


def _group_size(parts: Parts, num_inputs: int, num_groups: int) -> int:
    if num_groups == 1:
        return num_inputs
    size = num_inputs // num_groups
    if num_inputs % num_groups or size % GROUP_SIZE:
        raise ModelError(
            f"weights: tensor {parts.name}.{SCALE} has {num_groups} groups of {num_inputs} inputs: "
            f"only groups of a multiple of {GROUP_SIZE} inputs are supported"
        )
    return size


def _spread(numbers: np.ndarray, first: int, last: int) -> np.ndarray:
    """(rows, groups) of numbers for each output or for the tensor."""
    if numbers.size == 1 or math.prod(numbers.shape[:1]) == 1:
        return np.broadcast_to(numbers.reshape(1, -1), (last - first, numbers.size))
    return numbers[first:last].reshape(last - first, -1)
