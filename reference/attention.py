"""Mirrored. Attention over cached keys, block by block of absolute position, merged by powers of two (N8).

A block's result depends on its own 64 positions only, and the merge rescales by exact powers of two in order of
position. So it does not matter where a key came from (this chunk, an earlier one, another request's prefix), nor
how the blocks are spread over threads: the bits are the same. (The running maximum is FlashAttention's,
https://arxiv.org/abs/2205.14135; rounding it up to a whole number is what makes rescaling exact.)
"""

import numpy as np

from reference.numerics import exp2, lane_sum

KEY_BLOCK = 64


def attention(queries: np.ndarray, keys: np.ndarray, values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Causal attention of some tokens of one sequence over its keys at positions 0 to num_keys - 1.

    queries (tokens, heads, head_dim), keys and values (num_keys, kv_heads, head_dim), positions (tokens,) with every
    position below num_keys. Heads share key-value heads in equal runs. Returns (tokens, heads, head_dim).
    """
    num_tokens, num_heads, head_dim = queries.shape
    queries = queries * query_scale(head_dim)
    shared_by = num_heads // keys.shape[1]
    peak = np.zeros((num_tokens, num_heads), np.float32)
    weight = np.zeros((num_tokens, num_heads), np.float32)
    total = np.zeros_like(queries)
    for start in range(0, len(keys), KEY_BLOCK):
        block_keys = np.repeat(keys[start : start + KEY_BLOCK], shared_by, axis=1)  # (block, heads, head_dim)
        block_values = np.repeat(values[start : start + KEY_BLOCK], shared_by, axis=1)
        is_visible = start + np.arange(len(block_keys)) <= positions[:, None]  # (tokens, block)
        block_peak, block_weight, block_total = _block(queries, block_keys, block_values, is_visible)
        peak, weight, total = _merge(
            (peak, weight, total),
            (block_peak, block_weight, block_total),
            is_first=start == 0,
            has_visible=is_visible.any(axis=1)[:, None],
        )
    return total / weight[..., None]


def query_scale(head_dim: int) -> np.float32:
    """log2(e) / sqrt(head_dim): scores come out as exponents of two."""
    return np.float32(np.float64(1.4426950408889634) / np.sqrt(np.float64(head_dim)))


def _block(queries, keys, values, is_visible):
    """One block of keys: the whole number above its largest score, the sum of weights, the weighted sum of values."""
    scores = np.zeros((*queries.shape[:2], len(keys)), np.float32)  # (tokens, heads, block)
    for d in range(queries.shape[2]):
        scores = scores + queries[:, :, d, None] * keys[:, :, d].T[None]
    is_visible = is_visible[:, None, :]
    highest = np.where(is_visible, scores, np.float32(-np.inf)).max(axis=-1)
    peak = np.where(is_visible.any(axis=-1), np.ceil(highest), np.float32(0))
    weights = np.where(is_visible, exp2(np.where(is_visible, scores - peak[..., None], np.float32(0))), np.float32(0))
    total = np.zeros_like(queries)
    for j in range(len(keys)):
        seen = weights[:, :, j, None] * values[None, j]
        total = total + np.where(is_visible[:, :, j, None], seen, np.float32(0))  # 0 times infinity is no number
    return peak, lane_sum(weights), total


def _merge(past, block, is_first, has_visible):
    """Bring both sides to the larger peak and add. A block without a visible key leaves the past as it is."""
    if is_first:  # position 0 is visible to every token
        return block
    peak = np.maximum(past[0], block[0])
    keep, take = exp2(past[0] - peak), exp2(block[0] - peak)
    weight = past[1] * keep + block[1] * take
    total = past[2] * keep[..., None] + block[2] * take[..., None]
    return (
        np.where(has_visible, peak, past[0]),
        np.where(has_visible, weight, past[1]),
        np.where(has_visible[..., None], total, past[2]),
    )
