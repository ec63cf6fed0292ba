"""From a ModelConfig to the metadata of a GGUF file, as llama.cpp names it: the other direction of shapes.py.

What is written is read back at once: a model that the metadata cannot describe in full is refused, with what differs.
"""

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from verbatim.reference.checkpoint.families import make_config
from verbatim.reference.checkpoint.gguf.header import Entry
from verbatim.reference.checkpoint.gguf.metadata import Metadata
from verbatim.reference.checkpoint.gguf.shapes import biases, raw_config
from verbatim.reference.numerics.rotary import inverse_frequencies
from verbatim.reference.records.config import LayerConfig, ModelConfig
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.rope import Rope, RopeScaling

NAMES = {  # family -> `general.architecture`
    "llama": "llama", "mistral": "llama", "mixtral": "llama", "internlm2": "llama", "qwen2": "qwen2", "qwen3": "qwen3",
    "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "gemma": "gemma", "gemma2": "gemma2", "gemma3": "gemma3",
    "phi": "phi2", "phi3": "phi3", "olmo2": "olmo2", "olmo3": "olmo2", "olmoe": "olmoe", "granite": "granite",
    "granitemoe": "granitemoe", "smollm3": "smollm3", "stablelm": "stablelm", "starcoder2": "starcoder2",
    "seed_oss": "seed_oss",
}  # fmt: skip
# What may differ when it is read back.
FREE = ("family", "quantization", "norm_offset", "eos_ids", "bos_id", "has_fused_matrices", "tie_embeddings")
FACTORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


def architecture_name(config: ModelConfig) -> str:
    """`general.architecture`; ModelError for a family that is not written."""
    if config.family not in NAMES:
        raise ModelError(
            f"a model of the family {config.family!r} cannot be written as GGUF; those of {', '.join(NAMES)} can"
        )
    return NAMES[config.family]


def describe(config: ModelConfig) -> dict[str, Any]:
    """Metadata by its full names: numbers, flags, texts, lists."""
    name = architecture_name(config)
    rope = next((layer.rope for layer in reversed(config.layers) if layer.rope), None)
    epsilon = "layer_norm_epsilon" if config.norm_type == "layer" else "layer_norm_rms_epsilon"
    found: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "context_length": config.context_size,
        "embedding_length": config.hidden_size,
        "block_count": config.num_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_heads,
        "attention.head_count_kv": config.num_kv_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        f"attention.{epsilon}": config.norm_epsilon,
        **_experts(config), **_windows(config, name), **_scales(config, name),
        **(_rope(rope, name) if rope else {}),
    }  # fmt: skip
    if name == "stablelm":
        found["use_parallel_residual"] = config.norms == "parallel"
    return {"general.architecture": name} | {
        f"{name}.{key}": value for key, value in found.items() if value is not None
    }


def factor_tensors(config: ModelConfig) -> dict[str, np.ndarray]:
    """Factors of single frequencies, float32, by the names of their tensors."""
    scaling = next((layer.rope.scaling for layer in reversed(config.layers) if layer.rope), None)
    if scaling is None:
        return {}
    if scaling.rope_type == "llama3":
        return {FACTORS[0]: _llama3_factors(config.layers[-1].rope).astype(np.float32)}
    return _factors(scaling) if scaling.rope_type == "longrope" else {}


def _factors(scaling: RopeScaling) -> dict[str, np.ndarray]:
    if not scaling.short and scaling.attention_factor == 1.0:  # Llama 3's of another GGUF file
        return {FACTORS[0]: np.array(scaling.factors, np.float32)}
    short = (scaling.short or scaling).factors
    return {FACTORS[1]: np.array(scaling.factors, np.float32), FACTORS[2]: np.array(short, np.float32)}


def check_description(config: ModelConfig, found: dict[str, Any], tensors: dict[str, np.ndarray | None]) -> None:
    """ModelError if this would be read as another model; `tensors` are all, those of factors with their values."""
    entries = {name: _entry(name, values, config) for name, values in tensors.items()}
    values = {name: np.array(value) if isinstance(value, list) else value for name, value in found.items()}
    metadata = Metadata(Path("GGUF"), {name: _float32(value) for name, value in values.items()})
    read = make_config(raw_config(metadata, entries), {}, norm_offset=0.0, **biases(entries))
    for field in fields(ModelConfig):
        wanted, made = _comparable(getattr(config, field.name)), _comparable(getattr(read, field.name))
        if field.name not in FREE and wanted != made:
            raise ModelError(
                f"this model cannot be written as GGUF: {field.name} is {str(wanted)[:200]}, "
                f"and would be read as {str(made)[:200]}"
            )


