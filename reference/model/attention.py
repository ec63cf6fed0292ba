"""Mirrored. Attention over cached keys, block by block of absolute position, merged by powers of two (N8).

A block's result depends on its own 64 positions only, and the merge rescales by exact powers of two in order of
position. So the bits do not depend on where a key came from (this chunk, an earlier one, another request's prefix), nor
on how the blocks are divided among threads. (The running maximum is FlashAttention's,
https://arxiv.org/abs/2205.14135; rounding it up to a whole number makes rescaling exact.)
"""

import numpy as np

from verbatim.reference.numerics.arithmetic import exp2, lane_sum, tanh, widen

KEY_BLOCK = 64
LOG2E = 1.4426950408889634


def attention(
    queries: np.ndarray, keys: np.ndarray, values: np.ndarray, positions: np.ndarray, *,
    scale: float | None = None, cap: float | None = None, window: int | None = None, sinks: int = 0,
    chunk: int | None = None, sink_scores: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Causal attention of some tokens of one sequence over its keys at positions 0 to num_keys - 1.

    queries (tokens, heads, head_dim), keys and values (num_keys, kv_heads, head_dim) as they are stored, positions
    (tokens,) with every position below num_keys. Values may be latents, which are the last part of their keys (N8a),
    (num_keys, 1, rank). Each key-value head serves an equal run of heads. `scale` is
    1 / sqrt(head_dim) by default, `cap` is the softcap of scores, `window` is the number of keys that a token attends
    to, its own included; every token attends to the first `sinks` keys. With a `chunk` of so many positions a token
    attends to those of its own chunk only. `sink_scores` float32 (heads,) are scores that take part in the softmax
    without a value. Returns (tokens, heads, features of a value).
    """
    _, num_heads, head_dim = queries.shape
    keys, values = widen(keys), widen(values)
    queries = queries * query_scale(head_dim, scale, cap)
    shared_by = num_heads // keys.shape[1]
    state: tuple | None = None
    for start in range(0, len(keys), KEY_BLOCK):
        block_keys = np.repeat(keys[start : start + KEY_BLOCK], shared_by, axis=1)  # (block, heads, head_dim)
        block_values = np.repeat(values[start : start + KEY_BLOCK], shared_by, axis=1)
        places = start + np.arange(len(block_keys))
        distances = positions[:, None] - places  # (tokens, block)
        is_visible = (distances >= 0) & ((distances < (window or len(keys))) | (places < sinks))
        if chunk:
            is_visible &= positions[:, None] // chunk == places // chunk
        block = _block(queries, block_keys, block_values, is_visible, cap)
        state = _merge(state, block, np.any(is_visible, axis=1, keepdims=True))
    assert state is not None, "there are no keys"
    _, weight, total = state if sink_scores is None else _merge_sinks(state, sink_scores * np.float32(LOG2E))
    return total / weight[..., None]


def query_scale(head_dim: int, scale: float | None = None, cap: float | None = None) -> np.float32:
    """log2(e) times the scale, so that scores are exponents of two; with a cap, the cap applies log2(e) instead."""
    factor = np.float64(1 if cap else LOG2E)
    return np.float32(factor / np.sqrt(np.float64(head_dim)) if scale is None else factor * np.float64(scale))


def softcap(x: np.ndarray, cap: float | None, factor: float = 1.0) -> np.ndarray:
    """cap * factor * tanh(x / cap); x without a cap."""
    return x if not cap else np.float32(cap * factor) * tanh(x / np.float32(cap))


def _block(queries, keys, values, is_visible, cap):
    """One block of keys: its largest score rounded up, the sum of weights, the weighted sum of values."""
    scores = np.zeros((*queries.shape[:2], len(keys)), np.float32)  # (tokens, heads, block)
    for d in range(queries.shape[2]):
        scores = scores + queries[:, :, d, None] * keys[:, :, d].T[None]
    scores = softcap(scores, cap, LOG2E)
    is_visible = is_visible[:, None, :]
    highest = np.where(is_visible, scores, np.float32(-np.inf)).max(axis=-1)
    peak = np.where(is_visible.any(axis=-1), np.ceil(highest), np.float32(0))
    weights = np.where(is_visible, exp2(np.where(is_visible, scores - peak[..., None], np.float32(0))), np.float32(0))
    total = np.zeros((*queries.shape[:2], values.shape[2]), np.float32)
    for j in range(len(keys)):
        weighted = weights[:, :, j, None] * values[None, j]
        total = total + np.where(is_visible[:, :, j, None], weighted, np.float32(0))  # 0 times infinity is NaN
    return peak, lane_sum(weights), total


def _merge(past, block, has_visible):
    """Rescale both sides to the larger peak and add. A block without a visible key, on either side, changes nothing."""
    if past is None:
        return block
    is_first = past[1] == 0  # nothing was visible yet
    peak = np.where(is_first, block[0], np.where(has_visible, np.maximum(past[0], block[0]), past[0]))
    keep = np.where(is_first, np.float32(0), exp2(past[0] - peak))
    take = np.where(has_visible, exp2(np.minimum(block[0] - peak, np.float32(0))), np.float32(0))
    weight = past[1] * keep + block[1] * take
    return peak, weight, past[2] * keep[..., None] + block[2] * take[..., None]


def _merge_sinks(past, scores):
    """Merge each head's sink score, a power of two, as the last block: it has a weight and no value."""
    block_peak = np.ceil(scores)  # (heads,)
    peak = np.maximum(past[0], block_peak)
    keep, take = exp2(past[0] - peak), exp2(block_peak - peak)
    return peak, past[1] * keep + exp2(scores - block_peak) * take, past[2] * keep[..., None]
