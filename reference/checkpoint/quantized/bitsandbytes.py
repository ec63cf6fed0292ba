"""bitsandbytes: nf4 and fp4, numbers of a table of sixteen, and LLM.int8 (https://github.com/bitsandbytes-foundation/bitsandbytes).

4 bits: weight uint8 (outputs * inputs / 2, 1), two to a byte, the first in the high half; weight.quant_map the table,
weight.absmax a factor for each block of the matrix in a row, and weight.quant_state.* its sizes as JSON in bytes. A
factor may be a byte of a second table (nested). 8 bits: weight int8 (outputs, inputs), SCB float32 (outputs,).
"""

import json
import math
from typing import Any

import numpy as np

from verbatim.reference.checkpoint.quantized.float8 import to_bfloat16
from verbatim.reference.checkpoint.quantized.matrices import MadeTensor, Packed, RoundedTensor, make_matrix
from verbatim.reference.checkpoint.quantized.parts import Parts
from verbatim.reference.checkpoint.quantized.settings import Settings
from verbatim.reference.records.errors import ModelError

STATES = tuple(f"weight.quant_state.bitsandbytes__{name}" for name in ("nf4", "fp4"))
ENDS = (
    "weight", "SCB", "weight_format", "weight.absmax", "weight.quant_map", "weight.nested_absmax",
    "weight.nested_quant_map", *STATES,
)  # fmt: skip
TABLE, BYTE_TABLE = 16, 256
LARGEST = {"BF16": 3.38e38, "F16": 65504, "F32": 3.4e38}
DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


def read_matrix(parts: Parts, settings: Settings) -> MadeTensor:
    """The matrix of these parts, of 4 bits or of 8."""
    return _int8(parts) if "SCB" in parts else _four_bits(parts)


def _int8(parts: Parts) -> MadeTensor:
    """A weight is integer * (SCB / 127)."""
    stored = parts.get("weight", ("I8",)).bits
    if stored.ndim != 2 or not stored.size:
        raise ModelError(f"weights: tensor {parts.name}.weight has shape {stored.shape}, not that of a matrix")
    outputs, num_inputs = stored.shape
    if "weight_format" in parts and parts.get("weight_format", ("U8",)).bits.any():
        raise ModelError(f"weights: tensor {parts.name}.weight_format is not 0: only rows in order are supported")
    scales = parts.numbers("SCB", (outputs,), (outputs, 1)).astype(np.float32).reshape(-1, 1) * np.float32(1 / 127)
    packed = Packed(
        bits=8, num_inputs=num_inputs, group_size=num_inputs, integers=lambda first, last: stored[first:last],
        scales=lambda first, last: scales[first:last],
    )  # fmt: skip
    return make_matrix(f"{parts.name}.weight", stored, outputs, packed)


def _four_bits(parts: Parts) -> RoundedTensor:
    """A weight is its number of the table * its block's factor in float32, rounded to the dtype that the file names."""
    state = _state(parts)
    (outputs, num_inputs), block = state["shape"], state["blocksize"]
    count = outputs * num_inputs
    stored = parts.get("weight", ("U8",), (-(-count // 2), 1), (1, -(-count // 2)), (-(-count // 2),)).bits.reshape(-1)
    table = parts.numbers("weight.quant_map", (TABLE,)).astype(np.float32)
    factors = _factors(parts, state, -(-count // block))
    dtype = DTYPES[state["dtype"]]

    def make(first: int, last: int) -> np.ndarray:
        begin, end = first * num_inputs, last * num_inputs
        pairs = stored[begin // 2 : -(-end // 2)]
        chosen = np.stack([pairs >> 4, pairs & 15], axis=-1).reshape(-1)[begin % 2 :][: end - begin]
        each = np.repeat(factors[begin // block : -(-end // block)], block)[begin % block :][: end - begin]
        return _rounded((table[chosen] * each).reshape(last - first, num_inputs), dtype)

    def is_sound() -> bool:
        return bool(np.abs(table).max() * np.abs(factors).max() < LARGEST[dtype])  # false for what is no number

    return RoundedTensor(
        name=f"{parts.name}.weight", dtype=dtype, bits=stored, num_inputs=num_inputs, chosen=np.arange(outputs),
        make=make, is_sound=is_sound,
    )  # fmt: skip


def _factors(parts: Parts, state: dict[str, Any], num_blocks: int) -> np.ndarray:
    """float32 (blocks,): as stored, or a byte's number of a second table * a factor of its block + an offset."""
    if "weight.nested_absmax" not in parts:
        return parts.get("weight.absmax", ("F32",), (num_blocks,)).float32()
    chosen = parts.get("weight.absmax", ("U8",), (num_blocks,)).bits
    size, offset = state.get("nested_blocksize"), state.get("nested_offset", math.nan)
    if type(size) is not int or size < 1 or type(offset) not in (int, float) or not math.isfinite(offset):
        raise ModelError(f"weights: tensor {parts.name}.weight.quant_state needs nested_blocksize and nested_offset")
    outer = parts.numbers("weight.nested_absmax", (-(-num_blocks // size),)).astype(np.float32)
    table = parts.numbers("weight.nested_quant_map", (BYTE_TABLE,)).astype(np.float32)
    return table[chosen] * np.repeat(outer, size)[:num_blocks] + np.float32(offset)


def _state(parts: Parts) -> dict[str, Any]:
    """The JSON of `quant_state`, checked."""
    name = next((end for end in STATES if end in parts), STATES[0])
    stored = parts.get(name, ("U8",)).bits
    try:
        state = json.loads(stored.tobytes())
    except ValueError:
        raise ModelError(f"weights: tensor {parts.name}.{name} is no JSON text") from None
    shape = state.get("shape") if isinstance(state, dict) else None
    is_shape = (
        isinstance(shape, list) and len(shape) == 2 and all(type(size) is int and 0 < size < 1 << 31 for size in shape)
    )
    if not is_shape or type(state.get("blocksize")) is not int or state["blocksize"] < 1:
        raise ModelError(f"weights: tensor {parts.name}.{name} needs shape and blocksize, not {str(state)[:100]}")
    if state.get("dtype") not in DTYPES:
        raise ModelError(
            f"weights: tensor {parts.name}.{name} has dtype {state.get('dtype')!r}, not {', '.join(DTYPES)}"
        )
    return state


def _rounded(numbers: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "F32":
        return numbers
    return numbers.astype(np.float16) if dtype == "F16" else to_bfloat16(numbers)
