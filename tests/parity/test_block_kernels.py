"""Products with integers in blocks of 256 equal the reference's, bit for bit, at every level (N4b)."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.poison import poisoned
from verbatim.reference.numerics import block_products as reference_products
from verbatim.reference.numerics.block_weights import quantize_blocks
from verbatim.reference.numerics.quantization import BLOCKED_FORMATS

products = pytest.importorskip("verbatim.fastpath.numerics.block_products", reason="the fast path is not built")

pytestmark = pytest.mark.usefixtures("level")
PARITY = settings(deadline=None, max_examples=60, print_blob=True)
SEEDS = st.integers(0, 2**32 - 1)
ROWS = st.one_of(st.integers(1, 11), st.sampled_from([16, 17, 33, 70]))
SIZES = st.one_of(st.integers(1, 80), st.integers(200, 600))
SPREADS = st.sampled_from([0, 1, 8, 30, 100])
SPECIAL = np.array([0.0, -0.0, 1e-45, -1e-39, 1.0, -1.0, 2.0**-100, 2.0**-101, 3.4e38, -3.4e38], np.float32)


def numbers(seed, *shape, spread=1, specials=0.02):
    random = np.random.default_rng([seed, *shape])
    values = random.standard_normal(shape) * np.exp2(random.integers(-spread, spread + 1, shape).astype(float))
    return np.where(random.random(shape) < specials, random.choice(SPECIAL, shape), values.astype(np.float32))


def same(found, expected):
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    is_number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), ~is_number)
    found, expected = found[is_number], expected[is_number]
    np.testing.assert_array_equal(found.view(np.uint8), expected.view(np.uint8))


def check(x, weight):
    with np.errstate(all="ignore"):
        expected = reference_products.linear_blocks(x, weight)
    with poisoned():
        found = products.linear_blocks(x, weight)
    same(found, expected)


@PARITY
@given(SEEDS, ROWS, SIZES, SPREADS, st.sampled_from(BLOCKED_FORMATS), st.sampled_from([0, 0.02]))
def test_quantize_rows(seed, rows, inputs, spread, quantization, specials):
    x = numbers(seed, rows, inputs, spread=spread, specials=specials)
    if seed % 3 == 0:
        x[0, seed % inputs] = [np.nan, np.inf, -np.inf][seed % 9 // 3]
    with np.errstate(all="ignore"):
        expected = reference_products.quantize_rows(x, quantization)
    with poisoned():
        found = products.quantize_rows(x, quantization)
    for mine, theirs in zip(found, expected, strict=True):
        same(mine, theirs)


@PARITY
@given(SEEDS, ROWS, SIZES, SIZES, SPREADS, st.sampled_from(BLOCKED_FORMATS), st.sampled_from([0, 0.02]))
def test_linear_blocks(seed, rows, inputs, outputs, spread, quantization, specials):
    weight = quantize_blocks(numbers(seed, outputs, inputs, spread=min(spread, 8), specials=specials), quantization)
    check(numbers(seed + 1, rows, inputs, spread=spread, specials=specials), weight)


@pytest.mark.parametrize("quantization", BLOCKED_FORMATS)
@pytest.mark.parametrize("rows", [1, 3, 20, 300])
def test_many_inputs(quantization, rows):
    """Several stretches of a strip, the last of them short."""
    check(numbers(1, rows, 2900, specials=0), quantize_blocks(numbers(2, 100, 2900, specials=0), quantization))


@pytest.mark.parametrize("quantization", BLOCKED_FORMATS)
def test_the_largest_sums(quantization):
    """Equal numbers, whose sums come nearest to 2^31, and integers at both ends."""
    for sign in (1, -1):
        check(
            np.full((9, 520), sign * 0.7, np.float32),
            quantize_blocks(np.full((70, 520), 1.3, np.float32), quantization),
        )
    weight = quantize_blocks(numbers(3, 70, 520, specials=0), quantization)
    if quantization != "w16a16":
        for end in (weight.integers.min(), weight.integers.max()):
            check(np.ones((9, 520), np.float32), replace(weight, integers=np.full_like(weight.integers, end)))
