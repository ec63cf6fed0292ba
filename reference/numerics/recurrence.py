"""Mirrored. What layers with a recurrent state have in common: softplus (N7) and a gated norm (N5)."""

import numpy as np

from verbatim.reference.numerics.arithmetic import LN2, LOG2E, exp2, log2, rms_norm, silu


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + e^x) as max(x, 0) + log(1 + y) with y = 2^(-|x| log2(e)) (N7).

    log(1 + y) is (ln2 * log2(u)) * (y / (u - 1)) with u = 1 + y, or y where u is 1: what u lost by rounding comes back.
    """
    y = exp2(-np.abs(x) * LOG2E)
    u = np.float32(1) + y
    above = u - np.float32(1)
    is_small = above == 0
    logarithm = (LN2 * log2(u)) * (y / np.where(is_small, np.float32(1), above))
    return np.maximum(x, np.float32(0)) + np.where(is_small, y, logarithm)


def gated_norm(
    x: np.ndarray, gate: np.ndarray, weight: np.ndarray | None, epsilon: float, *, num_groups: int = 1,
    norms_first: bool = False,
) -> np.ndarray:  # fmt: skip
    """rms_norm of x * silu(gate), or with `norms_first` rms_norm of x, times silu(gate) (N5).

    x and gate (..., features). Each of `num_groups` equal groups of features is normed by itself; weight (features,).
    Without a weight nothing is normed.
    """
    gates = silu(gate)
    if weight is None:
        return x * gates
    rows = x if norms_first else x * gates
    groups = rows.reshape(*x.shape[:-1], num_groups, -1)
    normed = rms_norm(groups, weight.reshape(num_groups, -1), epsilon).reshape(x.shape)
    return normed * gates if norms_first else normed
