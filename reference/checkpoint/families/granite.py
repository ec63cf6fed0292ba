"""Granite: Llama with constant factors on embeddings, attention, residuals and logits, with experts or without."""

from verbatim.reference.checkpoint.families.family import ExpertNames, Family


def _scales(raw: dict) -> dict[str, float]:
    return {
        "embedding_scale": float(raw.get("embedding_multiplier", 1.0)),
        "attention_scale": float(raw.get("attention_multiplier", 1.0)),
        "residual_scale": float(raw.get("residual_multiplier", 1.0)),
        "logits_divisor": float(raw.get("logits_scaling", 1.0)),
    }


FAMILIES = (
    Family(name="granite", architecture="GraniteForCausalLM", scales=_scales),
    Family(
        name="granitemoe",
        architecture="GraniteMoeForCausalLM",
        scales=_scales,
        defaults={"num_local_experts": 8, "num_experts_per_tok": 2},
        normalizes_experts=True,
        experts=ExpertNames(
            part="block_sparse_moe.", router="router.layer", up="input_linear", down="output_linear", is_stacked=True
        ),
    ),
)
