"""MLC's quantisations: how its integers lie in words of 32 bits, and the matrices of N4, N4g and N3 that they make.

Group quantisation: a weight is scale * (u - z), z = 7 for 4 bits and 3 for 3 bits; a word holds 32 // bits of them, the
lowest bits first, a group is four words. With the inputs of an output in a row ("NK"): q_weight uint32 (outputs, 4 *
groups), q_scale (outputs, groups); else ("KN") both transposed. Embeddings and experts are always NK.
"""

from dataclasses import dataclass

import numpy as np

from verbatim.reference.checkpoint.quantized import awq
from verbatim.reference.checkpoint.quantized.matrices import MadeTensor, Packed, make_matrix
from verbatim.reference.checkpoint.quantized.parts import Parts, fields
from verbatim.reference.checkpoint.quantized.settings import AWQ, Settings
from verbatim.reference.checkpoint.weights import FLOATS
from verbatim.reference.records.errors import ModelError

WORDS_A_GROUP = 4
FLOAT = ("q0f16", "q0bf16", "q0f32")
AUTO_AWQ = "q4f16_autoawq"
INSTEAD = "give an artifact of one of these, or the checkpoint that it was made of"


@dataclass(frozen=True, slots=True)
class GroupFormat:
    """Bits of an integer, inputs of a group, and whether linear layers are stored with their inputs as rows."""

    bits: int
    group_size: int
    is_transposed: bool


GROUPS = {
    "q3f16_0": GroupFormat(3, 40, True), "q3f16_1": GroupFormat(3, 40, False), "q4f16_0": GroupFormat(4, 32, True),
    "q4bf16_0": GroupFormat(4, 32, True), "q4f16_1": GroupFormat(4, 32, False),
    "q4bf16_1": GroupFormat(4, 32, False), "q4f32_1": GroupFormat(4, 32, False), "q4f16_2": GroupFormat(4, 32, False),
}  # fmt: skip
SUPPORTED = (*FLOAT, *GROUPS, AUTO_AWQ)
REASONS = {
    "q4f16_ft": "its integers lie in an order of their own for one kind of GPU",
    "e5m2_e5m2_f16": "float8 of MLC is not read", "e4m3_e4m3_f16": "float8 of MLC is not read",
}  # fmt: skip
ENDS = {False: ("q_weight", "q_scale"), True: ("qweight", "qzeros", "scales")}  # with AWQ or not


def check_format(name: object) -> str:
    """The quantisation of mlc-chat-config.json; ModelError for one that is not read."""
    if isinstance(name, str) and name in SUPPORTED:
        return name
    reason = f" ({REASONS[name]})" if isinstance(name, str) and name in REASONS else ""
    raise ModelError(f"quantization {name!r} is not supported{reason}; supported: {', '.join(SUPPORTED)}: {INSTEAD}")


def read_matrix(name: str, parts: Parts, num_inputs: int, *, is_row_major: bool) -> MadeTensor:
    """The matrix of these parts, by the quantisation of that name; `is_row_major` ones are stored NK in any case."""
    if name == AUTO_AWQ:
        return awq.read_matrix(parts, Settings(method=AWQ, text=name, bits=4, group_size=128, needs=("qzeros",)))
    found = GROUPS[name]
    is_transposed = found.is_transposed and not is_row_major
    words, num_groups = parts.words("q_weight"), -(-num_inputs // found.group_size)
    outputs = words.shape[1 if is_transposed else 0]
    words = parts.words("q_weight", _shape(outputs, WORDS_A_GROUP * num_groups, is_transposed))
    scales = parts.get("q_scale", FLOATS, _shape(outputs, num_groups, is_transposed))
    numbers = scales.bits if scales.dtype == "F16" else scales.float32()
    numbers = numbers.T if is_transposed else numbers
    sign, zero = (-1, 7) if found.bits == 4 else (1, 3)

    def integers(first: int, last: int) -> np.ndarray:
        """u - z, or z - u with the other sign of the scale for 4 bits: from -8 to 7, as w4a8 has them."""
        if is_transposed:
            unpacked = fields(words[:, first:last], found.bits, along=0)[:num_inputs].T
        else:
            unpacked = fields(words[first:last], found.bits, along=1)[:, :num_inputs]
        return np.ascontiguousarray((unpacked.view(np.int8) - np.int8(zero)) * np.int8(sign))

    packed = Packed(
        bits=found.bits, num_inputs=num_inputs, group_size=found.group_size, integers=integers,
        scales=lambda first, last: numbers.dtype.type(sign) * numbers[first:last],
        group_of=np.arange(num_inputs) // found.group_size if found.bits == 3 else None,
    )  # fmt: skip
    return make_matrix(f"{parts.name}.weight", words, outputs, packed)


def _shape(outputs: int, others: int, is_transposed: bool) -> tuple[int, int]:
    return (others, outputs) if is_transposed else (outputs, others)
