"""Mistral: Llama with a sliding window in every layer, where config.json gives one. Ministral 3 scales its queries.

Of Mistral Small 3.x and Ministral 3 with images, the text part is read.
"""

from typing import Any

from verbatim.reference.checkpoint.families.family import Family, text_part
from verbatim.reference.records.config import PositionScale
from verbatim.reference.records.errors import ModelError

TEXT_TYPES = ("mistral", "ministral3")


def _text_part(raw: dict) -> dict:
    found = text_part(raw)
    if "text_config" in raw and found.get("model_type", "mistral") not in TEXT_TYPES:
        raise ModelError(
            f"config.json: text_config.model_type {found['model_type']!r} is not supported; "
            f"supported: {', '.join(TEXT_TYPES)}"
        )
    return found


def _position_scale(raw: dict) -> dict[str, Any]:
    """Where the context is longer than the original one: up to there all factors are 1."""
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    beta, length = rope.get("llama_4_scaling_beta"), rope.get("original_max_position_embeddings")
    if not beta or length is None:
        return {}
    return {"position_scale": PositionScale(beta=float(beta), length=int(length))}


FAMILIES = (
    Family(
        name="mistral",
        architecture="MistralForCausalLM",
        aliases=("Ministral3ForCausalLM", "Mistral3ForConditionalGeneration"),
        prepare=_text_part,
        fields=_position_scale,
    ),
)
