"""The quantised formats of GGUF files: blocks of bytes, and the small integers and scales that they stand for (N4g).

A row of a matrix is blocks of 32 or 256 weights, each with its scales. `unpack` makes integers of them, with nothing
rounded; `dequantize` gives the float32 weights. The layouts are described in https://github.com/ggml-org/ggml
(src/ggml-common.h).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from verbatim.reference.numerics.quantization import GROUP_SIZE, QuantizedTensor, SuperblockTensor, to_stored

SUPERBLOCK = 256
FOUR_BIT_VALUES = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8)  # IQ4
MXFP4_VALUES = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.int8)  # e2m1, doubled
Unpacked = QuantizedTensor | SuperblockTensor


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFormat:
    """A stored format: `num_bytes` hold `size` weights; `halves` are the places of its float16 numbers.

    `computed` is the format of the integers, as QuantizedTensor names it.
    """

    size: int
    num_bytes: int
    halves: tuple[int, ...]
    computed: str
    unpack: Callable[[np.ndarray], Unpacked]


def unpack(name: str, blocks: np.ndarray) -> Unpacked:
    """The integers of a matrix: uint8 (outputs, blocks, bytes of a block) in the format of that name."""
    return BLOCK_FORMATS[name].unpack(blocks)


def dequantize(name: str, blocks: np.ndarray) -> np.ndarray:
    """The float32 weights (..., inputs) of uint8 (..., blocks, bytes of a block); each step is rounded."""
    outer = blocks.shape[:-2]
    tensor = unpack(name, blocks.reshape(-1, *blocks.shape[-2:]))
    if isinstance(tensor, QuantizedTensor):
        scales, minimums = tensor.scales.astype(np.float32)[..., None], tensor.minimums
        weights = scales * tensor.integers
        weights = weights if minimums is None else weights + minimums[..., None]
        return weights.reshape(*outer, -1)
    num_outputs, num_groups, parts = tensor.factors.shape
    shape = (num_outputs, num_groups, parts, GROUP_SIZE // parts)
    weights = (_per_group(tensor.scales) * tensor.factors)[..., None] * tensor.integers.reshape(shape)
    if tensor.minimums is not None:
        weights = weights - (_per_group(tensor.minimums) * tensor.minimum_factors)[..., None]
    return weights.reshape(*outer, -1)


def to_blocks(tensor: QuantizedTensor) -> np.ndarray:
    """The bytes of w4a8 as Q4_0, of w8a8 as Q8_0, uint8 (outputs, blocks, bytes of a block): nothing is rounded."""
    scales = np.ascontiguousarray(tensor.scales.astype("<f2"))[..., None].view(np.uint8)
    return np.concatenate([scales, to_stored(tensor).view(np.uint8)], axis=-1)


def is_finite(name: str, blocks: np.ndarray) -> bool:
    """Whether all scales and minimums are numbers: an exponent of all ones is not."""
    if name == "MXFP4" and (blocks[..., 0] == 255).any():
        return False
    return all(((blocks[..., at + 1] & 0x7C) != 0x7C).all() for at in BLOCK_FORMATS[name].halves)


def _per_group(numbers: np.ndarray) -> np.ndarray:
    """(outputs, blocks) to (outputs, groups, 1)."""
    return np.repeat(numbers, SUPERBLOCK // GROUP_SIZE, axis=1)[..., None]


def _half(blocks: np.ndarray, at: int) -> np.ndarray:
    """The float16 at a place of each block, (outputs, blocks)."""
    return np.ascontiguousarray(blocks[..., at : at + 2]).view("<f2")[..., 0]


def _float(blocks: np.ndarray, at: int) -> np.ndarray:
    return _half(blocks, at).astype(np.float32)


def _nibbles(stored: np.ndarray) -> np.ndarray:
    """16 bytes hold 32 integers of 4 bits: the first sixteen in the low halves."""
    return np.concatenate([stored & 15, stored >> 4], axis=-1)


def _fifth_bits(blocks: np.ndarray, at: int) -> np.ndarray:
    """Four bytes hold a bit of each of 32 integers; returns 0 or 16 for each."""
    return np.unpackbits(blocks[..., at : at + 4], axis=-1, bitorder="little") << np.uint8(4)


def _signed(integers: np.ndarray, offset: int) -> np.ndarray:
    return integers.view(np.int8) - np.int8(offset)


def _plain(computed: str, integers: np.ndarray, scales: np.ndarray, minimums=None) -> QuantizedTensor:
    return QuantizedTensor(computed, integers, scales, integers.shape[1] * GROUP_SIZE, minimums)


def _q4_0(b: np.ndarray) -> QuantizedTensor:
    return _plain("w4a8", _signed(_nibbles(b[..., 2:]), 8), _half(b, 0))


def _q4_1(b: np.ndarray) -> QuantizedTensor:
    return _plain("Q4_1", _signed(_nibbles(b[..., 4:]), 0), _float(b, 0), _float(b, 2))


def _q5_0(b: np.ndarray) -> QuantizedTensor:
    return _plain("w8a8", _signed(_nibbles(b[..., 6:]) | _fifth_bits(b, 2), 16), _half(b, 0))


def _q5_1(b: np.ndarray) -> QuantizedTensor:
    return _plain("Q5_1", _signed(_nibbles(b[..., 8:]) | _fifth_bits(b, 4), 0), _float(b, 0), _float(b, 2))


def _q8_0(b: np.ndarray) -> QuantizedTensor:
    return _plain("w8a8", b[..., 2:].view(np.int8), _half(b, 0))


def _iq4_nl(b: np.ndarray) -> QuantizedTensor:
    return _plain("w8a8", FOUR_BIT_VALUES[_nibbles(b[..., 2:])], _half(b, 0))


def _mxfp4(b: np.ndarray) -> QuantizedTensor:
    return _plain("MXFP4", MXFP4_VALUES[_nibbles(b[..., 1:])], _mxfp4_scales(b[..., 0]))


def _mxfp4_scales(exponents: np.ndarray) -> np.ndarray:
    """2^(byte - 128), half of the format's own scale since the integers are doubled."""
    exponent = exponents.astype(np.uint32)
    bits = np.where(exponent < 2, np.uint32(0x00200000) << exponent, (np.maximum(exponent, 1) - 1) << 23)
    return bits.astype(np.uint32).view(np.float32)


