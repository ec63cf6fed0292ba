"""Granite: Llama with constant factors on embeddings, attention, residuals and logits, with experts or without.

Granite 4 has state spaces (N15) in most layers, and a network that every token takes beside the experts.
"""

from typing import Any

from verbatim.reference.checkpoint import mamba_settings
from verbatim.reference.checkpoint.families.family import ExpertNames, Family, check_known, no_layer

KNOWN: dict[str, tuple] = {
    "hidden_act": ("silu",), "normalization_function": ("rmsnorm",), "position_embedding_type": ("rope", "nope"),
    "init_method": ("mup",),
}  # fmt: skip
FACTORS = ("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling")


def _scales(raw: dict) -> dict[str, float]:
    return {
        "embedding_scale": float(raw.get("embedding_multiplier", 1.0)),
        "attention_scale": float(raw.get("attention_multiplier", 1.0)),
        "residual_scale": float(raw.get("residual_multiplier", 1.0)),
        "logits_divisor": float(raw.get("logits_scaling", 1.0)),
    }


def _prepare_hybrid(raw: dict) -> dict[str, Any]:
    """In the common spelling: which layers attend, with positions or without, and both sizes of networks."""
    check_known(raw, KNOWN, "'granitemoehybrid'")
    num_layers, inner = raw.get("num_hidden_layers"), raw.get("intermediate_size")
    if not isinstance(num_layers, int):
        return raw  # refused by name later
    return raw | {
        "layer_types": raw.get("layer_types") or raw.get("layers_block_type") or ["mamba"] * num_layers,
        "no_rope_layers": None if raw.get("position_embedding_type") == "rope" else [0] * num_layers,
        "moe_intermediate_size": raw.get("moe_intermediate_size") or inner,
        "intermediate_size": raw.get("shared_intermediate_size", 1024),
    }  # fmt: skip


FAMILIES = (
    Family(
        name="granite",
        architecture="GraniteForCausalLM",
        reads=(*FACTORS, "attention_bias", "mlp_bias"),
        scales=_scales,
        slides=no_layer,
    ),
    Family(
        name="granitemoe",
        architecture="GraniteMoeForCausalLM",
        scales=_scales,
        defaults={"num_local_experts": 8, "num_experts_per_tok": 2},
        reads=(*FACTORS, "attention_bias"),
        slides=no_layer,
        has_experts=True,
        normalizes_experts=True,
        experts=ExpertNames(
            part="block_sparse_moe.", router="router.layer", up="input_linear", down="output_linear", is_stacked=True
        ),
    ),
    Family(
        name="granitemoehybrid",
        architecture="GraniteMoeHybridForCausalLM",
        prepare=_prepare_hybrid,
        scales=_scales,
        defaults=mamba_settings.DEFAULTS | {"num_local_experts": 8, "num_experts_per_tok": 2},
        reads=(
            *mamba_settings.READS, *FACTORS, *KNOWN, "attention_bias", "layers_block_type", "shared_intermediate_size",
        ),
        fields=mamba_settings.mixer_of_some_layers,
        slides=no_layer,
        layer_types=mamba_settings.LAYER_TYPES,
        has_fused_gate=True,
        has_experts=True,
        normalizes_experts=True,
        routing=lambda raw: {"shared_size": raw["intermediate_size"]},
        experts=ExpertNames(
            part="block_sparse_moe.", router="router.layer", up="input_linear", down="output_linear", is_stacked=True,
            is_shared_network=True,
        ),
        names={"mlp.gate_up_proj": "shared_mlp.input_linear", "mlp.down_proj": "shared_mlp.output_linear"},
    ),
)  # fmt: skip
