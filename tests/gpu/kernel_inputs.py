"""Random inputs of kernels, packed matrices on a device, and equality in every bit."""

import numpy as np

from verbatim.fastpath.gpu.matrices import DeviceMatrix
from verbatim.reference.numerics.blocks import FOUR_BIT_VALUES, MXFP4_VALUES
from verbatim.reference.numerics.quantization import QuantizedTensor, SuperblockTensor

SPECIAL = np.array([0.0, -0.0, 1e-45, -1e-45, 1e-39, 1.0, -1.0, 2.0**-100, 2.0**-101], np.float32)
# Integers, factors of how many parts of a group, minimum factors: lowest and highest.
BLOCKS = {
    "Q2_K": ((0, 3), (0, 15), 2, (0, 15)), "Q3_K": ((-4, 3), (-32, 31), 2, None),
    "Q4_K": ((0, 15), (0, 63), 1, (0, 63)), "Q5_K": ((0, 31), (0, 63), 1, (0, 63)),
    "Q6_K": ((-32, 31), (-128, 127), 2, None), "IQ4_XS": (FOUR_BIT_VALUES, (-32, 31), 1, None),
}  # fmt: skip
GROUPS = {
    "MXFP4": (MXFP4_VALUES, False), "I8_SCALE": ((-128, 127), False), "Q4_1": ((0, 15), True), "Q5_1": ((0, 31), True),
    "I8_MINIMUM": ((-128, 127), True),
}  # fmt: skip


def numbers(seed, *shape, spread=4):
    """Normal numbers over 2^±spread, with zeros of both signs and subnormals among them."""
    random = np.random.default_rng([seed, *shape])
    values = random.standard_normal(shape) * np.exp2(random.integers(-spread, spread + 1, shape).astype(float))
    return np.where(random.random(shape) < 0.05, random.choice(SPECIAL, shape), values.astype(np.float32))


def same(found, expected):
    """Assert equality in every bit."""
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found.view(np.uint8), np.ascontiguousarray(expected).view(np.uint8))


def on_device(gpu, packed):
    """A packed matrix in the device's memory."""
    return DeviceMatrix(
        format=packed.format, outputs=packed.outputs, inputs=packed.inputs, weights=gpu.put(packed.weights),
        scales=gpu.put(packed.scales), bias=gpu.put(packed.bias),
    )  # fmt: skip


def integers_of(format, outputs, inputs, seed=0):
    """A random matrix of a format of N4g; the first output has the largest integers and factors of all."""
    random, num_groups = np.random.default_rng([seed, outputs, inputs]), -(-inputs // 32)

    def choose(bounds, *shape, dtype=np.int8):
        known = np.asarray(bounds) if len(bounds) > 2 else np.arange(bounds[0], bounds[1] + 1)
        found = random.choice(known, shape)
        found[0] = known[np.abs(known).argmax()]
        return found.astype(dtype)

    if format in BLOCKS:
        integers, factors, parts, minimums = BLOCKS[format]
        least = None if minimums is None else choose(minimums, outputs, num_groups, parts, dtype=np.uint8)
        scales = [numbers(seed + at, outputs, num_groups // 8).astype(np.float16).astype(np.float32) for at in (1, 2)]
        return SuperblockTensor(
            format=format, integers=choose(integers, outputs, num_groups, 32),
            factors=choose(factors, outputs, num_groups, parts), scales=scales[0], minimum_factors=least,
            minimums=None if least is None else scales[1],
        )  # fmt: skip
    integers, has_minimum = GROUPS[format]
    chosen = choose(integers, outputs, num_groups, 32)
    chosen.reshape(outputs, -1)[:, inputs:] = 0
    minimums = numbers(seed + 2, outputs, num_groups) if has_minimum else None
    return QuantizedTensor(format, chosen, numbers(seed + 1, outputs, num_groups), inputs, minimums)
