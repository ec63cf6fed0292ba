"""StableLM: layer norms, rotary positions on a part of each head, and a residual that may be parallel."""

from typing import Any

from verbatim.reference.checkpoint.families.family import Family, no_layer, refuse


def _without_head_norms(raw: dict) -> dict:
    refuse(raw, ("qk_layernorm",))  # a layer norm for each head
    return raw


def _fields(raw: dict) -> dict[str, Any]:
    return {
        "norm_epsilon": float(raw["layer_norm_eps"]),
        "norms": "parallel" if raw.get("use_parallel_residual") else "before",
        "query_bias": bool(raw.get("use_qkv_bias", False)),
        "output_bias": False,
    }


FAMILIES = (
    Family(
        name="stablelm",
        architecture="StableLmForCausalLM",
        aliases=("StableLMEpochForCausalLM",),
        prepare=_without_head_norms,
        defaults={"layer_norm_eps": 1e-5, "partial_rotary_factor": 0.25},
        fields=_fields,
        fixed={"norm_type": "layer", "norm_bias": True},
        slides=no_layer,
    ),
)
