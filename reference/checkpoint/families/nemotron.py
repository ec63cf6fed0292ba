"""Nemotron H: each layer is one of a state space (N15), attention, a feed-forward network and a mixture of experts.

Networks have no gate and square what is above 0. There are no rotary positions. Steps lie within `time_step_limit`, as
in the authors' code; transformers 5.24 takes `time_step_min` for the least one.
"""

from typing import Any

from verbatim.reference.checkpoint.families.family import ExpertNames, Family, check_known, no_layer
from verbatim.reference.checkpoint.mamba_settings import IN_PLACE, check_heads, part_names, step_bounds
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.mamba import Mamba

KNOWN: dict[str, tuple] = {
    "mamba_hidden_act": ("silu",), "attention_bias": (False,), "mamba_proj_bias": (False,),
    "moe_latent_size": (), "n_shared_experts": (1,), "hidden_act": ("relu2", "silu"),
}  # fmt: skip
SAME = {  # what older files call it
    "mamba_n_groups": "n_groups", "mamba_d_conv": "conv_kernel", "mamba_dt_limit": "time_step_limit",
    "mamba_conv_bias": "use_conv_bias", "attention_head_dim": "head_dim", "layer_types": "layers_block_type",
}  # fmt: skip
NO_EFFECT = (
    "expand", "mamba_expand", "mamba_dt_min", "mamba_dt_max", "mamba_dt_init_floor", "mamba_chunk_size", "chunk_size",
    "time_step_min", "time_step_max", "time_step_floor", "time_step_rank", "rescale_prenorm_residual",
    "residual_in_fp32", "use_mamba_kernels", "mamba_ssm_cache_dtype", "moe_shared_expert_overlap", "time_step_rank",
)  # fmt: skip
PATTERN = {"M": "mamba", "E": "moe", "*": "attention", "-": "mlp"}
ALONE = {"has_feed_forward": False}
LAYER_TYPES = {
    "mamba": IN_PLACE | ALONE, "linear_attention": IN_PLACE | ALONE, "attention": ALONE, "full_attention": ALONE,
    "mlp": {"has_attention": False}, "moe": {"has_attention": False},
}  # fmt: skip
DEFAULTS: dict[str, Any] = {
    "vocab_size": 131072, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "max_position_embeddings": 4096, "intermediate_size": 21504, "mlp_hidden_act": "relu2", "ssm_state_size": 128,
    "mamba_num_heads": 128, "mamba_head_dim": 64, "n_groups": 8, "conv_kernel": 4, "use_conv_bias": True,
    "use_bias": False, "time_step_limit": [0.0, float("inf")], "layer_norm_epsilon": 1e-5, "n_routed_experts": 8,
    "num_experts_per_tok": 2, "moe_intermediate_size": 7688, "moe_shared_expert_intermediate_size": 7688,
    "routed_scaling_factor": 1.0, "n_group": 1, "topk_group": 1, "norm_topk_prob": True,
}  # fmt: skip
READS = (
    "layers_block_type", "hybrid_override_pattern", "ssm_state_size", "mamba_num_heads", "mamba_head_dim", "n_groups",
    "conv_kernel", "use_conv_bias", "use_bias", "mlp_bias", "mlp_hidden_act", "time_step_limit", "layer_norm_epsilon",
    "n_routed_experts", "moe_shared_expert_intermediate_size", "routed_scaling_factor", "n_group", "topk_group",
    *KNOWN, *SAME, *NO_EFFECT,
)  # fmt: skip
NAMES = {
    "embed_tokens": "embeddings", "norm": "norm_f", "input_layernorm": "norm", "post_attention_layernorm": "norm",
    "mlp.up_proj": "mixer.up_proj", "mlp.down_proj": "mixer.down_proj",
    **{f"self_attn.{part}_proj": f"mixer.{part}_proj" for part in "qkvo"},
}  # fmt: skip


def _prepare(raw: dict) -> dict[str, Any]:
    """In the common spelling: what each layer is, the activation of networks, the number of experts."""
    check_known(raw, KNOWN, "'nemotron_h'")
    found = {name: value for name, value in raw.items() if name not in (*SAME, *NO_EFFECT)}
    found |= {name: raw[older] for older, name in SAME.items() if raw.get(older) is not None}
    types = _layer_types(found)
    if (count := found.get("num_hidden_layers")) not in (None, len(types)):
        raise ModelError(f"config.json: num_hidden_layers is {count!r}, and {len(types)} layers are described")
    has_experts = "moe" in types
    if has_experts and found.get("mlp_bias"):  # which only the shared expert would have
        raise ModelError("config.json: mlp_bias = True is not supported beside experts for 'nemotron_h'")
    return found | {
        "layer_types": types, "num_hidden_layers": len(types),
        "no_rope_layers": [0] * len(types), "mlp_only_layers": [i for i, name in enumerate(types) if name != "moe"],
        "num_local_experts": (found.get("n_routed_experts") or DEFAULTS["n_routed_experts"]) if has_experts else 0,
        "rms_norm_eps": found.get("layer_norm_epsilon") or DEFAULTS["layer_norm_epsilon"],
        "hidden_act": found.get("mlp_hidden_act") or DEFAULTS["mlp_hidden_act"],
    }  # fmt: skip


def _layer_types(raw: dict) -> list[str]:
    """What each layer is: a list, or a text with a letter for each."""
    listed, pattern = raw.get("layers_block_type"), raw.get("hybrid_override_pattern")
    if listed is not None:
        if not isinstance(listed, list):
            raise ModelError(f"config.json: layers_block_type must be a list of names, not {listed!r}")
        return listed
    if not isinstance(pattern, str) or not pattern or set(pattern) - set(PATTERN):
        raise ModelError(
            f"config.json: hybrid_override_pattern must be a text of {' '.join(PATTERN)}, one a layer, not {pattern!r}"
        )
    return [PATTERN[letter] for letter in pattern]


def _fields(raw: dict) -> dict[str, Any]:
    heads, head_dim, has_bias = raw["mamba_num_heads"], raw["mamba_head_dim"], bool(raw["use_bias"])
    check_heads(heads, head_dim, heads * head_dim)
    return {"mixer": Mamba(
        num_heads=heads, head_dim=head_dim, state_rows=raw["ssm_state_size"], num_groups=raw["n_groups"],
        width=raw["conv_kernel"], norm_epsilon=float(raw["layer_norm_epsilon"]), step_bounds=step_bounds(raw),
        has_input_bias=has_bias, has_output_bias=has_bias, has_convolution_bias=bool(raw["use_conv_bias"]),
    )}  # fmt: skip


def _routing(raw: dict) -> dict[str, Any]:
    return {
        "routing": "sigmoid", "scale": float(raw["routed_scaling_factor"]), "num_groups": raw["n_group"],
        "num_groups_per_token": raw["topk_group"], "shared_size": raw["moe_shared_expert_intermediate_size"],
    }  # fmt: skip


FAMILIES = (
    Family(
        name="nemotron_h",
        architecture="NemotronHForCausalLM",
        prepare=_prepare,
        fixed={"has_gate": False},
        defaults=DEFAULTS,
        reads=READS,
        fields=_fields,
        slides=no_layer,
        layer_types=LAYER_TYPES,
        stems=("backbone.",),
        has_experts=True,
        normalizes_experts=True,
        routing=_routing,
        experts=ExpertNames(part="mixer.", shared="shared_experts"),
        names=NAMES | part_names("mixer"),
    ),
)
