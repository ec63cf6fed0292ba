"""Granite: Llama with constant factors on embeddings, attention, residuals and logits."""

from verbatim.reference.checkpoint.families.family import Family


def _scales(raw: dict) -> dict[str, float]:
    return {
        "embedding_scale": float(raw.get("embedding_multiplier", 1.0)),
        "attention_scale": float(raw.get("attention_multiplier", 1.0)),
        "residual_scale": float(raw.get("residual_multiplier", 1.0)),
        "logits_divisor": float(raw.get("logits_scaling", 1.0)),
    }


FAMILIES = (Family(name="granite", architecture="GraniteForCausalLM", scales=_scales),)
