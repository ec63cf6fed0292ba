"""The arithmetic: sums in their stated order, exact narrow weights, exponentials within their bounds (N1 to N7)."""

import struct
from fractions import Fraction

import numpy as np
import pytest

from verbatim.reference.numerics.quantization import FORMATS, quantize

F = np.float32


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(F)


def same(a, b):
    np.testing.assert_array_equal(np.asarray(a).view(np.uint32), np.asarray(b).view(np.uint32))


def ulps(value, exact):
    """How many units in the last place of float32 a value is off."""
    return np.abs((value.astype(np.float64) - exact) / np.spacing(np.abs(exact).astype(F)).astype(np.float64))


def nearest_even(x, candidates):
    """Of numbers in ascending order the one nearest to x; of two as near, the one at an even place."""
    distances = [abs(Fraction(float(candidate)) - Fraction(float(x))) for candidate in candidates]
    least = min(distances)
    return min((i for i, distance in enumerate(distances) if distance == least), key=lambda i: i % 2)


def test_float16_is_rounded_to_nearest_even_once(part):
    random = np.random.default_rng(1)
    x = (random.standard_normal(2000) * np.exp2(random.integers(-30, 15, 2000))).astype(F)
    halves = np.arange(0x7BFF, dtype=np.uint16).view(np.float16).astype(np.float64)
    between = F((halves[1:] + halves[:-1]) / 2)  # as near to the one as to the other, subnormals too
    x = np.concatenate([x, between, -between, np.nextafter(between, F(0)), np.nextafter(between, F(1e9))])
    found = part("numerics.arithmetic").narrow(x, "float16")
    assert found.dtype == np.float16
    assert found.tobytes() == b"".join(struct.pack("<e", value) for value in x.tolist())


def test_bfloat16_is_rounded_to_nearest_even_once(part):
    random = np.random.default_rng(2)
    bits = random.integers(0, 0x7F7F0000, 300).astype(np.uint32)
    bits[100:200] = bits[100:200] & 0xFFFF0000 | 0x8000  # as near to the one as to the other
    bits[200:250] >>= 10  # subnormal
    found = part("numerics.arithmetic").narrow(bits.view(F), "bfloat16")
    assert found.dtype == np.uint16
    for pattern, stored in zip(bits.tolist(), found.tolist(), strict=True):
        first = pattern >> 17 << 1  # an even place
        candidates = (np.arange(first, first + 4).astype(np.uint32) << 16).view(F)
        assert stored == first + nearest_even(np.uint32(pattern).view(F), candidates)
    np.testing.assert_array_equal(part("numerics.arithmetic").narrow(-bits.view(F), "bfloat16"), found | 0x8000)


def test_past_the_largest_number_lies_infinity_and_nan_stays(part):
    numerics, inf, nan = part("numerics.arithmetic"), float("inf"), float("nan")
    x = np.array([65504, 65519.996, 65520, -1e30, inf, -inf, 1e-8, -1e-8, -0.0, nan], F)
    found = numerics.widen(numerics.narrow(x, "float16"))
    np.testing.assert_array_equal(found, np.array([65504, 65504, inf, -inf, inf, -inf, 0, 0, 0, nan], F))
    assert list(np.signbit(found[6:9])) == [False, True, True]
    largest, worst = np.array([0x7F7FFFFF, 0xFF7F8000, 0x7F7F7FFF], np.uint32), np.uint32(0xFFFFFFFF)
    x = np.concatenate([largest.view(F), np.array([inf, -inf, nan, 1e-45], F), np.array([worst]).view(F)])
    found = numerics.widen(numerics.narrow(x, "bfloat16"))
    expected = np.array([inf, -inf, np.array([0x7F7F0000], np.uint32).view(F)[0], inf, -inf, nan, 0, nan], F)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_whatever_is_stored_is_widened_exactly(part, dtype):
    numerics, bits = part("numerics.arithmetic"), np.arange(2**16, dtype=np.uint16)
    stored = bits.view(np.float16) if dtype == "float16" else bits
    found = numerics.widen(stored)
    expected = stored.astype(F) if dtype == "float16" else (bits.astype(np.uint32) << 16).view(F)
    is_number = ~np.isnan(expected)
    same(found[is_number], expected[is_number])
    np.testing.assert_array_equal(np.isnan(found), ~is_number)
    again = numerics.narrow(found, dtype)
    np.testing.assert_array_equal(again[is_number].view(np.uint16), bits[is_number])


