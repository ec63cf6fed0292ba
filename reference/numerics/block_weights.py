"""Weights as integers in blocks of 256 inputs, made from float ones (N4b): how integers and scales are chosen.

Inside a block every sum is an exact integer below 2^31, so vector units, matrix units and BLAS agree in any order;
floats appear between blocks only. block_products.py has the arithmetic.
"""

from dataclasses import dataclass

import numpy as np

from verbatim.reference.numerics.quantization import (
    BLOCKED_FORMATS,
    GROUP_SIZE,
    ROWS_AT_ONCE,
    QuantizedTensor,
    quantize,
)  # fmt: skip

BLOCK, LANES = 256, 32
GROUPS_PER_BLOCK = BLOCK // GROUP_SIZE
LARGEST, NORM = np.float32(32512), np.float32(46330)  # of a block's 16-bit integers: see `wide_scales`
SMALLEST = np.float32(2.0**-100)  # a block below it is zero
WIDEST_MULTIPLIER = 15  # 15 * -8 still fits int8


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedTensor:
    """A matrix as integers with a float32 scale for 256 inputs.

    `integers` (outputs, groups, 32) are int16 for w16a16, else int8; groups past `num_inputs` are not there, and the
    last one is padded with zeros. `scales` float32 (outputs, blocks). With `multipliers` int8 (outputs, groups) a
    weight is scale * (multiplier * integer).
    """

    format: str
    integers: np.ndarray
    scales: np.ndarray
    num_inputs: int
    multipliers: np.ndarray | None = None

    def factors(self) -> np.ndarray:
        """The integers that are multiplied with activations: int16 or int8 (outputs, padded inputs)."""
        whole = self.integers if self.multipliers is None else self.integers * self.multipliers[..., None]
        return whole.reshape(len(whole), -1)


def integers_of(name: str, weight: np.ndarray, quantization: str) -> QuantizedTensor | BlockedTensor:
    """A float32 matrix (outputs, inputs) in a format of ALL_FORMATS (N4, N4b); `name` is for errors."""
    return (
        quantize_blocks(weight, quantization)
        if quantization in BLOCKED_FORMATS
        else quantize(name, weight, quantization)
    )