def unpack_mxfp4(stored: np.ndarray, exponents: np.ndarray) -> QuantizedTensor:
    """MXFP4 as safetensors of gpt-oss hold it (N4g): nibbles uint8 (outputs, groups, 16), exponents (outputs, groups).

    Byte i of a group has weight 2 i in its low half and weight 2 i + 1 in its high half.
    """
    nibbles = np.stack([stored & 15, stored >> 4], axis=-1).reshape(*stored.shape[:-1], GROUP_SIZE)
    return _plain("MXFP4", MXFP4_VALUES[nibbles], _mxfp4_scales(exponents))


def _groups(integers: np.ndarray, last: int = GROUP_SIZE) -> np.ndarray:
    """(outputs, blocks, ...) to (outputs, groups, `last`)."""
    return integers.reshape(len(integers), -1, last)


def _two_bits(stored: np.ndarray) -> np.ndarray:
    """64 bytes hold 256 integers of 2 bits: 32 bytes hold four groups, from the lowest bits up. (..., 8, 32)"""
    halves = stored.reshape(*stored.shape[:-1], 2, 1, 32)
    return (halves >> np.array([0, 2, 4, 6], np.uint8)[:, None] & 3).reshape(*stored.shape[:-1], 8, 32)


def _pairs_of_groups(stored: np.ndarray) -> np.ndarray:
    """128 bytes hold 256 integers of 4 bits: 32 bytes hold two groups, the first in the low halves. (..., 8, 32)"""
    pairs = stored.reshape(*stored.shape[:-1], 4, 1, 32)
    return (pairs >> np.array([0, 4], np.uint8)[:, None] & 15).reshape(*stored.shape[:-1], 8, 32)