@pytest.mark.parametrize("length", [1, 31, 32, 33, 96, 100, 1000])
def test_lane_sum_adds_lanes_in_order_then_folds_them(part, length):
    x = normal(length, length)
    lanes = [F(0)] * 32
    for i, value in enumerate(x):
        lanes[i % 32] = F(lanes[i % 32] + value)
    for half in (16, 8, 4, 2, 1):
        lanes = [F(lanes[j] + lanes[j + half]) for j in range(half)]
    same(part("numerics.arithmetic").lane_sum(x[None]), np.array([lanes[0]]))


def test_linear_sums_blocks_of_256_and_rounds_every_product(part):
    x, weight = normal(1, 2, 600), normal(2, 3, 600)
    expected = np.zeros((2, 3), F)
    for m in range(2):
        for n in range(3):
            for start in (0, 256, 512):
                block = F(0)
                for k in range(start, min(start + 256, 600)):
                    block = F(block + F(x[m, k] * weight[n, k]))
                expected[m, n] += block
    same(part("numerics.arithmetic").linear(x, weight), expected)


@pytest.mark.parametrize("quantization", FORMATS)
def test_a_row_does_not_depend_on_its_neighbours(part, quantization):
    x, weight = normal(1, 13, 300), normal(2, 40, 300)
    numerics, tensor = part("numerics.arithmetic"), quantize("w", weight, quantization)
    whole, whole_quantized = numerics.linear(x, weight), numerics.linear_quantized(x, tensor)
    for row in range(13):
        same(numerics.linear(x[row : row + 1], weight)[0], whole[row])
        same(numerics.linear_quantized(x[row : row + 1], tensor)[0], whole_quantized[row])


def test_activations_round_to_the_nearest_127th_of_the_largest(part):
    x = np.zeros((1, 70), F)
    x[0, :4] = 12.7, -6.4, 0.05, 0.15
    x[0, 32] = 2.0**-101
    x[0, 69] = -3
    integers, scales = part("numerics.arithmetic").quantize_activations(x)
    assert integers.shape == (1, 3, 32)
    assert integers.dtype == np.int8
    assert integers[0, 0, :4].tolist() == [127, -64, 0, 2], "halves go to the even number, to float32's precision"
    same(scales[0], np.array([F(12.7) / F(127), 0, F(3) / F(127)], F))
    assert not integers[0, 1].any(), "a group below 2^-100 is zero"
    assert integers[0, 2].tolist() == [0] * 5 + [-127] + [0] * 26


@pytest.mark.parametrize("quantization", FORMATS)
def test_quantized_linear_scales_exact_integer_dots(part, quantization):
    x, weight = normal(1, 2, 330), normal(2, 5, 330)
    numerics, tensor = part("numerics.arithmetic"), quantize("w", weight, quantization)
    integers, scales = numerics.quantize_activations(x)
    expected = np.zeros((2, 5), F)
    for start in (0, 8):
        block = np.zeros((2, 5), F)
        for g in range(start, min(start + 8, 11)):
            dots = integers[:, g].astype(np.int64) @ tensor.integers[:, g].astype(np.int64).T
            block += dots.astype(F) * (scales[:, g, None] * tensor.scales[None, :, g].astype(F))
        expected += block
    same(numerics.linear_quantized(x, tensor), expected)


def test_rms_norm_is_left_to_right(part):
    numerics, x, weight = part("numerics.arithmetic"), normal(1, 3, 50), normal(2, 50)
    for row, normed in zip(x, numerics.rms_norm(x, weight, 1e-5), strict=True):
        mean = numerics.lane_sum((row * row)[None])[0] / F(50)
        same(normed, row * (F(1) / np.sqrt(mean + F(1e-5))) * weight)


