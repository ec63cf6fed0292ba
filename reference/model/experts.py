"""Mirrored. A mixture of experts: each token is computed by the few experts with the highest router scores (N9).

(Mixtral, https://arxiv.org/abs/2401.04088. The sparsemixer of Phi 3.5 MoE: https://arxiv.org/abs/2310.00811.)
"""

import numpy as np

from verbatim.reference.numerics.arithmetic import LOG2E, exp2, lane_sum
from verbatim.reference.records.config import Experts


def mix(x: np.ndarray, scores: np.ndarray, experts: list, settings: Experts) -> np.ndarray:
    """The weighted sum of the chosen experts' outputs, added in ascending id from +0.

    x (tokens, hidden), scores (tokens, experts) of the router; each expert maps (rows, hidden) to (rows, hidden).
    """
    weights = expert_weights(scores, settings)
    total = np.zeros_like(x)
    for index, expert in enumerate(experts):
        rows = np.flatnonzero(weights[:, index])
        if len(rows):
            total[rows] = total[rows] + expert(x[rows]) * weights[rows, index, None]
    return total


def expert_weights(scores: np.ndarray, settings: Experts) -> np.ndarray:
    """Softmax of the scores for the best experts (ties to the lower id), 0 for the others."""
    if settings.routing == "sparsemixer":
        return sparsemixer_weights(scores, settings)
    exponents = (scores - scores.max(axis=-1, keepdims=True)) * LOG2E
    shares = exp2(exponents)
    order = np.argsort(-scores, axis=-1, kind="stable")[:, : settings.num_per_token]
    is_chosen = np.zeros(scores.shape, bool)
    np.put_along_axis(is_chosen, order, True, axis=-1)
    chosen = np.where(is_chosen, shares, np.float32(0))
    return chosen / lane_sum(chosen if settings.is_normalized else shares)[:, None]


def sparsemixer_weights(scores: np.ndarray, settings: Experts) -> np.ndarray:
    """Each chosen expert's weight is its share among scores near its own, without the experts chosen before it."""
    weights = np.zeros_like(scores)
    is_left = np.ones(scores.shape, bool)
    rows = np.arange(len(scores))
    for _ in range(settings.num_per_token):
        best = np.where(is_left, scores, np.float32(-np.inf)).argmax(axis=-1)
        peak = scores[rows, best][:, None]
        with np.errstate(invalid="ignore"):  # 0 / 0 for scores of 0, which are near each other
            is_far = (peak - scores) / np.maximum(np.abs(scores), peak) > np.float32(settings.tolerance)
        exponents = np.where(is_left & ~is_far, (scores - peak) * LOG2E, np.float32(-np.inf))
        shares = exp2(exponents)
        weights[rows, best] = shares[rows, best] / lane_sum(shares)
        is_left[rows, best] = False
    return weights
