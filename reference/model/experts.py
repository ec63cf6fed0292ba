"""Mirrored. A mixture of experts: each token is computed by the few experts with the highest router scores (N9).

(Mixtral, https://arxiv.org/abs/2401.04088.)
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
    exponents = (scores - scores.max(axis=-1, keepdims=True)) * LOG2E
    shares = exp2(exponents)
    order = np.argsort(-scores, axis=-1, kind="stable")[:, : settings.num_per_token]
    is_chosen = np.zeros(scores.shape, bool)
    np.put_along_axis(is_chosen, order, True, axis=-1)
    chosen = np.where(is_chosen, shares, np.float32(0))
    return chosen / lane_sum(chosen if settings.is_normalized else shares)[:, None]
