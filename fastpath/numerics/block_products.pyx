"""Mirrored. Products with integers in blocks of 256 over the C kernels, for arrays (N4b).

reference/numerics/block_products.py defines each function.
"""

import numpy as np

from verbatim.fastpath.machine.dispatch cimport address, table
from verbatim.fastpath.numerics.packed cimport Activations, PackedMatrix, multiply

from verbatim.fastpath.numerics.packed import FORMATS, pack_integers


cdef Activations _round(x, int format):
    rounded = Activations(x.shape[0], x.shape[1], format)
    table().quantize(<const float *>address(x), x.shape[0], x.shape[1], format, &rounded.c)
    return rounded


def quantize_rows(x, quantization):
    """Activations as integers for weights of that format: int16 or int8 (rows, groups, 32), and the blocks' scales."""
    cdef Activations rounded = _round(np.asarray(x, np.float32, order="C"), FORMATS[quantization])
    integers = rounded.integers
    if integers.dtype == np.int16:  # of each four inputs the kernels have 0, 2, 1, 3
        integers = integers.reshape(*integers.shape[:2], 8, 4)[..., [0, 2, 1, 3]].reshape(integers.shape)
    return integers, np.ascontiguousarray(rounded.scales[:, ::8])


def linear_blocks(x, weight):
    """x float32 (rows, inputs) times `weight`, a BlockedTensor, transposed: float32 (rows, outputs)."""
    cdef PackedMatrix packed = pack_integers(weight)
    x = np.asarray(x, np.float32, order="C")
    cdef Activations rounded = _round(x, packed.c.format)
    y = np.empty((len(x), packed.c.outputs), np.float32)
    multiply(&packed.c, <const float *>address(x), &rounded.c, len(x), <float *>address(y))
    return y
