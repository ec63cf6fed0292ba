"""One step of a gated delta net (N16), bit for bit at every level: sizes that fill no vector, numbers of any size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.poison import poisoned
from parity.test_kernels import PARITY, SEEDS, numbers, same
from verbatim.reference.model import gated_delta as reference

fast = pytest.importorskip("verbatim.fastpath.model.gated_delta", reason="the fast path is not built")

pytestmark = pytest.mark.usefixtures("level")
SIZES = st.sampled_from([1, 3, 8, 20, 32, 61, 64, 72, 128, 130])


@PARITY
@given(SEEDS, st.integers(1, 5), SIZES)
def test_rows_of_length_1(seed, rows, size):
    x = numbers(seed, rows, 2, size, spread=8)
    with poisoned():
        found = fast.unit(x)
    same(found, reference.unit(x))


@PARITY
@given(SEEDS, st.sampled_from([(1, 1), (1, 2), (2, 6)]), SIZES, SIZES, st.sampled_from([0, 4]))
def test_a_token_decays_corrects_and_reads(seed, heads, key_dim, value_dim, spread):
    key_heads, value_heads = heads
    state = numbers(seed, value_heads, key_dim, value_dim, spread=spread)
    query, key = (numbers(seed + i, key_heads, key_dim) for i in (1, 2))
    value = numbers(seed + 3, value_heads, value_dim, spread=spread)
    decay, rate = np.random.default_rng(seed).random((2, value_heads), np.float32)
    with poisoned():
        found, after = fast.delta_step(state, query, key, value, decay, rate)
    expected, kept = reference.delta_step(state, query, key, value, decay, rate)
    same(found, expected)
    same(after, kept)
