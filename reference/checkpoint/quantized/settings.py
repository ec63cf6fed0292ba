"""`quantization_config` of config.json: by which tool a checkpoint was quantised, and how it is laid out.

What is not read is refused by name, with what to give instead.
"""

from dataclasses import dataclass
from typing import Any

from verbatim.reference.numerics.quantization import GROUP_SIZE, METHODS
from verbatim.reference.records.errors import ModelError

KEY = "quantization_config"
INSTEAD = "give the float checkpoint, and --quantization w8a8 or w4a8, or a GGUF file"
AWQ, GPTQ, COMPRESSED, FP8, MXFP4, BITSANDBYTES = METHODS
CONVENTIONS = {"gptq": 1, "gptq_v2": 0}  # what is added to a stored zero point
COMPRESSED_FORMATS = (
    "dense", "pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "mixed-precision",
)  # fmt: skip
STRATEGIES = ("tensor", "channel", "group", "block")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A method of METHODS, what is told of it in a few words, and how its integers are laid out.

    `bits` is the size of an integer, `group_size` the number of inputs that share a scale (0: all inputs), and
    `zero_offset` what is added to a stored zero point; all are 0 where the tensors themselves say it. `block` is the
    outputs and inputs that share a scale, `needs` the tensors without which a matrix would be taken for another.
    """

    method: str
    text: str
    bits: int = 0
    group_size: int = 0
    zero_offset: int = 0
    block: tuple[int, int] = (0, 0)
    needs: tuple[str, ...] = ()


def read_settings(raw: dict) -> Settings | None:
    """The settings of config.json, None for a checkpoint that has none; ModelError for what is not read here."""
    text = raw.get("text_config")
    found = raw.get(KEY) or (text.get(KEY) if isinstance(text, dict) else None)
    if not found:
        return None
    method = found.get("quant_method") if isinstance(found, dict) else None
    readers = {AWQ: _awq, GPTQ: _gptq, COMPRESSED: _compressed, FP8: _fp8, MXFP4: _mxfp4, BITSANDBYTES: _bitsandbytes}
    if not isinstance(method, str) or method not in readers:
        shown = method if isinstance(method, str) else "of no name"
        raise ModelError(
            f"config.json: {KEY} is not supported (method {shown}; supported: {', '.join(METHODS)}): {INSTEAD}"
        )
    return readers[method](found)


def _awq(found: dict) -> Settings:
    bits = found.get("bits", found.get("w_bit"))
    _check(AWQ, "bits", bits, (4,))
    _check(AWQ, "version", str(found.get("version") or "gemm").lower(), ("gemm",))
    size = _group_size(AWQ, found.get("group_size", found.get("q_group_size", 128)))
    needs = () if found.get("zero_point") is False else ("qzeros",)
    return Settings(method=AWQ, text=f"AWQ, {bits} bits, {_groups(size)}", bits=4, group_size=size, needs=needs)


def _gptq(found: dict) -> Settings:
    bits, convention = found.get("bits"), found.get("checkpoint_format") or "gptq"
    _check(GPTQ, "bits", bits, (4, 8))
    _check(GPTQ, "checkpoint_format", convention, tuple(CONVENTIONS))
    for name in ("dynamic", "is_marlin_format"):
        _check(GPTQ, name, found.get(name) or None, (None,))
    size = _group_size(GPTQ, found.get("group_size", -1))
    order, needs = (", act-order", ("g_idx",)) if found.get("desc_act") else ("", ())
    return Settings(
        method=GPTQ, text=f"GPTQ, {bits} bits, {_groups(size)}{order}", bits=int(bits or 0), group_size=size,
        zero_offset=CONVENTIONS[str(convention)], needs=needs,
    )  # fmt: skip


def _compressed(found: dict) -> Settings:
    _check(COMPRESSED, "format", found.get("format", "dense"), COMPRESSED_FORMATS)
    _check(COMPRESSED, "transform_config", found.get("transform_config") or None, (None,))
    sparsity = found.get("sparsity_config") or {}
    _check(
        COMPRESSED, "sparsity_config.format", _object(sparsity, "sparsity_config").get("format", "dense"), ("dense",)
    )
    groups = _object(found.get("config_groups") or {}, "config_groups")
    texts = [_compressed_group(name, _object(group, f"config_groups.{name}")) for name, group in groups.items()]
    text = ", ".join(["compressed-tensors", *dict.fromkeys(texts)])
    weights = [group.get("weights") or {} for group in groups.values()]
    blocks = {_block(COMPRESSED, "block_structure", part.get("block_structure")) for part in weights} - {(0, 0)}
    if len(blocks) > 1:
        raise ModelError(f"config.json: {KEY} (method {COMPRESSED}): block_structure must be the same in all groups")
    conditions = {
        "weight_zero_point": all(part.get("symmetric") is False for part in weights),
        "weight_g_idx": all(part.get("actorder") == "group" for part in weights),
    }
    needs = tuple(end for end, is_needed in conditions.items() if weights and is_needed)
    return Settings(method=COMPRESSED, text=text, block=next(iter(blocks), (0, 0)), needs=needs)


def _compressed_group(name: str, group: dict) -> str:
    """Check how one group of layers is stored; returns it in words."""
    place = f"config_groups.{name}"
    _check(COMPRESSED, f"{place}.format", group.get("format") or "dense", COMPRESSED_FORMATS)
    _check(COMPRESSED, f"{place}.output_activations", group.get("output_activations"), (None,))
    weights = _object(group.get("weights") or {}, f"{place}.weights")
    number_type = weights.get("type", "int")
    _check(COMPRESSED, f"{place}.weights.type", number_type, ("int", "float"))
    bits, strategy = weights.get("num_bits", 8), weights.get("strategy") or "tensor"
    _check(COMPRESSED, f"{place}.weights.num_bits", bits, (4, 8) if number_type == "int" else (8,))
    _check(COMPRESSED, f"{place}.weights.strategy", strategy, STRATEGIES)
    size = f" of {weights.get('group_size')}" if strategy == "group" else ""
    return f"{bits} bits, {strategy}s{size}" if number_type == "int" else f"float8, {strategy}s"


def _fp8(found: dict) -> Settings:
    _check(FP8, "fmt", found.get("fmt") or "e4m3", ("e4m3", "float8_e4m3fn"))
    block = _block(FP8, "weight_block_size", found.get("weight_block_size"))
    return Settings(method=FP8, text=f"FP8, blocks of {block[0]} by {block[1]}" if any(block) else "FP8", block=block)


def _mxfp4(found: dict) -> Settings:
    """Which matrices are floats, their tensors say (interleaved_experts.py)."""
    return Settings(method=MXFP4, text="MXFP4")


def _bitsandbytes(found: dict) -> Settings:
    """4 bits or 8; which matrices are floats, their tensors say."""
    if found.get("load_in_4bit"):
        name = found.get("bnb_4bit_quant_type", "fp4")
        _check(BITSANDBYTES, "bnb_4bit_quant_type", name, ("nf4", "fp4"))
        _check(BITSANDBYTES, "bnb_4bit_quant_storage", found.get("bnb_4bit_quant_storage") or "uint8", ("uint8",))
        nested = ", factors of 8 bits" if found.get("bnb_4bit_use_double_quant") else ""
        return Settings(method=BITSANDBYTES, text=f"bitsandbytes, {name}{nested}")
    _check(BITSANDBYTES, "load_in_8bit", found.get("load_in_8bit"), (True,))
    return Settings(method=BITSANDBYTES, text="bitsandbytes, int8")


def _block(method: str, name: str, block: Any) -> tuple[int, int]:
    """The outputs and inputs of a block; (0, 0) where there is none."""
    if block is None:
        return 0, 0
    if not isinstance(block, list) or len(block) != 2 or not all(type(size) is int and size > 0 for size in block):
        raise ModelError(f"config.json: {KEY} (method {method}): {name} must be two sizes, not {block!r}")
    return block[0], block[1]


def _check(method: str, name: str, value: Any, supported: tuple) -> None:
    """ModelError for a value that is none of the supported ones; true is not 1 here."""
    if not any(type(value) is type(known) and value == known for known in supported):
        known = "absent" if supported == (None,) else " or ".join(map(str, supported))
        raise ModelError(f"config.json: {KEY} (method {method}): {name} must be {known}, not {value!r}: {INSTEAD}")


def _object(value: Any, name: str) -> dict:
    if not isinstance(value, dict):
        raise ModelError(f"config.json: {KEY} (method {COMPRESSED}): {name} must be an object, not {value!r}")
    return value


def _group_size(method: str, size: Any) -> int:
    """0 for all inputs; the groups of N4 have to lie inside."""
    if type(size) is not int or (size != -1 and (size < 1 or size % GROUP_SIZE)):
        bound = f"-1 or a multiple of {GROUP_SIZE}"
        raise ModelError(f"config.json: {KEY} (method {method}): group_size must be {bound}, not {size!r}: {INSTEAD}")
    return max(size, 0)


def _groups(size: int) -> str:
    return f"groups of {size}" if size else "whole rows"
