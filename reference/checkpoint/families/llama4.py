"""Llama 4's text model: attention within chunks, layers without positions, experts whose inputs are weighted (N9).

Queries and keys are normed after rotation, without a weight; where a layer has no positions, queries grow with theirs.
Of the models with images the text part is read.
"""

from typing import Any

from verbatim.reference.checkpoint.families.family import ExpertNames, Family, no_layer, text_part
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.rope import PositionScale

LAYER_TYPES = ("chunked_attention", "full_attention")
DEFAULTS: dict[str, Any] = {
    "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "num_key_value_heads": 8, "head_dim": 128,
    "max_position_embeddings": 131072, "num_experts_per_tok": 1, "num_local_experts": 16, "use_qk_norm": True,
    "attn_temperature_tuning": True, "floor_scale": 8192, "attn_scale": 0.1, "attention_chunk_size": 8192,
    "no_rope_layer_interval": 4, "interleave_moe_layer_step": 1,
}  # fmt: skip
SIZES = {  # what a text_config may leave out besides
    "vocab_size": 202048, "hidden_size": 5120, "intermediate_size": 8192, "intermediate_size_mlp": 16384,
    "num_hidden_layers": 48, "num_attention_heads": 40,
}  # fmt: skip


def _prepare(raw: dict) -> dict:
    """In the common spelling: the feed-forward size is that of dense layers, experts have one of their own."""
    found = text_part(raw)
    found = (SIZES if raw.get("text_config") is not None else {}) | found
    num_layers = found.get("num_hidden_layers")
    if not isinstance(num_layers, int):
        return found  # refused by name later
    inner = found.get("intermediate_size")
    chunks = _chunked(found, num_layers)
    return found | {
        "intermediate_size": found.get("intermediate_size_mlp") or SIZES["intermediate_size_mlp"] if inner else None,
        "moe_intermediate_size": inner, "layer_types": None, "chunked_layers": chunks,
        "mlp_only_layers": [i for i in range(num_layers) if i not in _with_experts(found, num_layers)],
    }  # fmt: skip


def _with_experts(raw: dict, num_layers: int) -> list[int]:
    listed, step = raw.get("moe_layers"), raw.get("interleave_moe_layer_step") or 1
    return list(range(step - 1, num_layers, step)) if listed is None else listed


def _chunked(raw: dict, num_layers: int) -> list[bool]:
    """The layers that attend within chunks: those that are listed, or all that have positions."""
    types, interval = raw.get("layer_types"), raw.get("no_rope_layer_interval") or DEFAULTS["no_rope_layer_interval"]
    if types is None:
        has_positions = raw.get("no_rope_layers") or [(i + 1) % interval for i in range(num_layers)]
        return [bool(turns) for turns in has_positions]
    if len(types) != num_layers or not all(name in LAYER_TYPES for name in types):
        wanted = f"{num_layers} times {' or '.join(LAYER_TYPES)}"
        raise ModelError(f"config.json: layer_types must be {wanted}, not {types!r}")
    return [name == "chunked_attention" for name in types]


def _fields(raw: dict) -> dict[str, Any]:
    found: dict[str, Any] = {"query_key_norm": "unit" if raw["use_qk_norm"] else None, "norms_rotated": True}
    if raw["attn_temperature_tuning"]:
        beta, length = float(raw["attn_scale"]), int(raw["floor_scale"])
        found["position_scale"] = PositionScale(beta=beta, length=length, offset=1, only_unrotated=True)
    return found


FAMILIES = (
    Family(
        name="llama4",
        architecture="Llama4ForCausalLM",
        aliases=("Llama4ForConditionalGeneration",),
        model_types=("llama4_text", "llama4"),
        prepare=_prepare,
        defaults=DEFAULTS,
        reads=(
            "attention_bias", "attention_chunk_size", "chunked_layers", "use_qk_norm", "attn_temperature_tuning",
            "floor_scale", "attn_scale", "moe_layers", "interleave_moe_layer_step", "intermediate_size_mlp",
        ),
        fields=_fields,
        slides=no_layer,
        has_pairs=True,
        has_experts=True,
        routing=lambda raw: {"routing": "input", "shared_size": raw["moe_intermediate_size"]},
        experts=ExpertNames(
            part="feed_forward.", router="router", joined=("experts.gate_up_proj", "experts.down_proj")
        ),
        names={f"mlp.{part}_proj": f"feed_forward.{part}_proj" for part in ("gate", "up", "down")},
    ),
)  # fmt: skip
