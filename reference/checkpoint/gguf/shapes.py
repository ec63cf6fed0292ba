"""From a GGUF file's metadata to the config.json that the same model has elsewhere, which its family then reads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from verbatim.reference.checkpoint.gguf.header import Entry
from verbatim.reference.checkpoint.gguf.metadata import Metadata
from verbatim.reference.records.errors import ModelError

MAX_CONTEXT = 1 << 22
GEMMA_27B = {"gemma2": 46, "gemma3": 62}  # layers; their attention scale is of the hidden size
EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
Tensors = Mapping[str, Entry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What a name in `general.architecture` stands for: an architecture of config.json, and what more it needs.

    `has_pairs` says that the two halves of a rotated head lie in turn, row by row, as llama.cpp rotates them.
    """

    name: str
    has_pairs: bool = False
    more: Callable[[Metadata, Tensors], dict[str, Any]] = lambda found, tensors: {}


def raw_config(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    """The config.json; ModelError names what is missing, wrong, or not supported."""
    known = architecture_of(found)
    num_layers, hidden = found.required(".block_count", most=len(tensors)), found.required(".embedding_length")
    heads = found.required(".attention.head_count")
    head_dim = found.integer(".attention.key_length") or hidden // heads
    if (found.integer(".attention.value_length") or head_dim) != head_dim:
        raise found.error(".attention.value_length", f"must be that of keys, {head_dim}")
    raw = {
        "architectures": [known.name],
        "vocab_size": _rows(tensors, EMBEDDING),
        "hidden_size": hidden,
        "num_hidden_layers": num_layers,
        "num_attention_heads": heads,
        "num_key_value_heads": found.integer(".attention.head_count_kv") or heads,
        "head_dim": head_dim,
        "max_position_embeddings": found.required(".context_length", most=MAX_CONTEXT),
        "intermediate_size": found.integer(".feed_forward_length") or found.required(".expert_feed_forward_length"),
        "tie_word_embeddings": OUTPUT not in tensors,
        "rope_theta": found.number(".rope.freq_base") or 10000.0,
        "partial_rotary_factor": (found.integer(".rope.dimension_count") or head_dim) / head_dim,
    }
    raw |= _epsilon(found) | _experts(found) | _rope(found, tensors)
    _refuse(found)
    return raw | known.more(found, tensors)


def biases(tensors: Tensors) -> dict[str, bool]:
    """Fields of ModelConfig: the matrices that have a bias, as the first layer shows."""
    return {
        "query_bias": "blk.0.attn_q.bias" in tensors or "blk.0.attn_qkv.bias" in tensors,
        "output_bias": "blk.0.attn_output.bias" in tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in tensors,
        "head_bias": "output.bias" in tensors,
    }


def architecture_of(found: Metadata) -> Architecture:
    """The architecture; ModelError for one that is not supported."""
    if found.architecture not in ARCHITECTURES:
        names = ", ".join(ARCHITECTURES)
        raise found.error("general.architecture", f"{found.architecture!r} is not supported; supported: {names}")
    return ARCHITECTURES[found.architecture]


def _rows(tensors: Tensors, name: str) -> int:
    if name not in tensors:
        raise ModelError(f"weights: tensor {name} is missing")
    return tensors[name].shape[0]


def _epsilon(found: Metadata) -> dict[str, Any]:
    """Under each of the names that families read."""
    value = found.number(".attention.layer_norm_rms_epsilon") or found.number(".attention.layer_norm_epsilon")
    return {} if value is None else dict.fromkeys(("rms_norm_eps", "layer_norm_eps", "norm_epsilon"), value)


def _experts(found: Metadata) -> dict[str, Any]:
    count = found.integer(".expert_count", least=0)
    if not count:
        return {}
    raw: dict[str, Any] = {
        "num_local_experts": count,
        "num_experts": count,
        "num_experts_per_tok": found.required(".expert_used_count", most=count),
    }
    if inner := found.integer(".expert_feed_forward_length"):
        raw["moe_intermediate_size"] = inner
    if (is_normalized := found.flag(".expert_weights_norm")) is not None:
        raw["norm_topk_prob"] = is_normalized
    return raw


def _rope(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    """Stretched positions; factors of single frequencies lie in tensors of their own."""
    context = found.required(".context_length", most=MAX_CONTEXT)
    original = found.integer(".rope.scaling.original_context_length") or context
    attention = found.number(".rope.scaling.attn_factor") or 1.0
    if "rope_factors_long.weight" in tensors:
        long, short = (_numbers(tensors, f"rope_factors_{name}.weight") for name in ("long", "short"))
        scaling = {"rope_type": "longrope", "long_factor": long, "short_factor": short, "attention_factor": attention}
        return {"rope_scaling": scaling, "original_max_position_embeddings": original}
    if "rope_freqs.weight" in tensors:  # Llama 3's, worked out by the converter
        factors = _numbers(tensors, "rope_freqs.weight")
        scaling = {"rope_type": "longrope", "long_factor": factors, "short_factor": factors, "attention_factor": 1.0}
        return {"rope_scaling": scaling}
    rope_type, factor = found.text(".rope.scaling.type"), found.number(".rope.scaling.factor")
    if rope_type in (None, "none") or factor is None:
        return {}
    if rope_type not in ("linear", "yarn") or attention != 1.0:
        raise found.error(
            ".rope.scaling.type", f"{rope_type!r} with an attention factor of {attention} is not supported"
        )
    scaling = {"rope_type": rope_type, "factor": factor, "original_max_position_embeddings": original}
    for name in ("beta_fast", "beta_slow"):
        if (value := found.number(f".rope.scaling.yarn_{name}")) is not None:
            scaling[name] = value
    return {"rope_scaling": scaling}


def _numbers(tensors: Tensors, name: str) -> list[float]:
    """The numbers of a small float32 tensor, all above 0."""
    if name not in tensors or tensors[name].format != "F32" or len(tensors[name].shape) != 1:
        raise ModelError(f"weights: tensor {name} must be there, a row of F32")
    values = tensors[name].bits()
    if not (np.isfinite(values) & (values > 0)).all():
        raise ModelError(f"weights: tensor {name} must hold numbers above 0")
    return [float(value) for value in values]


def _refuse(found: Metadata) -> None:
    """What would change the arithmetic, and is not implemented."""
    for name in (".attention.max_alibi_bias", ".attention.clamp_kqv", ".rope.scaling.yarn_log_multiplier",
                 ".attention.temperature_scale", ".router_logit_softcapping", ".expert_group_count"):  # fmt: skip
        if value := found.number(name, is_positive=False):
            raise found.error(name, f"= {value} is not supported")
    if found.flag(".attention.causal") is False:
        raise found.error(".attention.causal", "= False is not supported")


def _llama(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    """Mistral, and Mixtral with experts, too."""
    return {"norm_topk_prob": True} if found.integer(".expert_count", least=0) else {}


def _qwen2_moe(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    return {"shared_expert_intermediate_size": found.required(".expert_shared_feed_forward_length")}


def _gemma(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    return {"hidden_activation": "gelu_pytorch_tanh"}


def _gemma2(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": _gemma_scale(found),
        "sliding_window": found.integer(".attention.sliding_window") or 4096,
        "attn_logit_softcapping": found.number(".attn_logit_softcapping") or 50.0,
        "final_logit_softcapping": found.number(".final_logit_softcapping") or 30.0,
    }


def _gemma3(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": _gemma_scale(found),
        "sliding_window": found.integer(".attention.sliding_window") or 4096,
        "rope_theta": found.number(".rope.freq_base") or 1000000.0,
        "rope_local_base_freq": found.number(".rope.freq_base_swa") or 10000.0,
        "final_logit_softcapping": found.number(".final_logit_softcapping"),
    } | _pattern(found)  # fmt: skip


def _gemma_scale(found: Metadata) -> float:
    heads, hidden = found.required(".attention.head_count"), found.required(".embedding_length")
    is_largest = found.required(".block_count") == GEMMA_27B[found.architecture]
    return hidden / heads if is_largest else found.integer(".attention.key_length") or hidden // heads


def _pattern(found: Metadata) -> dict[str, Any]:
    """Which layers have a window: listed, or all but every so many."""
    value = found.get(".attention.sliding_window_pattern")
    if isinstance(value, np.ndarray):
        if len(value) < found.required(".block_count"):
            raise found.error(".attention.sliding_window_pattern", f"has {len(value)} entries")
        value = value[: found.required(".block_count")]
        return {"layer_types": ["sliding_attention" if slides else "full_attention" for slides in value]}
    every = found.integer(".attention.sliding_window_pattern")
    return {} if every is None else {"sliding_window_pattern": every}


def _phi3(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    window = found.integer(".attention.sliding_window", least=0)
    return {"sliding_window": window} if window else {}


def _olmo2(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    window = found.integer(".attention.sliding_window", least=0)
    return {"architectures": ["Olmo3ForCausalLM"], "sliding_window": window} | _pattern(found) if window else {}


def _granite(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    names = {
        "embedding_multiplier": ".embedding_scale", "attention_multiplier": ".attention.scale",
        "residual_multiplier": ".residual_scale", "logits_scaling": ".logit_scale",
    }  # fmt: skip
    scales = {ours: found.number(theirs) or 1.0 for ours, theirs in names.items()}
    if found.get(".attention.scale") is None:
        raise found.error(".attention.scale", "is missing")
    return scales | _llama(found, tensors)


def _stablelm(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    return {"use_parallel_residual": bool(found.flag(".use_parallel_residual"))}


def _gpt_oss(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    """YaRN's range has no whole bounds, which the metadata does not mention; without it there is no YaRN at all."""
    scaling = _rope(found, tensors).get("rope_scaling", {"rope_type": "default"})
    window = {"sliding_window": found.required(".attention.sliding_window")}
    return window | {"rope_scaling": scaling | {"truncate": False} if scaling["rope_type"] == "yarn" else scaling}


ARCHITECTURES = {
    "llama": Architecture(name="LlamaForCausalLM", has_pairs=True, more=_llama),
    "qwen2": Architecture(name="Qwen2ForCausalLM"),
    "qwen2moe": Architecture(name="Qwen2MoeForCausalLM", more=_qwen2_moe),
    "qwen3": Architecture(name="Qwen3ForCausalLM"),
    "qwen3moe": Architecture(name="Qwen3MoeForCausalLM", more=_llama),
    "gemma": Architecture(name="GemmaForCausalLM", more=_gemma),
    "gemma2": Architecture(name="Gemma2ForCausalLM", more=_gemma2),
    "gemma3": Architecture(name="Gemma3ForCausalLM", more=_gemma3),
    "phi2": Architecture(name="PhiForCausalLM"),
    "phi3": Architecture(name="Phi3ForCausalLM", more=_phi3),
    "phimoe": Architecture(name="PhiMoEForCausalLM"),
    "olmo2": Architecture(name="Olmo2ForCausalLM", more=_olmo2),
    "olmoe": Architecture(name="OlmoeForCausalLM"),
    "granite": Architecture(name="GraniteForCausalLM", has_pairs=True, more=_granite),
    "granitemoe": Architecture(name="GraniteForCausalLM", has_pairs=True, more=_granite),
    "internlm2": Architecture(name="LlamaForCausalLM", has_pairs=True),
    "smollm3": Architecture(name="SmolLM3ForCausalLM", has_pairs=True),
    "stablelm": Architecture(name="StableLmForCausalLM", more=_stablelm),
    "starcoder2": Architecture(name="Starcoder2ForCausalLM"),
    "seed_oss": Architecture(name="SeedOssForCausalLM"),
    "gpt-oss": Architecture(name="GptOssForCausalLM", more=_gpt_oss),
}
