"""What type and bounds the values of config.json have: a wrong one is named with its key before it is used."""

import math
from collections.abc import Collection
from typing import Any

from verbatim.reference.records.errors import ModelError

MOST = (1 << 31) - 1
INTEGERS = {  # least and greatest
    "vocab_size": (1, MOST), "hidden_size": (1, MOST), "intermediate_size": (1, MOST), "num_hidden_layers": (1, 10_000),
    "num_attention_heads": (1, MOST), "num_key_value_heads": (1, MOST), "head_dim": (1, MOST),
    "max_position_embeddings": (1, MOST), "sliding_window": (0, MOST), "max_window_layers": (0, MOST),
    "num_local_experts": (0, MOST), "num_experts": (0, MOST), "num_experts_per_tok": (0, MOST), "moe_topk": (1, MOST),
    "moe_intermediate_size": (1, MOST), "shared_expert_intermediate_size": (0, MOST), "decoder_sparse_step": (1, MOST),
    "kv_lora_rank": (1, 2048), "q_lora_rank": (1, MOST), "qk_rope_head_dim": (2, MOST), "qk_nope_head_dim": (1, MOST),
    "v_head_dim": (1, MOST), "n_routed_experts": (0, MOST), "n_shared_experts": (0, MOST), "n_group": (1, MOST),
    "topk_group": (1, MOST), "first_k_dense_replace": (0, MOST), "moe_layer_freq": (1, MOST),
    "moe_num_experts": (0, MOST), "moe_k": (1, MOST), "moe_num_shared_experts": (0, MOST), "rotary_dim": (2, MOST),
    "moe_layer_start_index": (0, MOST), "moe_layer_end_index": (-1, MOST), "moe_layer_interval": (1, MOST),
    "mamba_n_heads": (1, MOST), "mamba_n_groups": (1, MOST), "mamba_d_state": (1, MOST), "mamba_d_conv": (1, MOST),
    "mamba_num_heads": (1, MOST), "mamba_head_dim": (1, MOST), "ssm_state_size": (1, MOST), "state_size": (1, MOST),
    "num_heads": (1, MOST), "n_groups": (1, MOST), "conv_kernel": (1, MOST), "mamba_d_ssm": (1, MOST),
    "shared_intermediate_size": (0, MOST), "moe_shared_expert_intermediate_size": (1, MOST),
    "attention_chunk_size": (1, MOST), "interleave_moe_layer_step": (1, MOST), "intermediate_size_mlp": (1, MOST),
    "conv_L_cache": (1, MOST), "block_multiple_of": (1, MOST), "block_ff_dim": (1, MOST), "num_dense_layers": (0, MOST),
    "full_attention_interval": (1, MOST), "linear_num_key_heads": (1, MOST), "linear_num_value_heads": (1, MOST),
    "linear_key_head_dim": (1, 1024), "linear_value_head_dim": (1, MOST), "linear_conv_kernel_dim": (1, MOST),
    "hidden_size_per_layer_input": (0, MOST), "vocab_size_per_layer_input": (1, MOST), "global_head_dim": (1, MOST),
    "num_global_key_value_heads": (1, MOST), "num_kv_shared_layers": (0, MOST), "top_k_experts": (1, MOST),
    "altup_active_idx": (0, MOST), "altup_num_inputs": (1, 64), "laurel_rank": (1, MOST),
    "no_rope_layer_interval": (0, MOST), "sliding_window_pattern": (1, MOST), "_sliding_window_pattern": (1, MOST),
}  # fmt: skip
ABOVE_ZERO = frozenset((
    "rms_norm_eps", "layer_norm_eps", "norm_epsilon", "norm_eps", "rope_theta", "rope_local_base_freq",
    "query_pre_attn_scalar", "embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling",
    "attn_logit_softcapping", "final_logit_softcapping", "original_max_position_embeddings", "swiglu_alpha",
    "swiglu_limit", "routed_scaling_factor", "logit_scale", "floor_scale", "attn_scale",
    "block_ffn_dim_multiplier",
))  # fmt: skip
STATE_SPACES = frozenset((  # true or false
    "mamba_conv_bias", "mamba_proj_bias", "use_conv_bias", "mamba_rms_norm", "mamba_norm_before_gate",
    "projectors_bias",
))  # fmt: skip
SHARES = frozenset(("partial_rotary_factor", "rope_pct"))
BOOLEANS = frozenset((
    "tie_word_embeddings", "attention_bias", "mlp_bias", "attention_out_bias", "lm_head_bias", "qkv_bias", "use_bias",
    "use_qkv_bias", "use_parallel_residual", "norm_topk_prob", "use_sliding_window", "rope_interleave", "use_qk_norm",
    "conv_bias", "block_auto_adjust_ff_dim",
    "attention_k_eq_v", "enable_moe_block", "use_double_wide_mlp", "altup_correct_scale",
))  # fmt: skip
LISTS: dict[str, tuple[type, ...]] = {
    "layers_block_type": (str,), "attn_layer_indices": (int,),
    "architectures": (str,), "layer_types": (str,), "no_rope_layers": (int,), "mlp_only_layers": (int,),
    "mlp_layer_types": (str,), "moe_layers": (int,), "full_attn_idxs": (int,),
}  # fmt: skip
TEXTS = frozenset(("mlp_hidden_act", "hidden_act", "hidden_activation", "model_type", "topk_method", "scoring_func"))
OBJECTS = frozenset(("rope_scaling", "rope_parameters", "text_config", "per_layer_config"))


def check_values(raw: dict, names: Collection[str]) -> None:
    """ModelError for a value of these keys of another type than it has to be, or out of bounds. null passes."""
    for name, value in raw.items():
        if name in names and value is not None and (wanted := _wanted(name, value)):
            raise ModelError(f"config.json: {name} must be {wanted}, not {value!r}")


def is_number(value: Any) -> bool:
    """Whether it is a finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _wanted(name: str, value: Any) -> str | None:
    """What a value must be in words, if it is not that."""
    if name in INTEGERS:
        return _wanted_integer(value, *INTEGERS[name])
    if name in LISTS:
        is_right = isinstance(value, list) and all(isinstance(item, LISTS[name]) for item in value)
        return None if is_right else f"a list of {'names' if str in LISTS[name] else 'integers'}"
    checks = (
        (ABOVE_ZERO, is_number(value) and value > 0, "a number above 0"),
        (SHARES, is_number(value) and 0 < value <= 1, "a number above 0 and at most 1"),
        (BOOLEANS | STATE_SPACES, isinstance(value, bool), "true or false"),
        (TEXTS, isinstance(value, str), "a text"),
        (OBJECTS, isinstance(value, dict), "an object"),
        (("router_jitter_noise",), is_number(value) and value >= 0, "a number of at least 0"),
    )
    return next((wanted for names, is_right, wanted in checks if name in names and not is_right), None)


def _wanted_integer(value: Any, least: int, greatest: int) -> str | None:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if is_integer and least <= value <= greatest:
        return None
    if is_integer and value > greatest:
        return f"at most {greatest}"
    return "a positive integer" if least == 1 else f"an integer of at least {least}"
