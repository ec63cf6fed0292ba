"""Quantised weights, made from float ones: groups of 32 along the input side, one float16 scale a group (N4).

This is the file format's half of rule N4, shared by all engines; the arithmetic with it is `numerics.linear_quantized`.
"""

from dataclasses import dataclass

import numpy as np

from reference.errors import ModelError

GROUP_SIZE = 32
FORMATS = ("w8a8",)


@dataclass(frozen=True, slots=True)
class QuantizedTensor:
    """A matrix as small integers: `integers` int8 (outputs, groups, 32), `scales` float16 (outputs, groups)."""

    integers: np.ndarray
    scales: np.ndarray


def check_format(quantization: str | None) -> None:
    """Refuse a format that no engine has."""
    if quantization is not None and quantization not in FORMATS:
        raise ModelError(f"quantization {quantization!r} is not supported; supported: {', '.join(FORMATS)}")


def quantize_w8a8(name: str, weight: np.ndarray) -> QuantizedTensor:
    """Round a float32 matrix (outputs, inputs) to int8 in -127..127; a short last group is padded with zeros."""
    num_outputs, num_inputs = weight.shape
    num_groups = -(-num_inputs // GROUP_SIZE)
    padded = np.zeros((num_outputs, num_groups * GROUP_SIZE), np.float32)
    padded[:, :num_inputs] = weight
    groups = padded.reshape(num_outputs, num_groups, GROUP_SIZE)
    with np.errstate(over="ignore"):
        scales = (np.abs(groups).max(axis=-1) / np.float32(127)).astype(np.float16)
    if not np.isfinite(scales).all():
        raise ModelError(f"weights: tensor {name} is too large for w8a8: its scales do not fit float16")
    widened = scales.astype(np.float32)[..., None]
    divisor = np.where(widened > 0, widened, np.float32(1))
    integers = np.clip(np.rint(groups / divisor), -127, 127).astype(np.int8)
    return QuantizedTensor(np.where(widened > 0, integers, np.int8(0)), scales)
