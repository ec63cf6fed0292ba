"""Bamba: state spaces (N15) in most layers, attention in those that are listed; half of a head's features turn."""

from typing import Any

from verbatim.reference.checkpoint import mamba_settings
from verbatim.reference.checkpoint.families.family import Family, check_known, no_layer
from verbatim.reference.records.errors import ModelError

ROTATED = 0.5  # of a head's features, whatever config.json says
NAMES = {
    "norm": "final_layernorm", "post_attention_layernorm": "pre_ff_layernorm",
    **{f"mlp.{part}_proj": f"feed_forward.{part}_proj" for part in ("gate", "up", "down")},
}  # fmt: skip


def _prepare(raw: dict) -> dict[str, Any]:
    """In the common spelling: which layers attend. ModelError for another rotation than is computed."""
    check_known(raw, {"hidden_act": ("silu",)}, "'bamba'")
    num_layers, attending = raw.get("num_hidden_layers"), raw.get("attn_layer_indices") or []
    heads, rotated = raw.get("num_attention_heads"), raw.get("attn_rotary_emb")
    if isinstance(heads, int) and heads > 0 and rotated is not None:
        head_dim = raw.get("head_dim") or raw.get("hidden_size", 0) // heads
        if rotated != int(head_dim * ROTATED):
            raise ModelError(f"config.json: attn_rotary_emb must be half of {head_dim} features, not {rotated!r}")
    found = raw | {"partial_rotary_factor": ROTATED}
    if isinstance(num_layers, int):
        found["layer_types"] = ["attention" if i in attending else "mamba" for i in range(num_layers)]
    return found


FAMILIES = (
    Family(
        name="bamba",
        architecture="BambaForCausalLM",
        prepare=_prepare,
        defaults=mamba_settings.DEFAULTS | {
            "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "max_position_embeddings": 262144,
        },
        reads=(*mamba_settings.READS, "attn_layer_indices", "attn_rotary_emb", "attention_bias", "mlp_bias"),
        fields=mamba_settings.mixer_of_some_layers,
        slides=no_layer,
        layer_types=mamba_settings.LAYER_TYPES,
        names=NAMES,
    ),
)  # fmt: skip