def quantize_blocks(weight: np.ndarray, quantization: str) -> BlockedTensor:
    """Round a finite float32 matrix (outputs, inputs) to the integers of a format of BLOCKED_FORMATS."""
    round_blocks = {"w16": _round_w16, "w8a": _round_w8, "w4a": _round_w4}[quantization[:3]]
    parts = [round_blocks(_padded(weight[i : i + ROWS_AT_ONCE])) for i in range(0, len(weight), ROWS_AT_ONCE)]
    integers, scales, *multipliers = (np.concatenate(each) for each in zip(*parts, strict=True))
    num_groups = -(-weight.shape[1] // GROUP_SIZE)
    return BlockedTensor(
        format=quantization, integers=integers.reshape(len(weight), -1, GROUP_SIZE)[:, :num_groups], scales=scales,
        num_inputs=weight.shape[1],
        multipliers=multipliers[0].reshape(len(weight), -1)[:, :num_groups] if multipliers else None,
    )  # fmt: skip


def _padded(rows: np.ndarray) -> np.ndarray:
    """Rows (n, inputs) as (n, blocks, 256), with zeros at the end."""
    num_rows, num_inputs = rows.shape
    padded = np.zeros((num_rows, -(-num_inputs // BLOCK) * BLOCK), np.float32)
    padded[:, :num_inputs] = rows
    return padded.reshape(num_rows, padded.shape[1] // BLOCK, BLOCK)


def wide_scales(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How finite blocks float32 (..., 256) become integers of 16 bits.

    Returns the blocks times a power of two that brings the largest into [2^14, 2^15), the steps (...) by which they
    are to be divided, and the inverse powers (...). A step keeps integers within 32,512, so that both bytes of 256 h +
    l are signed, and a block's norm within 46,340, the root of 2^31: so no sum of products of two such blocks, in any
    order, leaves 32 bits. The norm's bound is 10 less, since rounding adds up to 8.
    """
    largest = np.abs(blocks).max(axis=-1)
    exponents = (np.maximum(largest, SMALLEST).view(np.uint32) >> 23).astype(np.uint32)
    powers = ((np.uint32(268) - exponents) << 23).view(np.float32)
    shifted = blocks * powers[..., None]
    norms = np.sqrt(_sums(shifted * shifted))
    steps = np.maximum(largest * powers / LARGEST, norms / NORM)
    return shifted, steps, ((exponents - np.uint32(14)) << 23).view(np.float32)


def _sums(x: np.ndarray) -> np.ndarray:
    """Sums of (..., 256) or (..., 32) in the order of lane_sum (N2)."""
    rounds = x.reshape(*x.shape[:-1], -1, LANES)
    lanes = rounds[..., 0, :]
    for i in range(1, rounds.shape[-2]):
        lanes = lanes + rounds[..., i, :]
    while lanes.shape[-1] > 1:
        half = lanes.shape[-1] // 2
        lanes = lanes[..., :half] + lanes[..., half:]
    return lanes[..., 0]


def _round_w16(blocks: np.ndarray) -> tuple[np.ndarray, ...]:
    """A scale is a power of two: most weights that were stored in 16 bits keep their value."""
    shifted, steps, inverses = wide_scales(blocks)
    mantissas, exponents = np.frexp(steps)
    steps = np.ldexp(np.float32(1), exponents - (mantissas == np.float32(0.5)))
    is_zero = np.abs(blocks).max(axis=-1) < SMALLEST
    integers = np.where(is_zero[..., None], np.float32(0), np.rint(shifted / steps[..., None]))
    return integers.astype(np.int16), np.where(is_zero, np.float32(0), steps * inverses)


def _round_w8(blocks: np.ndarray) -> tuple[np.ndarray, ...]:
    """The largest of a block becomes 127 or -127."""
    largest = np.abs(blocks).max(axis=-1)
    is_zero = largest < SMALLEST
    scales = np.where(is_zero, np.float32(0), largest / np.float32(127))
    divisors = np.where(is_zero, np.float32(1), scales)[..., None]
    integers = np.clip(np.rint(blocks / divisors), -127, 127)
    return np.where(is_zero[..., None], np.float32(0), integers).astype(np.int8), scales


def _round_w4(blocks: np.ndarray) -> tuple[np.ndarray, ...]:
    """The farthest of each group of 32 becomes about -8 times a multiplier; the widest group's is 15, 14, -14 or -15.

    Of the nearest multiplier and its two neighbours a group gets the one with the least sum of squared errors.
    """
    groups = blocks.reshape(*blocks.shape[:-1], GROUPS_PER_BLOCK, GROUP_SIZE)
    place = np.abs(groups).argmax(axis=-1)[..., None]  # ties to the first
    wanted = np.take_along_axis(groups, place, axis=-1)[..., 0] / np.float32(-8)
    widest = np.abs(wanted).max(axis=-1)
    is_zero = widest < SMALLEST
    scales = np.where(is_zero, np.float32(0), widest / np.float32(WIDEST_MULTIPLIER))
    divisors = np.where(is_zero, np.float32(1), scales)[..., None]
    nearest = np.where(is_zero[..., None], np.float32(0), np.rint(np.abs(wanted) / divisors))
    integers, multipliers = np.zeros(groups.shape, np.int8), np.zeros(nearest.shape, np.int8)
    least = np.full(nearest.shape, np.inf, np.float32)
    for shift in (0, -1, 1):
        tried = np.clip(nearest + np.float32(shift), 1, WIDEST_MULTIPLIER) * np.where(wanted < 0, -1, 1).astype(
            np.float32
        )
        steps = (tried * divisors)[..., None]
        rounded = np.clip(np.rint(groups / steps), -8, 7)
        with np.errstate(over="ignore"):
            errors = _sums((rounded * steps - groups) ** 2)
        is_better = (errors < least) | (multipliers == 0)
        integers = np.where(is_better[..., None], rounded.astype(np.int8), integers)
        multipliers = np.where(is_better, tried.astype(np.int8), multipliers)
        least = np.where(is_better, errors, least)
    return np.where(is_zero[..., None, None], np.int8(0), integers), scales, multipliers
