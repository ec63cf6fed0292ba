"""FP8: e4m3 numbers in bytes, with float scales of the tensor, of each output, or of blocks (128 by 128).

A weight is number * scale in float32, rounded to bfloat16: what transformers and compressed-tensors make of it.
"""

import numpy as np

from verbatim.reference.checkpoint.quantized.matrices import RoundedTensor
from verbatim.reference.checkpoint.quantized.parts import Parts
from verbatim.reference.checkpoint.quantized.settings import Settings
from verbatim.reference.checkpoint.weights import CHECKED_AT_ONCE
from verbatim.reference.records.errors import ModelError

ENDS = ("weight", "weight_scale_inv", "weight_scale")
LARGEST = 448  # of e4m3


def _values() -> np.ndarray:
    """The float32 number of each byte: a sign, 4 bits of exponent (bias 7), 3 of fraction; 127 and 255 are NaN."""
    byte = np.arange(128)
    exponent, fraction = byte >> 3, byte & 7
    normal = np.ldexp(1 + fraction / 8, exponent - 7)
    values = np.where(exponent == 0, np.ldexp(fraction / 8, -6), normal)
    values[127] = np.nan
    return np.concatenate([values, -values]).astype(np.float32)


VALUES = _values()


def to_bfloat16(x: np.ndarray) -> np.ndarray:
    """The 16 bits of float32 numbers, rounded to nearest-even (N1)."""
    bits = x.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def read_matrix(parts: Parts, settings: Settings) -> RoundedTensor:
    """The matrix of these parts; both names of the scales are those of a factor."""
    return read_float8(parts, "weight_scale_inv" if "weight_scale_inv" in parts else "weight_scale", settings.block)


def read_float8(parts: Parts, scale_end: str, block: tuple[int, int]) -> RoundedTensor:
    """With `block`, its (outputs, inputs) share a scale; else the shape of the scales says which do."""
    stored = parts.get("weight", ("F8_E4M3",)).bits
    if stored.ndim != 2 or not stored.size:
        raise ModelError(f"weights: tensor {parts.name}.weight has shape {stored.shape}, not that of a matrix")
    outputs, num_inputs = stored.shape
    scales = parts.numbers(scale_end).astype(np.float32)
    down, across = _block(f"{parts.name}.{scale_end}", scales.shape, stored.shape, block)
    scales = scales.reshape(-(-outputs // down), -(-num_inputs // across))

    def make(first: int, last: int) -> np.ndarray:
        each = np.repeat(scales[np.arange(first, last) // down], across, axis=1)[:, :num_inputs]
        return to_bfloat16(VALUES[stored[first:last]] * each)

    def is_sound() -> bool:
        is_sound = (to_bfloat16(scales * np.float32(LARGEST)) & 0x7F80 != 0x7F80).all()
        flat = stored.reshape(-1)
        parts = (flat[at : at + CHECKED_AT_ONCE] for at in range(0, flat.size, CHECKED_AT_ONCE))
        return bool(is_sound) and not any(((part & 127) == 127).any() for part in parts)

    return RoundedTensor(
        name=f"{parts.name}.weight", dtype="BF16", bits=stored, num_inputs=num_inputs, chosen=np.arange(outputs),
        make=make, is_sound=is_sound,
    )  # fmt: skip


def _block(name: str, scales: tuple[int, ...], shape: tuple[int, ...], block: tuple[int, int]) -> tuple[int, int]:
    """How many outputs and inputs share a scale."""
    outputs, num_inputs = shape
    if scales in ((), (1,), (1, 1)):
        return outputs, num_inputs
    if scales in ((outputs,), (outputs, 1)):
        return 1, num_inputs
    down, across = block if block != (0, 0) else (128, 128)
    if scales != (-(-outputs // down), -(-num_inputs // across)):
        raise ModelError(
            f"weights: tensor {name} has shape {scales}, which is neither one scale, nor one for each of "
            f"{outputs} outputs, nor one for each block of {down} by {across}"
        )
    return down, across
