"""Weights and activations in the order in which the kernels read them: sixteen outputs side by side (N3, N4).

Float weights stay as narrow as they are stored and are widened in the registers (N1).
"""

import numpy as np

from fastpath.dispatch cimport BFLOAT16, FLOAT16, FLOAT32, GROUP, PACK, W4A8, W8A8, address, table
from libc.stdint cimport int8_t, int32_t, uint16_t

from reference.quantization import to_stored

KINDS = {"F32": FLOAT32, "F16": FLOAT16, "BF16": BFLOAT16}


cdef class PackedMatrix:
    """A matrix (outputs, inputs) for the kernels, with its bias. Made by `pack_floats` or `pack_integers`."""

    cdef _set(self, weights, scales, bias, long outputs, long inputs, int kind):
        self.owners = weights, scales, bias
        self.c.weights = <const void *>address(weights)
        self.c.scales = NULL if scales is None else <const uint16_t *>address(scales)
        self.c.bias = NULL if bias is None else <const float *>address(bias)
        self.c.outputs, self.c.inputs, self.c.kind = outputs, inputs, kind
        return self

    def __call__(self, x):
        """The product of rows float32 (rows, inputs) with float weights, plus the bias (N3)."""
        if self.c.scales != NULL or x.dtype != np.float32 or x.ndim != 2 or x.shape[1] != self.c.inputs:
            raise ValueError(f"expected float weights, and float32 rows of {self.c.inputs}, not {x.dtype} {x.shape}")
        x, y = np.ascontiguousarray(x), np.empty((len(x), self.c.outputs), np.float32)
        if len(x):
            multiply(&self.c, <const float *>address(x), NULL, len(x), <float *>address(y))
        return y


def pack_floats(bits, dtype: str, bias=None) -> PackedMatrix:
    """Pack (outputs, inputs) float32, float16, or the bits of bfloat16; `dtype` as safetensors names it."""
    num_outputs, num_inputs = bits.shape
    packs = _in_packs(bits).transpose(0, 2, 1)  # (packs, inputs, 16)
    return PackedMatrix()._set(_aligned(packs), None, bias, num_outputs, num_inputs, KINDS[dtype])


def pack_integers(tensor, bias=None) -> PackedMatrix:
    """Pack a QuantizedTensor: integers int8 (outputs, groups, 32) and scales float16 (outputs, groups)."""
    num_outputs, num_groups, _ = tensor.integers.shape
    if tensor.format == "w4a8":  # as on disk: two to a byte, the second half of a group in the high halves
        kind, unsigned = W4A8, _in_packs(to_stored(tensor))
    else:
        kind, unsigned = W8A8, _in_packs(tensor.integers.view(np.uint8) ^ np.uint8(0x80))
    quads = unsigned.reshape(len(unsigned), PACK, num_groups, unsigned.shape[3] // 4, 4).transpose(0, 2, 3, 1, 4)
    scales = _in_packs(tensor.scales).transpose(0, 2, 1)
    return PackedMatrix()._set(_aligned(quads), _aligned(scales), bias, num_outputs, tensor.num_inputs, kind)


def _in_packs(rows):
    """(outputs, ...) to (packs, 16, ...), with zeros past the last output."""
    num_packs = (len(rows) + PACK - 1) // PACK
    padded = np.zeros((num_packs * PACK, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return padded.reshape(num_packs, PACK, *rows.shape[1:])


def _aligned(array):
    """A contiguous copy that begins at a cache line."""
    size = array.size * array.itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start : start + size].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


cdef class Activations:
    """Room for `rows` of `num_inputs` activations rounded to int8 (N4)."""

    def __init__(self, long rows, long num_inputs):
        num_groups = (num_inputs + GROUP - 1) // GROUP
        self.integers = np.empty((rows, num_groups, GROUP), np.int8)
        self.scales = np.empty((rows, num_groups), np.float32)
        self.corrections = np.empty((rows, num_groups), np.int32)
        self.c.integers = <int8_t *>address(self.integers)
        self.c.scales = <float *>address(self.scales)
        self.c.corrections = <int32_t *>address(self.corrections)


cdef void multiply(const matrix *w, const float *x, const quantized *rounded, long rows, float *y) noexcept nogil:
    """y = x wᵀ + bias, from x itself or, for quantised weights, from its integers, which the caller has made."""
    cdef long row
    if w.scales != NULL:
        table().linear_quantized(w, rounded, rows, y)
    else:
        table().linear(w, x, rows, y)
    if w.bias != NULL:
        for row in range(rows):
            table().add(y + row * w.outputs, w.bias, w.outputs, 1)
