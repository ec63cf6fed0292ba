"""Makes artifacts of MLC LLM from model directories, for tests, written from the description of its files."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np

from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.checkpoint.weights import load_weights

GROUPS = {  # quantization -> bits, inputs of a group, whether linear layers are transposed, dtype of the scales
    "q3f16_0": (3, 40, True, "float16"), "q3f16_1": (3, 40, False, "float16"), "q4f16_0": (4, 32, True, "float16"),
    "q4f16_1": (4, 32, False, "float16"), "q4bf16_1": (4, 32, False, "bfloat16"), "q4f32_1": (4, 32, False, "float32"),
}  # fmt: skip
FLOATS = {"q0f16": "float16", "q0bf16": "bfloat16", "q0f32": "float32"}
FUSED = {"qwen2": "c_attn", "qwen3": "c_attn", "qwen2_moe": "c_attn", "qwen3_moe": "c_attn", "starcoder2": "wqkv_pack"}
OWN_BASE = ("qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "stablelm", "starcoder2")  # whose rope_theta keeps its name
PHI3 = {"input_layernorm": "ln", "self_attn.qkv_proj": "mixer.qkv_proj", "self_attn.o_proj": "mixer.out_proj"}
PHI = {"input_layernorm": "ln", "self_attn.dense": "mixer.out_proj"}
CHATML = {
    "name": "chatml", "system_template": "<|im_start|>system\n{system_message}<|im_end|>\n",
    "system_message": "Be brief.", "system_prefix_token_ids": None, "add_role_after_system_message": True,
    "roles": {"user": "<|im_start|>user", "assistant": "<|im_start|>assistant"},
    "role_templates": {"user": "{user_message}", "assistant": "{assistant_message}", "tool": "{tool_message}"},
    "messages": [], "seps": ["<|im_end|>\n"], "role_content_sep": "\n", "role_empty_sep": "\n",
    "stop_str": ["<|im_end|>"], "stop_token_ids": [2], "function_string": "", "use_function_calling": False,
}  # fmt: skip


def bfloat16(x: np.ndarray) -> np.ndarray:
    """float32 numbers rounded to nearest-even, as their 16 bits."""
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)).astype(np.uint16)


def widened(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def stored(x: np.ndarray, dtype: str) -> np.ndarray:
    """Numbers as the file has them: float32 as bfloat16."""
    return x.astype(np.float16) if dtype == "float16" else bfloat16(x)


def quantized(w: np.ndarray, bits: int, group: int, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Words and scales as MLC stores them with inputs in rows, and the float32 weights that they stand for."""
    count, top, per = -(-w.shape[1] // group), (1 << bits - 1) - 1, 32 // bits
    padded = np.zeros((len(w), count * group), np.float32)
    padded[:, : w.shape[1]] = w
    shaped = padded.reshape(len(w), count, group)
    scales = stored(np.abs(shaped).max(axis=2) / top, dtype)
    each = (scales if dtype == "float16" else widened(scales)).astype(np.float32)[..., None]
    u = np.clip(np.rint(shaped / each + top), 0, 2 * top).astype(np.uint64)
    weights = ((u.astype(np.float32) - top) * each).reshape(len(w), -1)[:, : w.shape[1]]
    integers = u.reshape(len(w), -1)
    integers[:, w.shape[1] :] = 0
    words = sum(integers[:, i::per] << np.uint64(bits * i) for i in range(per)).astype(np.uint32)
    return words, scales, weights.astype(np.float16).astype(np.float32) if bits == 3 else weights


def write_mlc(
    path: Path, directory: Path, model_type: str, quantization: str, *, form: str = "f32-to-bf16",
    cache: str = "tensor-cache.json", **changes,
) -> dict[str, np.ndarray]:  # fmt: skip
    """An artifact of a model directory, with `changes` of mlc-chat-config.json; returns its numbers by old names."""
    path.mkdir(parents=True)
    raw, config = json.loads((directory / "config.json").read_text()), open_source(directory).config()
    parts, numbers, transposed = {}, {}, set()
    float_dtype = FLOATS.get(quantization) or GROUPS[quantization][3]
    for name, tensor in open_source(directory).tensors().items():
        values, stem = tensor.float32().copy(), name.removesuffix(".weight")
        if quantization in GROUPS and values.ndim == 2 and not stem.endswith("gate"):
            bits, group, is_transposed, dtype = GROUPS[quantization]
            words, scales, numbers[name] = quantized(values, bits, group, dtype)
            parts |= {f"{stem}.q_weight": words, f"{stem}.q_scale": scales}
            transposed |= {f"{stem}.{end}" for end in ("q_weight", "q_scale") if is_transposed and "embed" not in stem}
            continue
        is_plain = float_dtype == "float32" and form == "raw"
        kept = values if is_plain else stored(values, float_dtype)
        numbers[name] = kept if is_plain else kept.astype(np.float32) if float_dtype == "float16" else widened(kept)
        if model_type.startswith("gemma") and "norm" in name:
            kept = values + 1 if is_plain else stored(values + 1, float_dtype)
        parts[name] = kept
    if transposed:
        assert config.experts is None
    fused = _fused(parts, model_type, config.num_layers, config.experts)
    fused = {
        name: np.ascontiguousarray(array.T) if _unfused(name) & transposed else array for name, array in fused.items()
    }
    _write_shards(path, fused, float_dtype, form, cache)
    (path / "mlc-chat-config.json").write_text(json.dumps(_chat_config(raw, model_type, quantization) | changes))
    for file in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"):
        if (directory / file).exists():
            shutil.copy(directory / file, path)
    return numbers


def write_awq(path: Path, directory: Path) -> None:
    """An artifact of q4f16_autoawq from an AWQ checkpoint of a Llama: its words side by side, other floats float16."""
    path.mkdir(parents=True)
    raw = json.loads((directory / "config.json").read_text())
    left = {name: tensor.bits for name, tensor in load_weights(directory)._tensors.items()}
    tensors = {}
    for layer in range(raw["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for new, old in (("self_attn.qkv_proj", "self_attn.{}_proj qkv"), ("mlp.gate_up_proj", "mlp.{}_proj gate up")):
            form, *roles = old.split()
            names = [f"{prefix}{form.format(role)}" for role in (roles if len(roles) > 1 else roles[0])]
            for end in ("qweight", "qzeros", "scales"):
                tensors[f"{prefix}{new}.{end}"] = np.concatenate([left.pop(f"{name}.{end}") for name in names], axis=1)
    tensors |= left
    for name, array in tensors.items():
        tensors[name] = array.view(np.uint32) if array.dtype == np.int32 else array.astype(np.float16)
    _write_shards(path, tensors, "float16", "f32-to-bf16", "tensor-cache.json")
    (path / "mlc-chat-config.json").write_text(json.dumps(_chat_config(raw, "llama", "q4f16_autoawq")))


def _unfused(name: str) -> set[str]:
    """What a fused matrix was made of, so far as it says how it lies."""
    stem, _, end = name.rpartition(".")
    parts = {"qkv_proj": "q_proj", "c_attn": "q_proj", "gate_up_proj": "gate_proj"}
    outer, _, last = stem.rpartition(".")
    return {f"{outer}.{parts.get(last, last)}.{end}" if outer else name}


def _fused(parts: dict, model_type: str, num_layers: int, experts) -> dict[str, np.ndarray]:
    """Under MLC's names, matrices joined by their rows, experts stacked."""
    left, found = dict(parts), {}
    ends = ("weight", "bias", "q_weight", "q_scale")

    def join(new: str, *old: str) -> None:
        for end in ends:
            if f"{old[0]}.{end}" in left:
                found[f"{new}.{end}"] = np.concatenate([left.pop(f"{name}.{end}") for name in old])

    for layer in range(num_layers):
        prefix = f"model.layers.{layer}."
        if model_type not in ("gemma3_text", "phi3"):
            attention = (
                f"transformer.h.{layer}.mixer.Wqkv"
                if model_type == "phi"
                else f"{prefix}self_attn.{FUSED.get(model_type, 'qkv_proj')}"
            )
            join(attention, *(f"{prefix}self_attn.{part}_proj" for part in "qkv"))
        join(f"{prefix}mlp.gate_up_proj", f"{prefix}mlp.gate_proj", f"{prefix}mlp.up_proj")
        join(
            f"{prefix}mlp.shared_expert.gate_up_proj",
            f"{prefix}mlp.shared_expert.gate_proj",
            f"{prefix}mlp.shared_expert.up_proj",
        )
        if experts:
            _stack(left, found, prefix, model_type == "mixtral", experts.num_experts, ends)
    return found | {_renamed(name, model_type): array for name, array in left.items()}


def _stack(left: dict, found: dict, prefix: str, is_mixtral: bool, count: int, ends: tuple[str, ...]) -> None:
    part, gate, up, down = (
        ("block_sparse_moe", "w1", "w3", "w2") if is_mixtral else ("mlp", "gate_proj", "up_proj", "down_proj")
    )
    gates, downs = ("moe.e1_e3", "moe.e2") if is_mixtral else ("mlp.moe_gate_up_proj", "mlp.moe_down_proj")
    for end in ends:
        names = [f"{prefix}{part}.experts.{i}." for i in range(count)]
        if f"{names[0]}{gate}.{end}" in left:
            found[f"{prefix}{gates}.{end}"] = np.stack(
                [np.concatenate([left.pop(f"{n}{r}.{end}") for r in (gate, up)]) for n in names]
            )
            found[f"{prefix}{downs}.{end}"] = np.stack([left.pop(f"{n}{down}.{end}") for n in names])
    if is_mixtral:
        found[f"{prefix}moe.gate.weight"] = left.pop(f"{prefix}block_sparse_moe.gate.weight")


def _renamed(name: str, model_type: str) -> str:
    if model_type == "gemma3_text":
        return f"language_model.{name}"
    if model_type not in ("phi", "phi3"):
        return name
    for old, new in {
        "model.embed_tokens": "transformer.embd",
        "model.norm": "transformer.norm",
        "model.layers.": "transformer.h.",
    }.items():
        name = name.replace(old, new)
    if model_type == "phi":
        name = name.replace("model.final_layernorm", "lm_head.ln").replace("lm_head.weight", "lm_head.linear.weight")
        name = name.replace("lm_head.bias", "lm_head.linear.bias")
    for old, new in (PHI if model_type == "phi" else PHI3).items():
        name = name.replace(f".{old}.", f".{new}.")
    return name


def _chat_config(raw: dict, model_type: str, quantization: str) -> dict:
    """As gen_config writes it."""
    given = {name: value for name, value in raw.items() if name not in ("architectures", "model_type", "torch_dtype")}
    context, window = raw["max_position_embeddings"], raw.get("sliding_window") or -1
    sizes = {
        "context_window_size": context,
        "prefill_chunk_size": 64,
        "tensor_parallel_shards": 1,
        "max_batch_size": 128,
    }
    if model_type != "phi3":
        del given["max_position_embeddings"]
    if model_type not in OWN_BASE and "rope_theta" in given:
        given["position_embedding_base"] = given.pop("rope_theta")
    if model_type == "mistral":
        sizes["sliding_window_size"] = window
        given.pop("sliding_window", None)
    given |= sizes
    if model_type == "gemma3_text":
        given["sliding_window_size"] = given.pop("sliding_window")
        given = {"text_config": given, "vocab_size": raw["vocab_size"], "is_text_model": True}
    return {
        "version": "0.1.0", "model_type": model_type, "quantization": quantization, "model_config": given,
        "vocab_size": raw["vocab_size"], "context_window_size": context, "attention_sink_size": -1,
        "sliding_window_size": window if model_type in ("mistral", "gemma3_text") else -1, "prefill_chunk_size": 64,
        "tensor_parallel_shards": 1,
        "temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.0, "bos_token_id": 1, "eos_token_id": 2,
        "tokenizer_files": ["tokenizer.model"], "conv_template": CHATML,
    }  # fmt: skip


def _write_shards(path: Path, tensors: dict[str, np.ndarray], float_dtype: str, form: str, cache: str) -> None:
    """Two shards and their list."""
    names, records = list(tensors), []
    for number, part in enumerate((names[::2], names[1::2])):
        content, entries = b"", []
        for name in part:
            array = np.ascontiguousarray(tensors[name])
            entries.append({
                "name": name, "shape": list(array.shape), "nbytes": array.nbytes, "byteOffset": len(content),
                "dtype": "uint32" if array.dtype == np.uint32 else float_dtype, "format": form,
            })  # fmt: skip
            content += array.tobytes()
        file = f"params_shard_{number}.bin"
        (path / file).write_bytes(content)
        records.append({
            "dataPath": file, "format": "raw-shard", "nbytes": len(content), "md5sum": hashlib.md5(content).hexdigest(),
            "records": entries,
        })  # fmt: skip
    (path / cache).write_text(json.dumps({"metadata": {"ParamSize": len(names)}, "records": records}))
