"""Integers in blocks of 256 (N4b): how they are chosen, and that a product is exact sums and one float step a block."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verbatim.reference.numerics.block_weights import quantize_blocks
from verbatim.reference.numerics.quantization import BLOCKED_FORMATS

F = np.float32
SEEDS = st.integers(0, 2**32 - 1)
BOUNDS = {"w16a16": 32512, "w8a16": 127, "w4a16": 120, "w8a8-256": 127, "w4a8-256": 120}
EXTREME = np.array([0, -0.0, 1e-45, -1e-45, 2.0**-100, 2.0**-101, 1, -1, 3.4e38, -3.4e38], F)


def normal(seed, *shape, spread=0):
    random = np.random.default_rng([seed, *shape])
    return (random.standard_normal(shape) * np.exp2(random.integers(-spread, spread + 1, shape).astype(float))).astype(
        F
    )


def same(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found.view(np.uint8), expected.view(np.uint8))


def widened(tensor):
    """The weights that a tensor stands for, float64."""
    scales = np.repeat(tensor.scales.astype(np.float64), 256, axis=1)
    factors = tensor.factors().astype(np.float64)
    return (factors * scales[:, : factors.shape[1]])[:, : tensor.num_inputs]


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.integers(1, 5), st.integers(1, 600), st.integers(1, 9), st.sampled_from(BLOCKED_FORMATS))
def test_a_product_is_an_exact_sum_and_one_float_step_a_block(part, seed, rows, inputs, outputs, quantization):
    products, x = part("numerics.block_products"), normal(seed, rows, inputs, spread=4)
    weight = quantize_blocks(normal(seed + 1, outputs, inputs, spread=2), quantization)
    integers, scales = products.quantize_rows(x, quantization)
    integers, factors = integers.reshape(rows, -1).astype(np.int64), weight.factors().astype(np.int64)
    total = np.zeros((rows, outputs), F)
    for index in range(-(-inputs // 256)):
        block = slice(index * 256, index * 256 + 256)
        dots = integers[:, block] @ factors[:, block].T
        assert np.abs(dots).max() < 2**31
        total = total + dots.astype(np.int32).astype(F) * (scales[:, index, None] * weight.scales[None, :, index])
    same(products.linear_blocks(x, weight), total)


@pytest.mark.parametrize("quantization", BLOCKED_FORMATS)
def test_a_row_does_not_depend_on_its_neighbours(part, quantization):
    products, x, weight = part("numerics.block_products"), normal(1, 19, 300), normal(2, 70, 300)
    tensor = quantize_blocks(weight, quantization)
    whole, half = products.linear_blocks(x, tensor), quantize_blocks(weight[:31], quantization)
    for row in range(19):
        same(products.linear_blocks(x[row : row + 1], tensor)[0], whole[row])
    same(products.linear_blocks(x, half), whole[:, :31])


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.integers(1, 300), st.sampled_from(BLOCKED_FORMATS), st.sampled_from([0, 1, 8, 60]))
def test_integers_stay_within_their_bounds_and_scales_depend_on_the_block_alone(
    part, seed, inputs, quantization, spread
):
    x = normal(seed, 3, inputs, spread=spread)
    integers, scales = part("numerics.block_products").quantize_rows(x, quantization)
    assert integers.shape == (3, -(-inputs // 32), 32) and scales.shape == (3, -(-inputs // 256))
    flat = integers.reshape(3, -1).astype(np.int64)
    bound = 32512 if quantization.endswith("a16") else 127
    assert np.abs(flat).max() <= bound and not flat[:, inputs:].any()
    for index in range(scales.shape[1]):
        block = slice(index * 256, index * 256 + 256)
        assert (flat[:, block] ** 2).sum(axis=1).max() <= 46340**2
        given = x[:, block].astype(np.float64)
        error = np.abs(flat[:, block][:, : given.shape[1]] * scales[:, index, None].astype(np.float64) - given)
        assert (error <= scales[:, index, None] * (0.5 + 1e-2)).all()
    alone = part("numerics.block_products").quantize_rows(x[:, :256], quantization)
    same(scales[:, :1].copy(), alone[1])


@pytest.mark.parametrize("quantization", BLOCKED_FORMATS)
def test_the_root_of_a_sum_of_squares_bounds_equal_numbers(part, quantization):
    """256 equal numbers have the largest norm of all blocks; their product is the largest sum."""
    products, x = part("numerics.block_products"), np.full((2, 256), -3, F)
    x[1] = 7e37
    weight = quantize_blocks(np.full((3, 256), 5, F), quantization)
    integers, _ = products.quantize_rows(x, quantization)
    assert np.abs(integers.astype(np.int64)).max() == (2896 if quantization.endswith("a16") else 127)
    assert np.abs(weight.factors().astype(np.int64)).max() <= BOUNDS[quantization]
    found = products.linear_blocks(x[:1], weight)
    np.testing.assert_allclose(found, -3 * 5 * 256, rtol=1e-3)


@pytest.mark.parametrize("quantization", BLOCKED_FORMATS)
def test_extreme_numbers(part, quantization):
    products = part("numerics.block_products")
    for value in EXTREME:
        for other in EXTREME:
            x = np.zeros((1, 300), F)
            x[0, 7], x[0, 290] = value, other
            integers, scales = products.quantize_rows(x, quantization)
            assert np.isfinite(scales).all()
            assert not (np.abs(value) < 2.0**-100 and integers[0, :8].any()), "a block below 2^-100 is zero"
    zero = products.linear_blocks(np.full((1, 300), -0.0, F), quantize_blocks(normal(1, 4, 300), quantization))
    same(zero, np.zeros((1, 4), F))
    tiny = products.linear_blocks(
        np.full((1, 300), 1e-30, F), quantize_blocks(np.full((4, 300), -1e-30, F), quantization)
    )
    same(tiny, np.zeros((1, 4), F))


@pytest.mark.parametrize("quantization", BLOCKED_FORMATS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_spoils_its_own_row_only(part, quantization, value):
    products, x, weight = part("numerics.block_products"), normal(1, 3, 300), normal(2, 5, 300)
    tensor = quantize_blocks(weight, quantization)
    expected = products.linear_blocks(x, tensor)
    x[1, 280] = value
    found = products.linear_blocks(x, tensor)
    assert np.isnan(found[1]).all()
    same(found[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_stored_in_16_bits_mostly_keep_their_value(dtype):
    from verbatim.reference.numerics.arithmetic import narrow, widen

    weight = widen(narrow(normal(5, 40, 512, spread=0), dtype))
    tensor = quantize_blocks(weight, "w16a16")
    assert np.exp2(np.round(np.log2(tensor.scales))).astype(F).tobytes() == tensor.scales.tobytes(), "powers of two"
    kept = (widened(tensor) == weight).mean()
    assert kept > (0.95 if dtype == "bfloat16" else 0.6), kept
    assert np.linalg.norm(widened(tensor) - weight) < 1e-4 * np.linalg.norm(weight)


def tried(group, wanted, scale, shift):
    """A multiplier, its integers and their error, number by number."""
    multiplier = F(min(max(np.rint(F(abs(wanted) / scale)) + shift, 1), 15) * (-1 if wanted < 0 else 1))
    step = F(multiplier * scale)
    integers = [min(max(int(np.rint(F(value / step))), -8), 7) for value in group]
    lanes = [F(F(F(q) * step) - value) for q, value in zip(integers, group, strict=True)]
    lanes = [F(left * left) for left in lanes]
    for half in (16, 8, 4, 2, 1):
        lanes = [F(lanes[i] + lanes[i + half]) for i in range(half)]
    return multiplier, integers, lanes[0]


def test_four_bits_step_by_step():
    """The farthest of a group becomes about -8 times a multiplier, the best of three."""
    weight = normal(9, 6, 512, spread=1)
    weight[0, 40:60], weight[1, 64:96] = 0, 1e-6
    tensor = quantize_blocks(weight, "w4a16")
    for row in range(6):
        for block in range(2):
            groups = [weight[row, start : start + 32] for start in range(block * 256, block * 256 + 256, 32)]
            wanted = [F(max(group, key=abs) / F(-8)) for group in groups]
            scale = F(max(map(abs, wanted)) / F(15))
            assert tensor.scales[row, block] == scale
            for i, group in enumerate(groups):
                multiplier, integers, _ = min(
                    (tried(group, wanted[i], scale, d) for d in (0, -1, 1)), key=lambda t: t[2]
                )
                assert tensor.multipliers[row, block * 8 + i] == multiplier
                assert tensor.integers[row, block * 8 + i].tolist() == integers
    assert (np.abs(tensor.multipliers).max(axis=1) >= 14).all()


@pytest.mark.parametrize(("quantization", "bound"), [("w16a16", 3e-4), ("w8a16", 1e-2), ("w4a16", 0.09)])
def test_errors_hardly_grow_with_outliers_among_the_activations(part, quantization, bound):
    """One feature in a hundred 40 times larger, as trained models have them."""
    x, weight = normal(1, 32, 768), normal(2, 64, 768)
    x[:, ::100] *= 40
    found = part("numerics.block_products").linear_blocks(x, quantize_blocks(weight, quantization)).astype(np.float64)
    exact = x.astype(np.float64) @ weight.astype(np.float64).T
    assert np.linalg.norm(found - exact) < bound * np.linalg.norm(exact)
