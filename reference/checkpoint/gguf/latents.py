"""deepseek2 in GGUF files (DeepSeek V2 and V3, Kimi K2, GLM-4.7-Flash): the config.json that their metadata stands for.

Newer files give the sizes of the shared key under the names of keys and values, those of heads under `key_length_mla`
and `value_length_mla`; and `kv_b_proj` comes as two stacks of a matrix for each head, the first transposed. Older ones
have it as it is elsewhere.
"""

from collections.abc import Mapping
from typing import Any

from verbatim.reference.checkpoint.gguf.header import Entry
from verbatim.reference.checkpoint.gguf.metadata import Metadata
from verbatim.reference.records.errors import ModelError

VALUES = ".attention.value_length"  # which is that of keys in other models
READS = (VALUES, ".rope.scaling.yarn_log_multiplier", ".expert_group_count")
SOFTMAX, SIGMOID = 1, 2  # values of expert_gating_func
MATRICES = {
    "attn_q_a": "self_attn.q_a_proj", "attn_q_a_norm": "self_attn.q_a_layernorm", "attn_q_b": "self_attn.q_b_proj",
    "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa", "attn_kv_a_norm": "self_attn.kv_a_layernorm",
    "attn_kv_b": "self_attn.kv_b_proj", "attn_k_b": "self_attn.k_b_proj", "attn_v_b": "self_attn.v_b_proj",
}  # fmt: skip


def latent_config(found: Metadata, tensors: Mapping[str, Entry]) -> dict[str, Any]:
    """What config.json has beside the sizes of every model."""
    rotated, is_newer = found.required(".rope.dimension_count"), found.get(".attention.key_length_mla") is not None
    ending = "_mla" if is_newer else ""
    query, value = (found.required(f".attention.{name}_length{ending}") for name in ("key", "value"))
    if query <= rotated:
        raise found.error(".rope.dimension_count", f"must be below the size of a query, {query}, not {rotated}")
    return {
        "q_lora_rank": found.integer(".attention.q_lora_rank", least=0) or None,
        "kv_lora_rank": found.required(".attention.kv_lora_rank", most=2048),
        "qk_rope_head_dim": rotated, "qk_nope_head_dim": query - rotated, "v_head_dim": value, "rope_interleave": True,
        "partial_rotary_factor": 1.0, "rope_scaling": _scaling(found),
    } | _experts(found)  # fmt: skip


def _scaling(found: Metadata) -> dict[str, Any] | None:
    """YaRN's settings, with the correction that the file has as a tenth of `mscale_all_dim`."""
    rope_type, factor = found.text(".rope.scaling.type"), found.number(".rope.scaling.factor")
    if rope_type in (None, "none") or factor is None:
        return None
    tenth = found.number(".rope.scaling.yarn_log_multiplier")
    if rope_type != "yarn" or tenth is None:
        raise found.error(".rope.scaling.type", f"must be 'yarn', with a yarn_log_multiplier, not {rope_type!r}")
    original = found.integer(".rope.scaling.original_context_length") or found.required(".context_length")
    settings = {"rope_type": rope_type, "factor": factor, "original_max_position_embeddings": original}
    betas = {name: found.number(f".rope.scaling.yarn_{name}") for name in ("beta_fast", "beta_slow")}
    weight = round(tenth * 10, 6)  # of a float32 number
    return settings | betas | {"mscale": weight, "mscale_all_dim": weight}


def _experts(found: Metadata) -> dict[str, Any]:
    gating = found.integer(".expert_gating_func") or SOFTMAX
    if gating not in (SOFTMAX, SIGMOID):
        raise found.error(".expert_gating_func", f"must be {SOFTMAX} or {SIGMOID}, not {gating}")
    groups = found.integer(".expert_group_count", least=0) or 1
    methods = {SOFTMAX: "group_limited_greedy", SIGMOID: "noaux_tc"}
    name = "DeepseekV2ForCausalLM" if gating == SOFTMAX else "DeepseekV3ForCausalLM"
    if found.integer(".nextn_predict_layers", least=0):
        raise ModelError(f"{found.path.name}: layers of multi-token prediction are not supported in GGUF files")
    return {
        "architectures": [name],
        "n_routed_experts": found.required(".expert_count"),
        "n_shared_experts": found.integer(".expert_shared_count", least=0) or 0,
        "moe_intermediate_size": found.required(".expert_feed_forward_length"),
        "routed_scaling_factor": found.number(".expert_weights_scale") or 1.0,
        "norm_topk_prob": bool(found.flag(".expert_weights_norm")),
        "n_group": groups,
        "topk_group": found.integer(".expert_group_used_count") or groups,
        "topk_method": methods[gating],
        "scoring_func": "softmax" if gating == SOFTMAX else "sigmoid",
        "first_k_dense_replace": found.integer(".leading_dense_block_count", least=0) or 0,
    }
