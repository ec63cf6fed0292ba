"""The architectures of GGUF files: what of config.json each has besides the sizes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from verbatim.reference.checkpoint.gguf import state_spaces
from verbatim.reference.checkpoint.gguf.delta_nets import delta_config
from verbatim.reference.checkpoint.gguf.latents import READS, latent_config
from verbatim.reference.checkpoint.gguf.metadata import Metadata
from verbatim.reference.checkpoint.gguf.rope import Tensors, rope_settings

GEMMA_27B = {"gemma2": 46, "gemma3": 62}  # layers; their attention scale is of the hidden size


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What a name in `general.architecture` stands for: an architecture of config.json, and what more it needs.

    With `differs` some numbers differ from layer to layer (state_spaces.py). `has_pairs` says that the two halves of a
    rotated head lie in turn, row by row, as llama.cpp rotates them. `reads` are names of metadata that are refused
    elsewhere.
    """

    name: str
    has_pairs: bool = False
    differs: bool = False
    reads: tuple[str, ...] = ()
    more: Callable[[Metadata, Tensors], dict[str, Any]] = lambda found, tensors: {}


def architecture_of(found: Metadata) -> Architecture:
    """The architecture; ModelError for one that is not supported."""
    if found.architecture not in ARCHITECTURES:
        names = ", ".join(ARCHITECTURES)
        raise found.error("general.architecture", f"{found.architecture!r} is not supported; supported: {names}")
    return ARCHITECTURES[found.architecture]


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


def _granite_hybrid(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    return _granite(found, tensors) | state_spaces.granite_config(found, tensors)


def _stablelm(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    return {"use_parallel_residual": bool(found.flag(".use_parallel_residual"))}


def _gpt_oss(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    """YaRN's range has no whole bounds, which the metadata does not mention; without it there is no YaRN at all."""
    scaling = rope_settings(found, tensors).get("rope_scaling", {"rope_type": "default"})
    window = {"sliding_window": found.required(".attention.sliding_window")}
    return window | {"rope_scaling": scaling | {"truncate": False} if scaling["rope_type"] == "yarn" else scaling}


def _glm4(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    """ModelError for the text part of an image model, whose rows are in another order."""
    if found.get(".rope.dimension_sections") is not None:
        raise found.error(".rope.dimension_sections", "is not supported")
    return {}


def _cohere(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    scale = found.number(".logit_scale")
    if scale is None:
        raise found.error(".logit_scale", "is missing")
    return {"logit_scale": scale, "use_qk_norm": "blk.0.attn_q_norm.weight" in tensors}


def _cohere2(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    window = {"sliding_window": found.required(".attention.sliding_window")}
    return _cohere(found, tensors) | window | _pattern(found)


def _hunyuan_moe(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    """ModelError where experts, or the shared one, are not of the feed-forward size."""
    size = found.required(".feed_forward_length")
    for name in (".expert_feed_forward_length", ".expert_shared_feed_forward_length"):
        if found.integer(name) not in (None, size):
            raise found.error(name, f"must be that of .feed_forward_length, {size}")
    return {}


def _minimax(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    _check_routing(found, 2)
    return {}


def _ernie_moe(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    _check_routing(found, 1)
    return {
        "moe_num_experts": found.required(".expert_count"),
        "moe_k": found.required(".expert_used_count"),
        "moe_layer_start_index": found.integer(".leading_dense_block_count", least=0) or 0,
        "moe_layer_interval": found.integer(".interleave_moe_layer_step") or 1,
        "moe_num_shared_experts": found.integer(".expert_shared_count", least=0) or 0,
    }


def _check_routing(found: Metadata, wanted: int) -> None:
    """ModelError for weights of experts by another function: 1 is softmax, 2 sigmoid."""
    if (given := found.integer(".expert_gating_func", least=0)) not in (None, 0, wanted):
        raise found.error(".expert_gating_func", f"must be {wanted}, not {given}")


ARCHITECTURES = {
    "llama": Architecture(name="LlamaForCausalLM", has_pairs=True, more=_llama),
    "qwen2": Architecture(name="Qwen2ForCausalLM"),
    "qwen2moe": Architecture(name="Qwen2MoeForCausalLM", more=_qwen2_moe),
    "qwen3": Architecture(name="Qwen3ForCausalLM"),
    "qwen3moe": Architecture(name="Qwen3MoeForCausalLM", more=_llama),
    "qwen3next": Architecture(name="Qwen3NextForCausalLM", more=delta_config),
    "qwen35": Architecture(name="Qwen3_5ForCausalLM", more=delta_config),
    "qwen35moe": Architecture(name="Qwen3_5MoeForCausalLM", more=delta_config),
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
    "granitehybrid": Architecture(
        name="GraniteMoeHybridForCausalLM", has_pairs=True, differs=True, more=_granite_hybrid
    ),
    "mamba2": Architecture(name="Mamba2ForCausalLM", differs=True, more=state_spaces.mamba2_config),
    "nemotron_h": Architecture(name="NemotronHForCausalLM", differs=True, more=state_spaces.nemotron_config),
    "falcon-h1": Architecture(name="FalconH1ForCausalLM", differs=True, more=state_spaces.falcon_config),
    "internlm2": Architecture(name="LlamaForCausalLM", has_pairs=True),
    "smollm3": Architecture(name="SmolLM3ForCausalLM", has_pairs=True),
    "stablelm": Architecture(name="StableLmForCausalLM", more=_stablelm),
    "starcoder2": Architecture(name="Starcoder2ForCausalLM"),
    "seed_oss": Architecture(name="SeedOssForCausalLM"),
    "chatglm": Architecture(name="GlmForCausalLM"),  # pairs of neighbours, as its files have them elsewhere, too
    "glm4": Architecture(name="Glm4ForCausalLM", more=_glm4),
    "command-r": Architecture(name="CohereForCausalLM", more=_cohere),
    "cohere2": Architecture(name="Cohere2ForCausalLM", more=_cohere2),
    "ernie4_5": Architecture(name="Ernie4_5ForCausalLM"),
    "ernie4_5-moe": Architecture(name="Ernie4_5_MoeForCausalLM", more=_ernie_moe),
    "minimax-m2": Architecture(name="MiniMaxM2ForCausalLM", more=_minimax),
    "hunyuan-dense": Architecture(name="HunYuanDenseV1ForCausalLM"),
    "hunyuan-moe": Architecture(name="HunYuanMoEV1ForCausalLM", more=_hunyuan_moe),
    "deepseek2": Architecture(name="DeepseekV2ForCausalLM", reads=READS, more=latent_config),
    "gpt-oss": Architecture(name="GptOssForCausalLM", more=_gpt_oss),
}
