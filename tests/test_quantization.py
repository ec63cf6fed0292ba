"""How integers and scales are chosen (N4), their largest error, and how a checkpoint on disk stores them."""

import numpy as np
import pytest

from verbatim.reference.numerics.quantization import (
    FORMATS,
    QuantizedTensor,
    choose_format,
    from_stored,
    quantize,
    to_stored,
)
from verbatim.reference.records.errors import ModelError

F = np.float32
BOUNDS = {"w8a8": (-127, 127), "w4a8": (-8, 7)}


def widened(tensor):
    values = tensor.integers.astype(F) * tensor.scales.astype(F)[..., None]
    return values.reshape(len(values), -1)[:, : tensor.num_inputs]


def normal(seed, *shape, scale=0.1):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(F)


@pytest.mark.parametrize("inputs", [1, 31, 32, 33, 100, 320])
def test_four_bits_step_by_step(inputs):
    """The rule once more, number by number: the farthest from zero becomes -8."""
    weight = normal(inputs, 3, inputs)
    tensor = quantize("w", weight, "w4a8")
    assert tensor.integers.shape == (3, -(-inputs // 32), 32)
    for row in range(3):
        for group in range(-(-inputs // 32)):
            values = weight[row, group * 32 : group * 32 + 32]
            scale = np.float16(max(values, key=abs) / F(-8))
            assert tensor.scales[row, group] == scale
            expected = [min(max(int(np.rint(value / F(scale))), -8), 7) for value in values]
            assert tensor.integers[row, group].tolist() == expected + [0] * (32 - len(values))


@pytest.mark.parametrize("quantization", FORMATS)
@pytest.mark.parametrize("scale", [1e-6, 0.02, 1, 1000])
def test_an_error_is_at_most_half_a_step(quantization, scale):
    weight = normal(1, 600, 80, scale=scale)  # more outputs than are rounded at once
    tensor = quantize("w", weight, quantization)
    lowest, highest = BOUNDS[quantization]
    assert (tensor.integers.min() >= lowest) & (tensor.integers.max() <= highest)
    steps = np.repeat(np.abs(tensor.scales.astype(F)), 32, axis=1)[:, :80]
    # float16 holds a scale to 2^-11 of it (or 2^-25): what is cut off at an end is off by so much more.
    slack = np.abs(weight) * 2.0**-10 + steps.max() * 1e-6 + 2.0**-25 * 128
    is_cut = (tensor.integers == highest).reshape(600, -1)[:, :80]
    assert (np.abs(widened(tensor) - weight) <= np.where(is_cut, steps, steps / 2) + slack).all()


def test_the_relative_error_of_normal_weights():
    """The relative error of four and eight bits, as measured once; a change of the rounding would change it."""
    weight = normal(3, 256, 512)
    for quantization, bound in (("w8a8", 0.0057), ("w4a8", 0.086)):
        error = widened(quantize("w", weight, quantization)) - weight
        assert np.sqrt(np.square(error).mean() / np.square(weight).mean()) < bound


@pytest.mark.parametrize("quantization", FORMATS)
def test_groups_of_zeros_stay_zero(quantization):
    weight = normal(2, 4, 96)
    weight[1], weight[2, 32:64], weight[3, :32] = 0, -0.0, 1e-9  # the last is below what a float16 scale can hold
    tensor = quantize("w", weight, quantization)
    assert not tensor.scales[1].any()
    assert not tensor.integers[1].any()
    assert not tensor.integers[2, 1].any()
    assert not tensor.integers[3, 0].any()


@pytest.mark.parametrize("quantization", FORMATS)
def test_scales_that_do_not_fit_float16_are_refused(quantization):
    weight = normal(2, 600, 40)
    weight[599, 39] = -1e7
    with pytest.raises(ModelError, match=f"tensor some.weight is too large for {quantization}"):
        quantize("some.weight", weight, quantization)


@pytest.mark.parametrize("quantization", FORMATS)
def test_disk_and_back(quantization):
    tensor = quantize("w", normal(5, 20, 70), quantization)
    stored = to_stored(tensor)
    assert stored.nbytes == 20 * 3 * (32 if quantization == "w8a8" else 16)
    again = from_stored("w", quantization, stored, tensor.scales, 70)
    np.testing.assert_array_equal(again.integers, tensor.integers)
    assert (again.format, again.num_inputs) == (quantization, 70)


def test_two_integers_share_a_byte():
    integers = np.zeros((1, 1, 32), np.int8)
    integers[0, 0, :2], integers[0, 0, 16:18] = (-8, 7), (1, -1)
    stored = to_stored(QuantizedTensor("w4a8", integers, np.ones((1, 1), np.float16), 32))
    assert stored[0, 0].tolist() == [0x90, 0x7F, *[0x88] * 14]


def test_an_integer_out_of_range_is_refused():
    stored = np.full((1, 1, 32), -128, np.int8)
    with pytest.raises(ModelError, match="tensor w holds -128"):
        from_stored("w", "w8a8", stored, np.ones((1, 1), np.float16), 32)


def test_which_format_is_computed_in():
    assert choose_format(None, None) is None
    assert choose_format(None, "w4a8") == "w4a8"
    assert choose_format("w4a8", None) == choose_format("w4a8", "w4a8") == "w4a8"
    with pytest.raises(ModelError, match="stored as w4a8 and cannot be made into w8a8"):
        choose_format("w4a8", "w8a8")
    with pytest.raises(ModelError, match="quantization 'int3' is not supported; supported: w8a8, w4a8"):
        choose_format(None, "int3")