def _entry(name: str, values: np.ndarray | None, config: ModelConfig) -> Entry:
    data = np.zeros(0, np.uint8) if values is None else np.ascontiguousarray(values).view(np.uint8)
    return Entry(name=name, format="F32", shape=(config.vocab_size, 1) if values is None else values.shape, data=data)


def _experts(config: ModelConfig) -> dict[str, Any]:
    experts = config.experts
    if experts is None:
        return {}
    return {
        "expert_count": experts.num_experts, "expert_used_count": experts.num_per_token,
        "expert_feed_forward_length": experts.intermediate_size, "expert_weights_norm": experts.is_normalized,
        "expert_shared_feed_forward_length": experts.shared_size or None,
    }  # fmt: skip


def _windows(config: ModelConfig, name: str) -> dict[str, Any]:
    """A sliding window; OLMo 3 lists its layers."""
    windows = {layer.window for layer in config.layers if layer.window}
    if not windows:
        return {}
    if len(windows) > 1:
        raise ModelError(f"a model of several windows ({sorted(windows)}) cannot be written as GGUF")
    pattern = [layer.window is not None for layer in config.layers] if name == "olmo2" else None
    rope = next((layer.rope for layer in config.layers if layer.window and layer.rope), None)
    near = rope.theta if rope and name == "gemma3" else None
    return {
        "attention.sliding_window": max(windows),
        "attention.sliding_window_pattern": pattern,
        "rope.freq_base_swa": near,
    }


def _scales(config: ModelConfig, name: str) -> dict[str, Any]:
    """Caps, and Granite's factors."""
    found: dict[str, Any] = {
        "attn_logit_softcapping": config.attention_softcap,
        "final_logit_softcapping": config.final_softcap,
    }
    if name.startswith("granite"):
        found |= {
            "embedding_scale": config.embedding_scale, "attention.scale": config.attention_scale,
            "residual_scale": config.residual_scale, "logit_scale": config.logits_divisor,
        }  # fmt: skip
    return found


def _rope(rope: Rope, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {"rope.dimension_count": rope.rotary_dim, "rope.freq_base": rope.theta}
    scaling = rope.scaling
    if scaling is None or scaling.rope_type == "llama3":
        return found
    if scaling.rope_type == "longrope":
        return found | {
            "rope.scaling.type": None if name == "phi3" or FACTORS[0] in _factors(scaling) else "longrope",
            "rope.scaling.attn_factor": scaling.attention_factor,
            "rope.scaling.original_context_length": scaling.short.original_context if scaling.short else None,
        }
    found |= {"rope.scaling.type": scaling.rope_type, "rope.scaling.factor": scaling.factor}
    if scaling.rope_type == "yarn":
        found |= {
            "rope.scaling.original_context_length": scaling.original_context,
            "rope.scaling.yarn_beta_fast": scaling.beta_fast, "rope.scaling.yarn_beta_slow": scaling.beta_slow,
        }  # fmt: skip
    return found


def _llama3_factors(rope: Rope | None) -> np.ndarray:
    """What divides each frequency."""
    assert rope is not None
    return inverse_frequencies(replace(rope, scaling=None)) / inverse_frequencies(rope)


def _comparable(value: Any) -> Any:
    """With floats as the file holds them, and Llama 3's stretch as its factors."""
    if (
        isinstance(value, LayerConfig)
        and value.rope
        and value.rope.scaling
        and value.rope.scaling.rope_type == "llama3"
    ):
        factors = tuple(float(factor) for factor in _llama3_factors(value.rope))
        scaling = replace(value.rope.scaling, rope_type="longrope", factors=factors, factor=1.0, original_context=0,
                          low_frequency_factor=1.0, high_frequency_factor=4.0)  # fmt: skip
        return _comparable(replace(value, rope=replace(value.rope, scaling=scaling)))
    if isinstance(value, tuple):
        return tuple(map(_comparable, value))
    if is_dataclass(value) and not isinstance(value, type):
        return type(value).__name__, tuple(
            (field.name, _comparable(getattr(value, field.name))) for field in fields(value)
        )
    return _float32(value)


def _float32(value: Any) -> Any:
    return float(np.float32(value)) if isinstance(value, float) else value
