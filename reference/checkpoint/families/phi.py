"""Phi 1 and 2: layer norms, biases, attention beside the feed-forward network. Phi 3 and 4: Llama with fused matrices.

Phi 3 and 4 store query, key and value as one matrix, and so gate and up. Phi 3.5 MoE has layer norms, and chooses two
experts by the scores near the largest one (sparsemixer, https://arxiv.org/abs/2310.00811).
"""

from typing import Any

from verbatim.reference.checkpoint.families.family import ExpertNames, Family, no_layer
from verbatim.reference.records.errors import ModelError

LAYER_NORMS = {"norm_type": "layer", "norm_bias": True}
BIASES = dict.fromkeys(("query_bias", "output_bias", "mlp_bias", "head_bias"), True)


def _sparsemixer(raw: dict) -> dict[str, Any]:
    if raw["num_experts_per_tok"] != 2:
        raise ModelError(f"config.json: num_experts_per_tok must be 2 for PhiMoE, not {raw['num_experts_per_tok']!r}")
    return {"routing": "sparsemixer", "tolerance": 2 * float(raw["router_jitter_noise"])}


FAMILIES = (
    Family(
        name="phi",
        architecture="PhiForCausalLM",
        defaults={"hidden_act": "gelu_new", "layer_norm_eps": 1e-5, "partial_rotary_factor": 0.5},
        reads=("layer_norm_eps",),
        fields=lambda raw: {"norm_epsilon": float(raw["layer_norm_eps"])},
        fixed=LAYER_NORMS | BIASES | {"norms": "parallel", "has_gate": False},
        slides=no_layer,
        names={
            "norm": "final_layernorm",
            "self_attn.o_proj": "self_attn.dense",
            "mlp.up_proj": "mlp.fc1",
            "mlp.down_proj": "mlp.fc2",
        },
    ),
    Family(
        name="phi3",
        architecture="Phi3ForCausalLM",
        defaults={
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 4096,
            "original_max_position_embeddings": 4096,
            "eos_token_id": 32000,
        },
        fixed={"has_fused_matrices": True},
    ),
    Family(
        name="phimoe",
        architecture="PhiMoEForCausalLM",
        aliases=("PhimoeForCausalLM",),
        defaults={
            "rms_norm_eps": 1e-5,
            "router_jitter_noise": 0.01,
            "num_local_experts": 16,
            "num_experts_per_tok": 2,
            "rope_theta": 1e6,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131072,
        },
        reads=("attention_bias", "lm_head_bias", "router_jitter_noise"),
        fields=lambda raw: {"head_bias": bool(raw.get("lm_head_bias", False))},
        routing=_sparsemixer,
        fixed=LAYER_NORMS,
        has_experts=True,
        experts=ExpertNames(part="block_sparse_moe.", gate="w1", up="w3", down="w2"),
    ),
)
