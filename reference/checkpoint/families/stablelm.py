"""StableLM: layer norms, rotary positions on a part of each head, and a residual that may be parallel."""

from typing import Any

from verbatim.reference.checkpoint.families.family import Family, no_layer

EPOCH = {"norm_eps": "layer_norm_eps", "rope_pct": "partial_rotary_factor"}  # the first models' own names


def _renamed(raw: dict) -> dict:
    return {EPOCH.get(name, name): value for name, value in raw.items()}


def _fields(raw: dict) -> dict[str, Any]:
    return {
        "norm_epsilon": float(raw["layer_norm_eps"]),
        "norms": "parallel" if raw.get("use_parallel_residual") else "before",
        "query_bias": bool(raw.get("use_qkv_bias", False)),
    }


FAMILIES = (
    Family(
        name="stablelm",
        architecture="StableLmForCausalLM",
        aliases=("StableLMEpochForCausalLM",),
        model_types=("stablelm", "stablelm_epoch"),
        prepare=_renamed,
        defaults={
            "layer_norm_eps": 1e-5,
            "partial_rotary_factor": 0.25,
            "num_key_value_heads": 32,
            "bos_token_id": 0,
            "max_position_embeddings": 4096,
            "eos_token_id": 0,
        },
        reads=("layer_norm_eps", "use_parallel_residual", "use_qkv_bias"),
        fields=_fields,
        fixed={"norm_type": "layer", "norm_bias": True},
        slides=no_layer,
    ),
)
