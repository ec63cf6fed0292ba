"""Makes small models as AWQ, GPTQ, compressed-tensors and FP8 store them, written from the formats' descriptions.

`write_quantized` writes the model, and beside it the float model of the numbers that it stands for.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from small_models import SMALL, random_tensors
from verbatim.reference.checkpoint.source import open_source

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # which output lies at each place of a word
SHAPE = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "head_dim": 32}
SCALE_DTYPES = {"F16": np.float16, "F32": np.float32}
Stored = dict[str, tuple[str, np.ndarray]]  # end of a name -> dtype, bits
Encode = Callable[[np.ndarray], tuple[Stored, np.ndarray]]  # float weights -> parts, and what they stand for


def write_quantized(
    directory: Path, entry: dict, encode: Encode, *, kept: str = "none", are_all: bool = False, **changes
) -> tuple[Path, Path]:
    """A quantised model and its float one; matrices whose names contain `kept`, embedding and head stay float.

    With `are_all` they do not.
    """
    config = SMALL | SHAPE | {"torch_dtype": "float32"} | changes
    tensors, floats = {}, {}
    for name, values in random_tensors(config, seed=3, scale=0.1).items():
        stem = name.removesuffix(".weight")
        if values.ndim == 1 or kept in name or ("proj" not in name and not are_all):
            tensors[name], floats[name] = ("F32", values), values
            continue
        parts, floats[name] = encode(values)
        tensors |= {f"{stem}.{end}": part for end, part in parts.items()}
    for path, content, extra in ((directory / "model", tensors, {"quantization_config": entry}),
                                 (directory / "float", {n: ("F32", v) for n, v in floats.items()}, {})):  # fmt: skip
        path.mkdir(parents=True)
        (path / "config.json").write_text(json.dumps(config | extra))
        write_tensors(path / "model.safetensors", content)
    return directory / "model", directory / "float"


def quantize_directory(directory: Path, entry: dict, encode: Encode, ends: tuple[str, ...]) -> Path:
    """Make integers, in place, of the matrices of a float32 model whose names end so."""
    tensors: Stored = {}
    for name, tensor in open_source(directory).tensors().items():
        stem = name.removesuffix(".weight")
        if stem.endswith(ends):
            tensors |= {f"{stem}.{end}": part for end, part in encode(tensor.float32())[0].items()}
        else:
            tensors[name] = "F32", tensor.float32().copy()
    write_tensors(directory / "model.safetensors", tensors)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"quantization_config": entry}))
    return directory


def write_tensors(path: Path, tensors: Stored) -> None:
    """A safetensors file of several dtypes."""
    header, parts, offset = {}, [], 0
    for name, (dtype, values) in tensors.items():
        data = np.ascontiguousarray(values).tobytes()
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [offset, offset + len(data)]}
        parts.append(data)
        offset += len(data)
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + b"".join(parts))


def rounded(w, bits, group, *, symmetric, dtype=np.float16, group_of=None):
    """Integers from 0 (outputs, inputs), zero points and scales (outputs, groups), and the weights in float32."""
    size = group if group > 0 else w.shape[1]
    group_of = np.arange(w.shape[1]) // size if group_of is None else group_of
    top, count = (1 << bits) - 1, -(-w.shape[1] // size)
    scales, zeros = np.empty((len(w), count), dtype), np.empty((len(w), count), np.int64)
    for g in range(count):
        part = w[:, group_of == g]
        low, high = np.minimum(part.min(axis=1), 0), np.maximum(part.max(axis=1), 0)
        if symmetric:
            high = np.maximum(-low, high)
            low = -high
        scales[:, g] = (high - low) / top
        zeros[:, g] = 1 << bits - 1 if symmetric else np.rint(-low / scales[:, g].astype(np.float32))
    scale, zero = scales[:, group_of].astype(np.float32), zeros[:, group_of]
    q = np.clip(np.rint(w / scale).astype(np.int64) + zero, 0, top)
    return q, zeros, scales, scale * (q - zero).astype(np.float32)


def packed(integers, bits, order=None):
    """Words along the last axis, integer by integer, the first in the lowest bits."""
    per = 32 // bits
    filled = np.zeros((len(integers), -(-integers.shape[1] // per) * per), np.uint64)
    filled[:, : integers.shape[1]] = integers & ((1 << bits) - 1)
    words = np.zeros((len(integers), filled.shape[1] // per), np.uint64)
    for i in range(per):
        words |= filled[:, (order[i] if order else i) :: per] << np.uint64(bits * i)
    return words.astype(np.uint32).view(np.int32)


def awq(group=128, *, zero_point=True, has_zeros=True) -> Encode:
    def encode(w):
        q, zeros, scales, weights = rounded(w, 4, group, symmetric=not zero_point)
        parts = {"qweight": ("I32", packed(q.T, 4, AWQ_ORDER)), "scales": ("F16", scales.T)}
        return parts | ({"qzeros": ("I32", packed(zeros.T, 4, AWQ_ORDER))} if has_zeros else {}), weights

    return encode


def gptq(bits=4, group=128, *, symmetric=True, version=1, order=None) -> Encode:
    """`order` is "plain" for a g_idx in order, or "random" for act-order, whose weights are rounded to float16."""

    def encode(w):
        groups = np.arange(w.shape[1]) // (group if group > 0 else w.shape[1])
        if order == "random":
            groups = np.random.default_rng(w.shape[1]).permutation(groups)
        q, zeros, scales, weights = rounded(w, bits, group, symmetric=symmetric, group_of=groups)
        stored = packed(zeros.T, bits).view(np.uint32)
        if version == 1:  # a zero point of 0 borrows from the next one
            stored = stored - np.uint32({4: 0x11111111, 8: 0x01010101}[bits])
        parts = {
            "qweight": ("I32", packed(q, bits).T), "scales": ("F16", scales.T),
            "qzeros": ("I32", stored.view(np.int32)),
        }  # fmt: skip
        if order:
            parts["g_idx"] = "I32", groups.astype(np.int32)
        return parts, weights.astype(np.float16).astype(np.float32) if order == "random" else weights

    return encode


def words(bits=4, group=128, *, symmetric=True, dtype="F16") -> Encode:
    """compressed-tensors, pack-quantized."""

    def encode(w):
        q, zeros, scales, weights = rounded(w, bits, group, symmetric=symmetric, dtype=SCALE_DTYPES[dtype])
        parts = {
            "weight_packed": ("I32", packed(q, bits)), "weight_scale": (dtype, scales),
            "weight_shape": ("I64", np.array(w.shape, np.int64)),
        }  # fmt: skip
        return parts | ({} if symmetric else {"weight_zero_point": ("I32", packed(zeros.T, bits).T)}), weights

    return encode


def int8(group=-1, *, symmetric=True) -> Encode:
    """compressed-tensors, int-quantized, a scale for each output."""

    def encode(w):
        q, zeros, scales, weights = rounded(w, 8, group, symmetric=symmetric, dtype=np.float32)
        parts = {"weight": ("I8", (q - 128).astype(np.int8)), "weight_scale": ("F32", scales)}
        return parts | ({} if symmetric else {"weight_zero_point": ("I8", (zeros - 128).astype(np.int8))}), weights

    return encode


def float8(shares: str, *, end="weight_scale_inv", block=128) -> Encode:
    """Numbers of e4m3 chosen by a search for the nearest; the weights rounded to bfloat16."""
    table = [
        (-1) ** (b >> 7) * ((b & 7) / 8 + ((b >> 3 & 15) > 0)) * 2.0 ** (max(b >> 3 & 15, 1) - 7) for b in range(256)
    ]
    known = np.array([np.nan if b & 127 == 127 else value for b, value in enumerate(table)])

    def encode(w):
        height, width = {"tensor": w.shape, "channel": (1, w.shape[1]), "block": (block, block)}[shares]
        down, across = -(-w.shape[0] // height), -(-w.shape[1] // width)
        scales = np.empty((down, across), np.float32)
        for i in range(down):
            for j in range(across):
                part = w[i * height : (i + 1) * height, j * width : (j + 1) * width]
                scales[i, j] = np.abs(part).max() / 448
        each = scales.repeat(height, 0).repeat(width, 1)[: w.shape[0], : w.shape[1]]
        order = np.argsort(known)[:-2]
        places = np.clip(np.searchsorted(known[order], w / each), 1, len(order) - 1)
        is_lower = np.abs(known[order][places - 1] - w / each) < np.abs(known[order][places] - w / each)
        chosen = order[places - is_lower].astype(np.uint8)
        weights = known[chosen].astype(np.float32) * each
        bits = weights.view(np.uint32).astype(np.uint64)
        weights = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)
        shaped = scales.reshape(()) if shares == "tensor" else scales
        return {"weight": ("F8_E4M3", chosen), end: ("F32", shaped)}, weights

    return encode


def table4(name: str, *, dtype="bfloat16", block=64, nested=False) -> Encode:
    """bitsandbytes, 4 bits: the nearest of sixteen numbers, any sixteen, times the largest of a block in a row."""
    random = np.random.default_rng(len(name))
    known = np.sort(np.r_[-1, 0, 1, random.uniform(-1, 1, 13)]).astype(np.float32)
    bytes_ = np.sort(random.uniform(0, 1, 256)).astype(np.float32)

    def encode(w):
        blocks = w.reshape(-1, block)
        factors = np.abs(blocks).max(axis=1)
        state = {"quant_type": name, "blocksize": block, "dtype": dtype, "shape": list(w.shape)}
        parts = {"weight.absmax": ("F32", factors), "weight.quant_map": ("F32", known)}
        if nested:
            offset = float(np.float32(factors.mean()))
            outer = np.abs(np.pad(factors - np.float32(offset), (0, -len(factors) % 16)).reshape(-1, 16)).max(axis=1)
            each = np.repeat(outer, 16)[: len(factors)]
            chosen = np.abs(bytes_ - ((factors - np.float32(offset)) / each)[:, None]).argmin(axis=1).astype(np.uint8)
            factors = bytes_[chosen] * each + np.float32(offset)
            state |= {"nested_blocksize": 16, "nested_dtype": "float32", "nested_offset": offset}
            parts["weight.absmax"] = "U8", chosen
            parts |= {"weight.nested_absmax": ("F32", outer), "weight.nested_quant_map": ("F32", bytes_)}
        q = np.abs(known - (blocks / factors[:, None])[..., None]).argmin(axis=2).astype(np.uint8)
        pairs = q.reshape(-1, 2)
        text = np.frombuffer(json.dumps(state).encode(), np.uint8)
        parts["weight"] = "U8", pairs[:, :1] << 4 | pairs[:, 1:]
        parts[f"weight.quant_state.bitsandbytes__{name}"] = "U8", text
        weights = (known[q] * factors[:, None]).reshape(w.shape)
        if dtype == "float16":
            return parts, weights.astype(np.float16).astype(np.float32)
        bits = weights.view(np.uint32).astype(np.uint64)
        rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)
        return parts, weights if dtype == "float32" else rounded

    return encode


def llm_int8(w):
    """bitsandbytes, LLM.int8: a factor of each output, 127 times its scale."""
    most = np.abs(w).max(axis=1)
    q = np.rint(w / most[:, None] * 127).astype(np.int8)
    parts = {"weight": ("I8", q), "SCB": ("F32", most), "weight_format": ("U8", np.zeros((), np.uint8))}
    return parts, q.astype(np.float32) * (most * np.float32(1 / 127))[:, None]


def put(end, make):
    """A change of one part: `make` gives its dtype and bits anew."""

    def change(parts):
        dtype, bits = parts[end]
        parts[end] = make(dtype, bits.copy())

    return change


def number(value):
    """A change of the first number of a part."""

    def change(dtype, bits):
        bits.reshape(-1)[0] = value
        return dtype, bits

    return change


def compressed(form: str, **weights) -> dict:
    """A quantization_config of compressed-tensors with one group of layers."""
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None}
    return {"quant_method": "compressed-tensors", "format": form, "config_groups": {"group_0": group}}


AWQ = {"quant_method": "awq", "bits": 4, "version": "gemm", "zero_point": True}
GPTQ = {"quant_method": "gptq", "desc_act": False}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
BNB = {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False, "bnb_4bit_quant_storage": "uint8"}
NF4, FP4 = BNB | {"bnb_4bit_quant_type": "nf4"}, BNB | {"bnb_4bit_quant_type": "fp4"}
INT4, INT8 = {"num_bits": 4, "type": "int"}, {"num_bits": 8, "type": "int"}
LAYOUTS: dict[str, tuple[dict, Encode, set[str]]] = {  # name -> quantization_config, encoder, formats of the matrices
    "awq-128": (AWQ | {"group_size": 128}, awq(128), {"w8a8"}),
    "awq-32": (AWQ | {"group_size": 32, "version": "GEMM"}, awq(32), {"w8a8"}),
    "awq-rows": (AWQ | {"group_size": -1}, awq(-1), {"w8a8"}),
    "awq-64-symmetric": (AWQ | {"group_size": 64, "zero_point": False}, awq(64, zero_point=False), {"w4a8"}),
    "awq-no-zeros": (
        AWQ | {"group_size": 64, "zero_point": False}, awq(64, zero_point=False, has_zeros=False), {"w4a8"},
    ),
    "gptq-4": (GPTQ | {"bits": 4, "group_size": 128, "sym": True}, gptq(4, 128), {"w4a8"}),
    "gptq-4-rows": (GPTQ | {"bits": 4, "group_size": -1}, gptq(4, -1, order="plain"), {"w4a8"}),
    "gptq-4-asymmetric": (GPTQ | {"bits": 4, "group_size": 32}, gptq(4, 32, symmetric=False), {"w8a8"}),
    "gptq-v2": (
        GPTQ | {"bits": 4, "group_size": 64, "checkpoint_format": "gptq_v2"},
        gptq(4, 64, symmetric=False, version=2), {"w8a8"},
    ),
    "gptq-8": (GPTQ | {"bits": 8, "group_size": 128}, gptq(8, 128), {"w8a8"}),
    "gptq-8-asymmetric": (GPTQ | {"bits": 8, "group_size": 64}, gptq(8, 64, symmetric=False), {"I8_MINIMUM"}),
    "gptq-act-order": (
        GPTQ | {"bits": 4, "group_size": 32, "desc_act": True}, gptq(4, 32, order="random"), {"F16"},
    ),
    "words-4": (compressed("pack-quantized", **INT4, strategy="group", group_size=128), words(4, 128), {"w4a8"}),
    "words-4-asymmetric": (
        compressed("pack-quantized", **INT4, strategy="group", group_size=32, symmetric=False),
        words(4, 32, symmetric=False, dtype="F32"), {"I8_SCALE"},
    ),
    "words-8": (compressed("pack-quantized", **INT8, strategy="channel"), words(8, -1), {"w8a8"}),
    "int8": (compressed("int-quantized", **INT8, strategy="channel"), int8(), {"I8_SCALE"}),
    "int8-asymmetric": (compressed("int-quantized", **INT8, strategy="channel"), int8(symmetric=False), {"I8_MINIMUM"}),
    "compressed-float8": (
        compressed("float-quantized", num_bits=8, type="float", strategy="channel"),
        float8("channel", end="weight_scale"), {"BF16"},
    ),
    "compressed-blocks": (
        compressed("float-quantized", num_bits=8, type="float", strategy="block", block_structure=[64, 64]),
        float8("block", end="weight_scale", block=64), {"BF16"},
    ),
    "fp8-block": (FP8 | {"weight_block_size": [128, 128]}, float8("block"), {"BF16"}),
    "fp8-tensor": (FP8, float8("tensor", end="weight_scale"), {"BF16"}),
    "nf4": (NF4, table4("nf4"), {"BF16"}),
    "nf4-nested": (NF4 | {"bnb_4bit_use_double_quant": True}, table4("nf4", nested=True, dtype="float32"), {"F32"}),
    "fp4": (FP4, table4("fp4", dtype="float16"), {"F16"}),
    "llm-int8": (BNB | {"load_in_4bit": False, "load_in_8bit": True}, llm_int8, {"I8_SCALE"}),
}  # fmt: skip
