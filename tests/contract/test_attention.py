"""Attention: softmax over what is visible, and bits that depend on absolute positions alone (N8)."""

import numpy as np
import pytest


def draw(tokens, heads, kv_heads, head_dim, keys, seed=0):
    random = np.random.default_rng(seed)
    shapes = (tokens, heads, head_dim), (keys, kv_heads, head_dim), (keys, kv_heads, head_dim)
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


def softmax_attention(queries, keys, values, positions, window=None, sinks=0, sink_scores=None, chunk=None):
    """The textbook's, in float64; a sink score is the score of a key whose value is 0."""
    shared_by = queries.shape[1] // keys.shape[1]
    keys, values = (np.repeat(x.astype(np.float64), shared_by, axis=1) for x in (keys, values))
    scores = np.einsum("thd,khd->thk", queries.astype(np.float64), keys) / np.sqrt(queries.shape[2])
    places, position = np.arange(len(keys)), positions[:, None, None] + np.zeros_like(scores)
    scores[places > position] = -np.inf
    scores[(places <= position - (window or len(keys))) & (places >= sinks)] = -np.inf
    if chunk:
        scores[places // chunk != position // chunk] = -np.inf
    if sink_scores is not None:
        column = np.broadcast_to(sink_scores.astype(np.float64)[None, :, None], (*scores.shape[:2], 1))
        scores, values = np.concatenate([scores, column], axis=2), np.concatenate([values, np.zeros_like(values[:1])])
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.einsum("thk,khd->thd", weights / weights.sum(axis=-1, keepdims=True), values)


@pytest.mark.parametrize("shape", [(1, 1, 1, 8, 1), (5, 4, 2, 16, 70), (3, 6, 1, 10, 129), (2, 3, 3, 40, 64)])
def test_it_is_causal_softmax_attention(part, shape):
    queries, keys, values = draw(*shape)
    positions = np.arange(len(keys) - len(queries), len(keys))
    found = part("model.attention").attention(queries, keys, values, positions)
    np.testing.assert_allclose(found, softmax_attention(queries, keys, values, positions), atol=2e-6)


def test_a_token_does_not_depend_on_its_chunk(part):
    attention = part("model.attention").attention
    queries, keys, values = draw(150, 4, 2, 24, 150)
    whole = attention(queries, keys, values, np.arange(150))
    for size in (1, 7, 64):
        for start in range(0, 150, size):
            stop = min(start + size, 150)
            piece = attention(queries[start:stop], keys[:stop], values[:stop], np.arange(start, stop))
            np.testing.assert_array_equal(piece.view(np.uint32), whole[start:stop].view(np.uint32))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_what_is_stored_narrower_is_what_it_widens_to(part, dtype):
    attention, numerics = part("model.attention").attention, part("numerics.arithmetic")
    queries, keys, values = draw(20, 6, 2, 24, 150)
    stored = [numerics.narrow(x, dtype) for x in (keys, values)]
    found = attention(queries, *stored, np.arange(130, 150))
    expected = attention(queries, *map(numerics.widen, stored), np.arange(130, 150))
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))
    assert (found != attention(queries, keys, values, np.arange(130, 150))).any()


def test_the_future_is_out_of_sight(part):
    attention = part("model.attention").attention
    queries, keys, values = draw(3, 2, 1, 16, 100)
    before = attention(queries, keys, values, np.array([10, 63, 64]))
    keys[65:], values[65:] = 100, 100
    keys[11], values[11] = 1, 1
    after = attention(queries, keys, values, np.array([10, 63, 64]))
    np.testing.assert_array_equal(before[0], after[0])
    assert (before[1] != after[1]).any()


@pytest.mark.parametrize(("window", "sinks"), [(20, 0), (20, 4), (100, 3), (30, 70), (1, 1), (70, 64)])
def test_a_window_and_its_sinks(part, window, sinks):
    queries, keys, values = draw(9, 4, 2, 16, 200)
    positions = np.array([0, 4, 21, 63, 64, 100, 140, 198, 199])
    found = part("model.attention").attention(queries, keys, values, positions, window=window, sinks=sinks)
    expected = softmax_attention(queries, keys, values, positions, window, sinks)
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("size", [0.5, 30.0])
@pytest.mark.parametrize(("window", "sinks"), [(None, 0), (20, 0), (20, 4)])
def test_sink_scores_take_a_share_of_the_weights(part, window, sinks, size):
    queries, keys, values = draw(9, 4, 2, 16, 200)
    scores = np.array([-1, 0, 0.1, 1], np.float32) * np.float32(size)
    positions = np.array([0, 4, 21, 63, 64, 100, 140, 198, 199])
    options = {"window": window, "sinks": sinks, "sink_scores": scores}
    found = part("model.attention").attention(queries, keys, values, positions, **options)
    np.testing.assert_allclose(found, softmax_attention(queries, keys, values, positions, **options), atol=2e-6)


@pytest.mark.parametrize("chunk", [1, 20, 64, 100, 500])
def test_within_chunks_a_token_attends_to_its_own_one(part, chunk):
    queries, keys, values = draw(9, 4, 2, 16, 200)
    positions = np.array([0, 4, 19, 20, 64, 100, 140, 198, 199])
    found = part("model.attention").attention(queries, keys, values, positions, chunk=chunk)
    expected = softmax_attention(queries, keys, values, positions, chunk=chunk)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_a_sink_score_is_merged_after_all_keys(part):
    """So its bits do not depend on blocks, pages or chunks: a token has them in whatever chunk it comes."""
    attention = part("model.attention").attention
    queries, keys, values = draw(150, 4, 2, 24, 150)
    scores = np.array([-40, -0.3, 2, 40], np.float32)
    whole = attention(queries, keys, values, np.arange(150), sink_scores=scores)
    for start in range(0, 150, 7):
        rows = np.arange(start, min(start + 7, 150))
        piece = attention(queries[rows], keys[: rows[-1] + 1], values[: rows[-1] + 1], rows, sink_scores=scores)
        np.testing.assert_array_equal(piece.view(np.uint32), whole[rows].view(np.uint32))
    without = attention(queries, keys, values, np.arange(150))
    lowest = attention(queries, keys, values, np.arange(150), sink_scores=np.full(4, -300, np.float32))
    np.testing.assert_array_equal(lowest.view(np.uint32), without.view(np.uint32))


def test_what_a_window_hides_may_be_anything(part):
    """Its pages are given back, so another sequence's keys may lie there, and what overflowed in them."""
    attention = part("model.attention").attention
    queries, keys, values = draw(2, 2, 1, 16, 200)
    options = {"window": 30, "sinks": 5}
    before = attention(queries, keys, values, np.array([150, 199]), **options)
    keys[5:121], values[5:121] = np.nan, np.nan
    after = attention(queries, keys, values, np.array([150, 199]), **options)
    np.testing.assert_array_equal(before.view(np.uint32), after.view(np.uint32))


def test_large_scores_do_not_overflow(part):
    queries, keys, values = draw(2, 1, 1, 16, 200)
    found = part("model.attention").attention(queries * 300, keys, values, np.array([150, 199]))
    assert np.isfinite(found).all()
    exact = softmax_attention(queries * np.float32(300), keys, values, np.array([150, 199]))
    np.testing.assert_allclose(found, exact, atol=1e-3)
