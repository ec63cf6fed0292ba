"""Mirrored. A mixture of experts: each token is computed by the few experts with the highest router scores (N9).

(Mixtral, https://arxiv.org/abs/2401.04088. The sparsemixer of Phi 3.5 MoE: https://arxiv.org/abs/2310.00811. Groups of
experts and a bias in their choice: DeepSeek V3, https://arxiv.org/abs/2412.19437.)
"""

import numpy as np

from verbatim.reference.numerics.arithmetic import LOG2E, exp2, lane_sum, sigmoid
from verbatim.reference.records.experts import Experts


def mix(
    x: np.ndarray, scores: np.ndarray, experts: list, settings: Experts, score_bias: np.ndarray | None = None,
    factors: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """The weighted sum of the chosen experts' outputs, or that of weighted inputs, added in ascending id from +0.

    x (tokens, hidden), scores (tokens, experts) of the router; each expert maps (rows, hidden) to (rows, hidden).
    `score_bias` (experts,) takes part in the choice alone, `factors` (experts,) multiply the weights.
    """
    weights = expert_weights(scores, settings, score_bias)
    weights = weights if factors is None else weights * factors
    total = np.zeros_like(x)
    for index, expert in enumerate(experts):
        rows = np.flatnonzero(weights[:, index])
        if len(rows) and settings.routing == "input":
            total[rows] = total[rows] + expert(x[rows] * weights[rows, index, None])
        elif len(rows):
            total[rows] = total[rows] + expert(x[rows]) * weights[rows, index, None]
    return total


def expert_weights(scores: np.ndarray, settings: Experts, score_bias: np.ndarray | None = None) -> np.ndarray:
    """Softmax of the scores for the best experts (ties to the lower id), 0 for the others; or their sigmoids."""
    if settings.routing == "sparsemixer":
        return sparsemixer_weights(scores, settings)
    if settings.routing in ("sigmoid", "input"):
        return sigmoid_weights(scores, settings, score_bias)
    exponents = (scores - scores.max(axis=-1, keepdims=True)) * LOG2E
    shares = exp2(exponents)
    choice = scores if score_bias is None else shares / lane_sum(shares)[:, None] + score_bias.reshape(-1)
    groups = choice.reshape(len(scores), settings.num_groups, -1)
    chosen = np.where(_chosen(choice, groups.max(axis=-1), settings), shares, np.float32(0))
    total = lane_sum(chosen if settings.is_normalized else shares)
    weights = chosen / (total if score_bias is None else total + np.float32(settings.least_sum))[:, None]
    return weights if settings.scale == 1 else weights * np.float32(settings.scale)


def sigmoid_weights(scores: np.ndarray, settings: Experts, score_bias: np.ndarray | None) -> np.ndarray:
    """Sigmoids for the experts with the largest sums of sigmoid and bias, without one scores; 0 for the others."""
    shares = sigmoid(scores)
    choice = scores if score_bias is None else shares + score_bias
    groups = np.sort(choice.reshape(len(scores), settings.num_groups, -1), axis=-1)
    group_scores = groups[..., -1] + groups[..., -2] if groups.shape[-1] > 1 else groups[..., -1]
    weights = np.where(_chosen(choice, group_scores, settings), shares, np.float32(0))
    if settings.is_normalized:
        weights = weights / (lane_sum(weights) + np.float32(settings.least_sum))[:, None]
    return weights if settings.scale == 1 else weights * np.float32(settings.scale)


def _chosen(scores: np.ndarray, group_scores: np.ndarray, settings: Experts) -> np.ndarray:
    """Which experts (tokens, experts) have the largest scores within the groups with the largest group scores."""
    is_in_group = _best(group_scores, settings.num_groups_per_token)
    is_left = np.repeat(is_in_group, scores.shape[1] // settings.num_groups, axis=1)
    return _best(np.where(is_left, scores, np.float32(-np.inf)), settings.num_per_token)


def _best(scores: np.ndarray, count: int) -> np.ndarray:
    """Which entries of each row are the `count` largest; ties to the lower index."""
    order = np.argsort(-scores, axis=-1, kind="stable")[:, :count]
    is_best = np.zeros(scores.shape, bool)
    np.put_along_axis(is_best, order, True, axis=-1)
    return is_best


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
