"""Mirrored. What layers with a recurrent state have in common, over the C kernels: softplus (N7), a gated norm (N5).

The model calls the same kernels by pointer. reference/numerics/recurrence.py defines each function.
"""

import numpy as np

from verbatim.fastpath.machine.dispatch cimport address, table


def softplus(x):
    """log(1 + e^x)."""
    x = np.asarray(x, np.float32, order="C")
    y = np.empty(x.shape, np.float32)
    table().softplus(<const float *>address(x), x.size, <float *>address(y))
    return y


def gated_norm(x, gate, weight, float epsilon, *, num_groups=1, norms_first=False):
    """rms_norm of x * silu(gate) by groups of features, or with `norms_first` rms_norm of x, times silu(gate)."""
    x, gate = np.asarray(x, np.float32, order="C"), np.asarray(gate, np.float32, order="C")
    weight = None if weight is None else np.asarray(weight, np.float32, order="C")
    y = np.empty(x.shape, np.float32)
    y[...] = x
    *_, length = x.shape
    table().gated_norm(<float *>address(y), <const float *>address(gate),
                       NULL if weight is None else <const float *>address(weight), epsilon,
                       x.size // length, num_groups, length // num_groups, norms_first)
    return y