def test_layer_norm_is_left_to_right(part):
    numerics, x, weight, bias = part("numerics.arithmetic"), 3 + normal(1, 3, 50), normal(2, 50), normal(3, 50)
    for row, normed in zip(x, numerics.layer_norm(x, weight, bias, 1e-5), strict=True):
        centred = row - numerics.lane_sum(row[None])[0] / F(50)
        scale = F(1) / np.sqrt(numerics.lane_sum((centred * centred)[None])[0] / F(50) + F(1e-5))
        same(normed, centred * scale * weight + bias)
    same(numerics.layer_norm(x, weight, None, 1e-5) + bias, numerics.layer_norm(x, weight, bias, 1e-5))


def test_rotation_turns_halves_of_each_head(part):
    x, cosines, sines = normal(1, 4, 3, 6), normal(2, 4, 3), normal(3, 4, 3)
    rotated = part("numerics.arithmetic").rotate(x, cosines, sines)
    a, b, c, s = x[..., :3], x[..., 3:], cosines[:, None], sines[:, None]
    same(rotated, np.concatenate([a * c - b * s, b * c + a * s], axis=-1))


def test_exp2_is_within_two_units_and_exact_on_whole_numbers(part):
    exp2 = part("numerics.arithmetic").exp2
    x = np.linspace(-126, 127, 200_001).astype(F)
    assert ulps(exp2(x), np.exp2(x.astype(np.float64))).max() <= 2
    whole = np.arange(-126, 128).astype(F)
    same(exp2(whole), np.exp2(whole.astype(np.float64)).astype(F))


def test_exp2_ends(part):
    x = np.array([-126.00001, -1e30, -np.inf, 127.5, 1e30, -0.0], F)
    same(part("numerics.arithmetic").exp2(x), np.array([0, 0, 0, 2.0**127, 2.0**127, 1], F))
    with np.errstate(invalid="ignore"):
        assert np.isnan(part("numerics.arithmetic").exp2(np.array([0, np.nan], F))).tolist() == [False, True]


def test_log2_is_within_three_units(part):
    x = np.exp2(np.random.default_rng(0).uniform(-126, 127.9, 100_000)).astype(F)
    exact = np.log2(x.astype(np.float64))
    assert ulps(part("numerics.arithmetic").log2(x), exact)[np.abs(exact) > 1e-3].max() <= 3
    powers = np.exp2(np.arange(-126, 128)).astype(F)
    same(part("numerics.arithmetic").log2(powers), np.arange(-126, 128).astype(F))


def test_silu_is_close_to_its_formula(part):
    x = np.linspace(-80, 80, 10_001).astype(F)
    exact = x.astype(np.float64) / (1 + np.exp(-x.astype(np.float64)))
    np.testing.assert_allclose(part("numerics.arithmetic").silu(x), exact, rtol=1e-5, atol=1e-30)


def test_the_clamped_gate_is_its_formula_in_order(part):
    numerics = part("numerics.arithmetic")
    gate, up = np.linspace(-20, 20, 801).astype(np.float32), np.linspace(15, -15, 801).astype(np.float32)
    found = numerics.clamped_gate(gate, up, 1.702, 7.0)
    a, b = np.minimum(gate, np.float32(7)), np.clip(up, np.float32(-7), np.float32(7))
    expected = (b + np.float32(1)) * (a * numerics.sigmoid(a * np.float32(1.702)))
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))
    exact = (b.astype(np.float64) + 1) * (a / (1 + np.exp(-1.702 * a.astype(np.float64))))
    np.testing.assert_allclose(found, exact, atol=2e-5)


def test_sigmoid_is_close_to_its_formula(part):
    x = np.linspace(-80, 80, 10_001).astype(F)
    exact = 1 / (1 + np.exp(-x.astype(np.float64)))
    found, is_small = part("numerics.arithmetic").sigmoid(x), np.abs(x) < 20
    np.testing.assert_allclose(found, exact, rtol=4e-6)  # x log2(e) is rounded once, which 2^x makes larger
    np.testing.assert_allclose(found[is_small], exact[is_small], rtol=1e-6)
