"""Mamba 2 (Codestral Mamba): state spaces (N15) alone, one a layer, without attention or feed-forward network."""

from typing import Any

from verbatim.reference.checkpoint.families.family import Family, check_known, no_layer
from verbatim.reference.checkpoint.mamba_settings import IN_PLACE, check_heads, inner_size_of, part_names, step_bounds
from verbatim.reference.records.mamba import Mamba

KNOWN: dict[str, tuple] = {"rms_norm": (True,), "hidden_act": ("silu",)}
NO_EFFECT = (  # what files say of training, and of the order of gate and norm, which is always this one
    "norm_before_gate", "residual_in_fp32", "rescale_prenorm_residual", "chunk_size", "time_step_rank", "time_step_min",
    "time_step_max", "time_step_floor", "time_step_scale", "time_step_init_scheme", "intermediate_size",
)  # fmt: skip
DEFAULTS: dict[str, Any] = {
    "num_heads": 128, "head_dim": 64, "vocab_size": 32768, "hidden_size": 4096, "state_size": 128, "expand": 2,
    "num_hidden_layers": 64, "conv_kernel": 4, "n_groups": 8, "use_bias": False, "use_conv_bias": True,
    "time_step_limit": [0.0, float("inf")], "layer_norm_epsilon": 1e-5, "bos_token_id": 0, "eos_token_id": 2,
    "max_position_embeddings": 262144,  # a state has no bound: what Codestral Mamba was tested with
}  # fmt: skip
READS = ("num_heads", "state_size", "n_groups", "conv_kernel", "expand", "use_bias", "use_conv_bias",
         "layer_norm_epsilon", "time_step_limit", *KNOWN, *NO_EFFECT)  # fmt: skip


def _prepare(raw: dict) -> dict[str, Any]:
    """In the common spelling, with the sizes of an attention that no layer has."""
    check_known(raw, KNOWN, "'mamba2'")
    found = {name: value for name, value in raw.items() if name not in NO_EFFECT}
    num_layers = found.get("num_hidden_layers") or DEFAULTS["num_hidden_layers"]
    is_count = isinstance(num_layers, int)
    return found | {
        "num_attention_heads": 1, "num_key_value_heads": 1, "intermediate_size": 1,
        "rms_norm_eps": found.get("layer_norm_epsilon") or DEFAULTS["layer_norm_epsilon"],
        "layer_types": ["mamba"] * num_layers if is_count else None,
        "no_rope_layers": [0] * num_layers if is_count else None,
    }  # fmt: skip


def _fields(raw: dict) -> dict[str, Any]:
    check_heads(raw["num_heads"], raw["head_dim"], inner_size_of(raw["expand"], raw["hidden_size"]))
    has_bias = bool(raw["use_bias"])
    sizes = Mamba(
        num_heads=raw["num_heads"], head_dim=raw["head_dim"], state_rows=raw["state_size"],
        num_groups=raw["n_groups"], width=raw["conv_kernel"], norm_epsilon=float(raw["layer_norm_epsilon"]),
        step_bounds=step_bounds(raw), has_input_bias=has_bias, has_output_bias=has_bias,
        has_convolution_bias=bool(raw["use_conv_bias"]),
    )  # fmt: skip
    return {"mixer": sizes, "head_dim": 2}


FAMILIES = (
    Family(
        name="mamba2",
        architecture="Mamba2ForCausalLM",
        prepare=_prepare,
        defaults=DEFAULTS,
        reads=READS,
        fields=_fields,
        slides=no_layer,
        layer_types={"mamba": IN_PLACE | {"has_feed_forward": False}},
        stems=("backbone.",),
        names={"embed_tokens": "embeddings", "norm": "norm_f", "input_layernorm": "norm"} | part_names("mixer"),
    ),
)
