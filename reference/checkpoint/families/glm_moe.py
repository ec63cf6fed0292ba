"""GLM 4.5 and 4.6: plain attention with half of each head rotated, and DeepSeek V3's experts."""

from typing import Any

from verbatim.reference.checkpoint.families.deepseek import (
    EXPERT_NAMES,
    READS_OF_EXPERTS,
    check_routing,
    dense_layers,
    group_routing,
)
from verbatim.reference.checkpoint.families.family import Family, no_layer

DEFAULTS: dict[str, Any] = {
    "num_key_value_heads": 8, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "partial_rotary_factor": 0.5,
    "moe_intermediate_size": 1408, "num_experts_per_tok": 8, "n_shared_experts": 1, "n_routed_experts": 128,
    "routed_scaling_factor": 1.0, "n_group": 1, "topk_group": 1, "topk_method": "noaux_tc", "scoring_func": "sigmoid",
    "first_k_dense_replace": 1, "moe_layer_freq": 1, "norm_topk_prob": True, "use_qk_norm": False,
    "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip


def _prepare(raw: dict) -> dict[str, Any]:
    """The common spelling of the experts."""
    found = DEFAULTS | {name: value for name, value in raw.items() if value is not None}
    check_routing(found, "sigmoid")
    return raw | {"num_local_experts": found["n_routed_experts"], "mlp_only_layers": dense_layers(found)}


FAMILIES = (
    Family(
        name="glm4_moe",
        architecture="Glm4MoeForCausalLM",
        prepare=_prepare,
        defaults=DEFAULTS,
        reads=(*READS_OF_EXPERTS, "attention_bias", "use_qk_norm"),
        fields=lambda raw: {"query_key_norm": "head" if raw["use_qk_norm"] else None, "output_bias": False},
        slides=no_layer,
        has_experts=True,
        routing=group_routing,
        experts=EXPERT_NAMES,
    ),
)