def _six_bit_factors(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Twelve bytes hold eight factors and eight minimum factors of 6 bits; of the last four two bits lie apart."""
    low, high, rest = stored[..., :4], stored[..., 4:8], stored[..., 8:]
    factors = np.concatenate([low & 63, rest & 15 | low >> 6 << 4], axis=-1)
    minimum_factors = np.concatenate([high & 63, rest >> 4 | high >> 6 << 4], axis=-1)
    return factors, minimum_factors


def _q2_k(b: np.ndarray) -> SuperblockTensor:
    return SuperblockTensor(
        format="Q2_K", integers=_groups(_signed(_two_bits(b[..., 16:80]), 0)),
        factors=_groups(_signed(b[..., :16] & 15, 0), 2), scales=_float(b, 80),
        minimum_factors=_groups(b[..., :16] >> 4, 2), minimums=_float(b, 82),
    )  # fmt: skip


def _q3_k(b: np.ndarray) -> SuperblockTensor:
    """A bit that is not set in the first 32 bytes, one for each group, takes 4 from the integer."""
    third = b[..., None, :32] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    low, high = b[..., 96:104], b[..., 104:108]
    low = np.concatenate([low & 15, low >> 4], axis=-1)
    high = (high[..., None, :] >> np.array([0, 2, 4, 6], np.uint8)[:, None] & 3).reshape(low.shape)
    return SuperblockTensor(
        format="Q3_K", integers=_groups(_signed(_two_bits(b[..., 32:96]) | third << 2, 4)),
        factors=_groups(_signed(low | high << 4, 32), 2), scales=_float(b, 108),
    )  # fmt: skip


def _q4_k(b: np.ndarray) -> SuperblockTensor:
    factors, minimum_factors = _six_bit_factors(b[..., 4:16])
    return SuperblockTensor(
        format="Q4_K", integers=_groups(_signed(_pairs_of_groups(b[..., 16:]), 0)),
        factors=_groups(_signed(factors, 0), 1), scales=_float(b, 0),
        minimum_factors=_groups(minimum_factors, 1), minimums=_float(b, 2),
    )  # fmt: skip


def _q5_k(b: np.ndarray) -> SuperblockTensor:
    factors, minimum_factors = _six_bit_factors(b[..., 4:16])
    fifth = b[..., None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    return SuperblockTensor(
        format="Q5_K", integers=_groups(_signed(_pairs_of_groups(b[..., 48:]) | fifth << 4, 0)),
        factors=_groups(_signed(factors, 0), 1), scales=_float(b, 0),
        minimum_factors=_groups(minimum_factors, 1), minimums=_float(b, 2),
    )  # fmt: skip


def _q6_k(b: np.ndarray) -> SuperblockTensor:
    """64 bytes of low bits hold four groups: two in the low halves, then two in the high ones."""
    low = b[..., :128].reshape(*b.shape[:-1], 2, 1, 64)
    low = (low >> np.array([0, 4], np.uint8)[:, None] & 15).reshape(*b.shape[:-1], 8, 32)
    return SuperblockTensor(
        format="Q6_K", integers=_groups(_signed(low | _two_bits(b[..., 128:192]) << 4, 32)),
        factors=_groups(np.ascontiguousarray(b[..., 192:208]).view(np.int8), 2), scales=_float(b, 208),
    )  # fmt: skip


def _iq4_xs(b: np.ndarray) -> SuperblockTensor:
    """Like Q4_K without minimums; the integers are those of IQ4_NL."""
    high = np.ascontiguousarray(b[..., 2:4]).view("<u2") >> np.arange(0, 16, 2, dtype=np.uint16) & 3
    low = (b[..., 4:8, None] >> np.array([0, 4], np.uint8) & 15).reshape(high.shape)
    nibbles = _nibbles(b[..., 8:].reshape(*b.shape[:-1], 8, 16))
    return SuperblockTensor(
        format="IQ4_XS", integers=_groups(FOUR_BIT_VALUES[nibbles]),
        factors=_groups(_signed(low | high.astype(np.uint8) << 4, 32), 1), scales=_float(b, 0),
    )  # fmt: skip


def _format(size: int, num_bytes: int, halves: tuple[int, ...], computed: str, unpack: Callable) -> BlockFormat:
    return BlockFormat(size=size, num_bytes=num_bytes, halves=halves, computed=computed, unpack=unpack)


BLOCK_FORMATS = {
    "Q4_0": _format(32, 18, (0,), "w4a8", _q4_0),
    "Q4_1": _format(32, 20, (0, 2), "Q4_1", _q4_1),
    "Q5_0": _format(32, 22, (0,), "w8a8", _q5_0),
    "Q5_1": _format(32, 24, (0, 2), "Q5_1", _q5_1),
    "Q8_0": _format(32, 34, (0,), "w8a8", _q8_0),
    "IQ4_NL": _format(32, 18, (0,), "w8a8", _iq4_nl),
    "MXFP4": _format(32, 17, (), "MXFP4", _mxfp4),
    "Q2_K": _format(256, 84, (80, 82), "Q2_K", _q2_k),
    "Q3_K": _format(256, 110, (108,), "Q3_K", _q3_k),
    "Q4_K": _format(256, 144, (0, 2), "Q4_K", _q4_k),
    "Q5_K": _format(256, 176, (0, 2), "Q5_K", _q5_k),
    "Q6_K": _format(256, 210, (208,), "Q6_K", _q6_k),
    "IQ4_XS": _format(256, 136, (0,), "IQ4_XS", _iq4_xs),
}
