"""Granite: Llama with constant factors on embeddings, attention, residuals and logits, with experts or without."""

from verbatim.reference.checkpoint.families.family import ExpertNames, Family, no_layer

FACTORS = ("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling")


def _scales(raw: dict) -> dict[str, float]:
    return {
        "embedding_scale": float(raw.get("embedding_multiplier", 1.0)),
        "attention_scale": float(raw.get("attention_multiplier", 1.0)),
        "residual_scale": float(raw.get("residual_multiplier", 1.0)),
        "logits_divisor": float(raw.get("logits_scaling", 1.0)),
    }


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
)
