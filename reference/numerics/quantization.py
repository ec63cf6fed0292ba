"""Quantised weights, made from float ones: groups of 32 along the input side, one float16 scale a group (N4).

The part of rule N4 that all engines share: how integers and scales are chosen, and how a checkpoint stores them. The
arithmetic is `linear_quantized`.
"""

from dataclasses import dataclass

import numpy as np

from verbatim.reference.records.errors import ModelError

GROUP_SIZE = 32
FORMATS = ("w8a8", "w4a8")  # of N4, which a checkpoint can be stored in
BLOCKED_FORMATS = ("w16a16", "w8a16", "w4a16", "w8a8-256", "w4a8-256")  # of N4b: block_weights.py
ALL_FORMATS = (*FORMATS, *BLOCKED_FORMATS)  # what --quantization makes of a float checkpoint
GGUF = "gguf"
MXFP4 = "mxfp4"
MLC = "mlc"
METHODS = ("awq", "gptq", "compressed-tensors", "fp8", MXFP4, "bitsandbytes")  # values of quant_method in config.json
MIXED = (GGUF, MLC, *METHODS)  # each matrix has the format that its file gives it
WIDE_FORMATS = ("I8_SCALE", "I8_MINIMUM")  # int8 with float32 scales, perhaps minimums, for what w8a8 cannot hold
VERSION = 1  # of the stored layout
SCALES = "_scales"  # suffix of a matrix's name for its scales
STORED_DTYPES = {"w8a8": "I8", "w4a8": "U8"}
ROWS_AT_ONCE = 512  # outputs rounded at a time, to bound memory


@dataclass(frozen=True, slots=True)
class QuantizedTensor:
    """A matrix as small integers: `integers` int8 (outputs, groups, 32), `scales` float16 (outputs, groups).

    The last group is padded with zeros past `num_inputs`. Some formats of files have float32 scales, and `minimums`
    float32 (outputs, groups), which are added to each weight of a group (N4g).
    """

    format: str
    integers: np.ndarray
    scales: np.ndarray
    num_inputs: int
    minimums: np.ndarray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SuperblockTensor:
    """A matrix of one of GGUF's K formats: small integers, whose scales are small integers, too (N4g).

    `integers` int8 (outputs, groups, 32); `factors` int8 (outputs, groups, parts), of each half of a group or of the
    whole; `scales` float32 (outputs, blocks) of 256 inputs. With `minimum_factors` uint8 and `minimums` float32, shaped
    alike, a weight is scale * factor * integer - minimum * minimum_factor.
    """

    format: str
    integers: np.ndarray
    factors: np.ndarray
    scales: np.ndarray
    minimum_factors: np.ndarray | None = None
    minimums: np.ndarray | None = None

    @property
    def num_inputs(self) -> int:
        """Inputs: whole blocks."""
        return self.integers.shape[1] * GROUP_SIZE


def check_format(quantization: str | None) -> None:
    """Raise ModelError for a format that no engine has."""
    if quantization is not None and quantization not in ALL_FORMATS:
        raise ModelError(f"quantization {quantization!r} is not supported; supported: {', '.join(ALL_FORMATS)}")


def choose_format(stored: str | None, wanted: str | None) -> str | None:
    """The format to compute in: the wanted one, or the stored one, which cannot be converted to another."""
    check_format(wanted)
    if stored and wanted not in (None, stored):
        raise ModelError(f"the model is stored as {stored} and cannot be made into {wanted}: give the float checkpoint")
    return stored or wanted


def quantization_entry(quantization: str) -> dict:
    """The value of `quantization` in a quantised checkpoint's config.json."""
    return {"format": quantization, "version": VERSION}


def read_entry(raw: dict) -> str | None:
    """The format that a config.json names, None for a float checkpoint; raises ModelError for any other entry."""
    entry = raw.get("quantization")
    if entry is None:
        return None
    for name in FORMATS:
        if entry == quantization_entry(name):
            return name
    raise ModelError(
        f"config.json: quantization {entry!r} is not supported; "
        f"supported: {' and '.join(str(quantization_entry(name)) for name in FORMATS)}"
    )


def quantize(name: str, weight: np.ndarray, quantization: str) -> QuantizedTensor:
    """Round a float32 matrix (outputs, inputs) to integers; a short last group is padded with zeros."""
    num_outputs, num_inputs = weight.shape
    shape = (num_outputs, -(-num_inputs // GROUP_SIZE), GROUP_SIZE)
    integers, scales = np.empty(shape, np.int8), np.empty(shape[:2], np.float16)
    round_groups = {"w8a8": _round_w8a8, "w4a8": _round_w4a8}[quantization]
    for start in range(0, num_outputs, ROWS_AT_ONCE):
        rows = slice(start, min(start + ROWS_AT_ONCE, num_outputs))
        padded = np.zeros((rows.stop - start, shape[1] * GROUP_SIZE), np.float32)
        padded[:, :num_inputs] = weight[rows]
        integers[rows], scales[rows] = round_groups(padded.reshape(-1, *shape[1:]))
    if not np.isfinite(scales).all():
        raise ModelError(f"weights: tensor {name} is too large for {quantization}: its scales do not fit float16")
    return QuantizedTensor(quantization, integers, scales, num_inputs)


def _round_w8a8(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest of a group (..., 32) becomes 127 or -127."""
    return _round(groups, np.abs(groups).max(axis=-1) / np.float32(127), -127, 127)


def _round_w4a8(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest of a group becomes -8, whatever its sign: of the sixteen integers, -8 is the farthest from 0."""
    place = np.abs(groups).argmax(axis=-1)[..., None]  # ties to the first
    largest = np.take_along_axis(groups, place, axis=-1)[..., 0]
    return _round(groups, largest / np.float32(-8), -8, 7)


def _round(groups: np.ndarray, scales: np.ndarray, lowest: int, highest: int) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(over="ignore"):  # `quantize` raises for an infinite scale
        scales = scales.astype(np.float16)
    widened = scales.astype(np.float32)[..., None]
    divisor = np.where(widened != 0, widened, np.float32(1))
    integers = np.clip(np.rint(groups / divisor), lowest, highest).astype(np.int8)
    return np.where(widened != 0, integers, np.int8(0)), scales


def stored_shape(quantization: str, outputs: int, inputs: int) -> tuple[int, int, int]:
    """The stored shape of a matrix's integers: (outputs, groups, bytes of a group)."""
    return outputs, -(-inputs // GROUP_SIZE), GROUP_SIZE if quantization == "w8a8" else GROUP_SIZE // 2


def to_stored(tensor: QuantizedTensor) -> np.ndarray:
    """Integers as stored: int8, or uint8 with integer i of a group + 8 in the low half of byte i % 16 for i < 16, and
    in the high half from 16 on.
    """
    if tensor.format == "w8a8":
        return tensor.integers
    nibbles = (tensor.integers + np.int8(8)).view(np.uint8)
    half = GROUP_SIZE // 2
    return nibbles[..., :half] | nibbles[..., half:] << 4


def from_stored(name: str, quantization: str, stored: np.ndarray, scales: np.ndarray, inputs: int) -> QuantizedTensor:
    """The inverse of `to_stored`. Every w4a8 byte is valid; w8a8 has no -128 (ModelError)."""
    if quantization == "w4a8":
        integers = np.concatenate([stored & 15, stored >> 4], axis=-1).view(np.int8) - np.int8(8)
    elif (stored == -128).any():
        raise ModelError(f"weights: tensor {name} holds -128, which w8a8 does not have")
    else:
        integers = stored
    return QuantizedTensor(quantization, integers, scales, inputs)
