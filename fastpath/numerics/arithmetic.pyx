"""Mirrored. The arithmetic of the numerics contract over the C kernels, for arrays (N1 to N7).

The model calls the same kernels by pointer. reference/numerics/arithmetic.py defines each function.
"""

import numpy as np

from verbatim.fastpath.machine.dispatch cimport (
    BFLOAT16, FLOAT16, FLOAT32, GELU_TANH, RELU2, SIGMOID, SILU, W8A8, address, quantized, table,
)
from verbatim.fastpath.numerics.packed cimport Activations, PackedMatrix, multiply

from verbatim.fastpath.numerics.packed import pack_floats, pack_integers
from verbatim.reference.records.limits import KV_CACHE_DTYPES

LN2 = np.float32(0.6931471805599453)


def _float32(x):
    return np.asarray(x, np.float32, order="C")


cpdef int kernel_dtype(stored) except -1:
    """The kernels' code for an array's dtype; uint16 holds bfloat16."""
    return {np.dtype(np.float32): FLOAT32, np.dtype(np.float16): FLOAT16, np.dtype(np.uint16): BFLOAT16}[stored.dtype]


def narrow(x, str dtype):
    """Round x float32 to nearest-even in a dtype: float32, float16, or bfloat16, whose bits are uint16 (N1)."""
    x = _float32(x)
    stored = np.empty(x.shape, KV_CACHE_DTYPES[dtype])
    table().narrow(<const float *>address(x), x.size, kernel_dtype(stored), <void *>address(stored), 1)
    return stored


def widen(stored):
    """Convert what `narrow` returned to float32, exactly (N1)."""
    stored = np.asarray(stored, order="C")
    y = np.empty(stored.shape, np.float32)
    table().widen(<const void *>address(stored), y.size, kernel_dtype(stored), <float *>address(y))
    return y


def lane_sum(x):
    """Sum over the last axis (N2)."""
    x = _float32(x)
    *outer, length = x.shape
    rows = x.reshape(-1, length)
    sums = np.empty(len(rows), np.float32)
    for i in range(len(rows)):
        sums[i] = table().lane_sum(<const float *>address(rows[i]), length)
    return sums.reshape(outer)[()]


def linear(x, weight):
    """x (rows, inputs) times weight (outputs, inputs) transposed, float32 (N3)."""
    return _multiply(_float32(x), pack_floats(_float32(weight), "F32"))


def linear_stored(x, tensor):
    """x times a stored Tensor transposed; bfloat16 and float16 are widened to float32 (N1, N3)."""
    return _multiply(_float32(x), pack_floats(tensor.bits, tensor.dtype))


cdef _multiply(x, PackedMatrix weight, Activations rounded=None):
    y = np.empty((len(x), weight.c.outputs), np.float32)
    cdef const quantized *integers = NULL if rounded is None else &rounded.c
    multiply(&weight.c, <const float *>address(x), integers, len(x), <float *>address(y))
    return y


cdef Activations _round(x):
    rounded = Activations(x.shape[0], x.shape[1])
    table().quantize(<const float *>address(x), x.shape[0], x.shape[1], W8A8, &rounded.c)
    return rounded


def quantize_activations(x):
    """Round rows to int8 in groups of 32: integers (rows, groups, 32) and float32 scales (rows, groups) (N4)."""
    cdef Activations rounded = _round(_float32(x))
    return rounded.integers, rounded.scales


def linear_quantized(x, weight):
    """The product of int8 activations and `weight`, a QuantizedTensor (N4)."""
    x = _float32(x)
    return _multiply(x, pack_integers(weight), _round(x))


def linear_superblocks(x, weight):
    """The same for scales that are integers times one number a block of 256 (N4g)."""
    return _multiply(x, pack_integers(weight), _round(x))


def rms_norm(x, weight, float epsilon):
    """x * (1 / sqrt(mean(x²) + epsilon)) * weight over the last axis (N5)."""
    x, weight = _float32(x), _float32(weight)
    y = np.empty(x.shape, np.float32)
    table().rms_norm(<const float *>address(x), <const float *>address(weight), epsilon, x.size // len(weight),
                     len(weight), <float *>address(y))
    return y


def layer_norm(x, weight, bias, float epsilon):
    """c * (1 / sqrt(mean(c²) + epsilon)) * weight + bias, c = x - mean(x), over the last axis (N5)."""
    x, weight = _float32(x), _float32(weight)
    y, added = np.empty(x.shape, np.float32), None if bias is None else _float32(bias)
    table().layer_norm(<const float *>address(x), <const float *>address(weight),
                       NULL if added is None else <const float *>address(added), epsilon, x.size // len(weight),
                       len(weight), <float *>address(y))
    return y


def rotate(x, cosines, sines):
    """Rotate x (tokens, heads, head_dim) by cosines and sines (tokens, half) of each token's position (N6)."""
    y, cosines, sines = np.empty(x.shape, np.float32), _float32(cosines), _float32(sines)
    y[...] = x
    for token in range(len(y)):
        table().rotate(<float *>address(y[token]), y.shape[1], y.shape[2], cosines.shape[1],
                       <const float *>address(cosines[token]), <const float *>address(sines[token]))
    return y


def exp2(x):
    """2^x (N7)."""
    x = _float32(x)
    y = np.empty(x.shape, np.float32)
    table().exp2(<const float *>address(x), x.size, <float *>address(y))
    return y


def log2(x):
    """log2 of positive normal numbers (N7)."""
    x = _float32(x)
    y = np.empty(x.shape, np.float32)
    table().log2(<const float *>address(x), x.size, <float *>address(y))
    return y


def silu(x):
    """x / (1 + 2^(-x * log2(e))) (N7)."""
    return _activate(_float32(x), SILU)


def sigmoid(x):
    """1 / (1 + 2^(-x * log2(e))) (N7)."""
    return _activate(_float32(x), SIGMOID)


def gelu_tanh(x):
    """x / 2 * (1 + tanh(sqrt(2/π) * (x + 0.044715 x³))) (N7)."""
    return _activate(_float32(x), GELU_TANH)


def relu2(x):
    """The square of what is above 0 (N7)."""
    return _activate(_float32(x), RELU2)


def clamped_gate(gate, up, alpha, limit):
    """(up + 1) * (gate * sigmoid(gate * alpha)), gate clamped to at most `limit`, up to -limit and limit (N9a)."""
    y, up = np.empty(gate.shape, np.float32), _float32(up)
    y[...] = gate
    table().clamped_gate(<float *>address(y), <const float *>address(up), y.size, alpha, limit)
    return y


def tanh(x):
    """1 - 2 / (1 + 2^(x * 2 log2(e))) (N7)."""
    y = np.empty(np.shape(x), np.float32)
    y[...] = x
    table().softcap(<float *>address(y), y.size, 1, 1)
    return y


def _activate(x, int activation):
    y = np.empty(x.shape, np.float32)
    table().activate(<const float *>address(x), x.size, activation, <float *>address(y))
    return y
