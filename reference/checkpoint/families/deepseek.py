"""DeepSeek V2 and V3 (also R1, V3.1 and Kimi K2), GLM-4.7-Flash: latent attention (N8a) and experts in groups (N9).

V2 weighs its experts by softmax, V3 and GLM by sigmoids with a learned bias in the choice; all have shared experts. The
layers of multi-token prediction behind the last one (`num_nextn_predict_layers`) are left aside. `num_key_value_heads`
has no meaning here: each head makes a key and a value of its own of the latents.
"""

from collections.abc import Callable
from typing import Any

from verbatim.reference.checkpoint.families.family import ExpertNames, Family, no_layer
from verbatim.reference.checkpoint.rope_settings import mscale_of, read_rope
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.latent import LatentAttention

READS_OF_EXPERTS = (
    "n_routed_experts", "n_shared_experts", "routed_scaling_factor", "n_group", "topk_group", "topk_method",
    "scoring_func", "first_k_dense_replace", "moe_layer_freq", "mlp_layer_types",
)  # fmt: skip
READS = (
    *READS_OF_EXPERTS, "kv_lora_rank", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim",
    "rope_interleave", "qk_head_dim",
)  # fmt: skip
DEFAULTS: dict[str, Any] = {
    "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128, "rope_interleave": True,
    "moe_layer_freq": 1,
}  # fmt: skip
SECOND = DEFAULTS | {
    "q_lora_rank": 1536, "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6,
    "moe_intermediate_size": 1407, "routed_scaling_factor": 1.0, "n_group": 1, "topk_group": 1, "topk_method": "greedy",
    "first_k_dense_replace": 0, "norm_topk_prob": False, "scoring_func": "softmax",
}  # fmt: skip
THIRD = DEFAULTS | {
    "q_lora_rank": 1536, "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8,
    "moe_intermediate_size": 2048, "routed_scaling_factor": 2.5, "n_group": 8, "topk_group": 4,
    "topk_method": "noaux_tc", "first_k_dense_replace": 3, "norm_topk_prob": True, "scoring_func": "sigmoid",
    "max_position_embeddings": 4096, "bos_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
FLASH = THIRD | {
    "q_lora_rank": 768, "v_head_dim": 256, "qk_nope_head_dim": 192, "n_routed_experts": 64, "num_experts_per_tok": 4,
    "moe_intermediate_size": 1536, "routed_scaling_factor": 1.8, "n_group": 1, "topk_group": 1, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 202752, "first_k_dense_replace": 1,
}  # fmt: skip
METHODS = {"softmax": ("greedy", "group_limited_greedy"), "sigmoid": ("noaux_tc",)}  # of choosing, by scoring_func
LAYER_TYPES = ("dense", "sparse")
EXPERT_NAMES = ExpertNames(shared="shared_experts")


def _prepare(defaults: dict[str, Any]) -> Callable[[dict], dict[str, Any]]:
    """config.json in the common spelling: rotary settings are those of the rotated part of a head."""

    def prepare(raw: dict) -> dict[str, Any]:
        found = defaults | {name: value for name, value in raw.items() if value is not None or name == "q_lora_rank"}
        check_routing(found, defaults["scoring_func"])
        return raw | {
            "head_dim": found["qk_rope_head_dim"], "num_local_experts": found["n_routed_experts"],
            "mlp_only_layers": dense_layers(found),
        }  # fmt: skip

    return prepare


def check_routing(raw: dict, scoring: str) -> None:
    """ModelError for what the family can be and this project cannot."""
    for name, known in (("scoring_func", (scoring,)), ("topk_method", METHODS[scoring])):
        if raw[name] not in known:
            raise ModelError(f"config.json: {name} must be {' or '.join(known)}, not {raw[name]!r}")
    if scoring == "softmax" and raw["norm_topk_prob"]:
        raise ModelError("config.json: norm_topk_prob = True is not supported for 'deepseek_v2'")


def dense_layers(raw: dict) -> list[int]:
    """The layers without experts."""
    num_layers, types = raw.get("num_hidden_layers"), raw.get("mlp_layer_types")
    if not isinstance(num_layers, int):
        return []  # refused by name later
    if types is None:
        first, step = raw["first_k_dense_replace"], raw["moe_layer_freq"]
        return [i for i in range(num_layers) if i < first or i % step]
    if len(types) != num_layers or not all(name in LAYER_TYPES for name in types):
        wanted = f"{num_layers} times {' or '.join(LAYER_TYPES)}"
        raise ModelError(f"config.json: mlp_layer_types must be {wanted}, not {types!r}")
    return [i for i, name in enumerate(types) if name == "dense"]


def _fields(raw: dict) -> dict[str, Any]:
    """Attention: one key for all heads, and YaRN's correction in the scale of scores."""
    sizes = LatentAttention(
        query_rank=raw.get("q_lora_rank") or 0, rank=raw["kv_lora_rank"], plain_dim=raw["qk_nope_head_dim"],
        rotated_dim=raw["qk_rope_head_dim"], value_dim=raw["v_head_dim"], is_interleaved=bool(raw["rope_interleave"]),
    )  # fmt: skip
    rope = read_rope(raw, "full_attention")
    if rope.rotary_dim != sizes.rotated_dim:
        raise ModelError(f"config.json: partial_rotary_factor must be 1 with latent attention, {rope.rotary_dim} of "
                         f"{sizes.rotated_dim} features are rotated")  # fmt: skip
    return {
        "latent": sizes, "num_kv_heads": 1, "head_dim": sizes.rotated_dim + sizes.rank,
        "attention_scale": (sizes.rotated_dim + sizes.plain_dim) ** -0.5 * mscale_of(raw) ** 2,
    }  # fmt: skip


def group_routing(raw: dict) -> dict[str, Any]:
    """How experts are chosen, and the size of the shared ones, as fields of Experts."""
    groups = (1, 1) if raw["topk_method"] == "greedy" else (raw["n_group"], raw["topk_group"])
    return {
        "routing": raw["scoring_func"], "scale": float(raw["routed_scaling_factor"]),
        "num_groups": groups[0], "num_groups_per_token": groups[1],
        "shared_size": raw["moe_intermediate_size"] * (raw.get("n_shared_experts") or 0),
    }  # fmt: skip


def _family(name: str, architecture: str, defaults: dict[str, Any], **fields: Any) -> Family:
    return Family(
        name=name, architecture=architecture, prepare=_prepare(defaults), defaults=defaults, reads=READS,
        fields=_fields, slides=no_layer, has_experts=True, routing=group_routing, experts=EXPERT_NAMES, **fields,
    )  # fmt: skip


FAMILIES = (
    _family("deepseek_v2", "DeepseekV2ForCausalLM", SECOND),
    _family("deepseek_v3", "DeepseekV3ForCausalLM", THIRD, model_types=("deepseek_v3", "kimi_k2")),
    _family("glm4_moe_lite", "Glm4MoeLiteForCausalLM", FLASH),
)
