"""Mistral: Llama with a sliding window in every layer, where config.json gives one. Ministral 3 scales its queries.

Of Mistral Small 3.x and Ministral 3 with images, the text part is read.
"""

from typing import Any

from verbatim.reference.checkpoint.config_values import is_number
from verbatim.reference.checkpoint.families.family import Family, text_part
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.rope import PositionScale

TEXT_TYPES = ("mistral", "ministral3")
SIZES = {  # what a text_config may leave out besides
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32,
}  # fmt: skip
THIRD = {  # what Ministral 3 means by leaving it out
    "rms_norm_eps": 1e-5, "max_position_embeddings": 262144, "head_dim": 128, "sliding_window": None,
}  # fmt: skip
THIRD_SIZES = SIZES | {"vocab_size": 131072, "num_hidden_layers": 34}
THIRD_ROPE = {
    "rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 16384, "mscale": 1.0,
    "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1,
}  # fmt: skip


def _text_part(raw: dict) -> dict:
    found = text_part(raw)
    if raw.get("text_config") and found.get("model_type", "mistral") not in TEXT_TYPES:
        raise ModelError(
            f"config.json: text_config.model_type {found['model_type']!r} is not supported; "
            f"supported: {', '.join(TEXT_TYPES)}"
        )
    is_third = found.get("model_type") == "ministral3" or "Ministral3ForCausalLM" in (raw.get("architectures") or [])
    sizes = {} if raw.get("text_config") is None else THIRD_SIZES if is_third else SIZES
    if not is_third:
        return sizes | found
    has_rope = found.get("rope_parameters") or found.get("rope_scaling")
    return sizes | THIRD | found | ({} if has_rope else {"rope_parameters": THIRD_ROPE})


def _position_scale(raw: dict) -> dict[str, Any]:
    """Where the context is longer than the original one: up to there all factors are 1."""
    rope = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    beta, length = rope.get("llama_4_scaling_beta"), rope.get("original_max_position_embeddings")
    if not beta or length is None:
        return {}
    if not (is_number(beta) and is_number(length) and length >= 1):
        raise ModelError(f"config.json: llama_4_scaling_beta {beta!r} and its context {length!r} must be numbers")
    return {"position_scale": PositionScale(beta=float(beta), length=int(length))}


FAMILIES = (
    Family(
        name="mistral",
        architecture="MistralForCausalLM",
        aliases=("MinistralForCausalLM", "Ministral3ForCausalLM", "Mistral3ForConditionalGeneration"),
        model_types=("mistral", "ministral", "ministral3", "mistral3"),
        prepare=_text_part,
        defaults={"num_key_value_heads": 8, "sliding_window": 4096, "max_position_embeddings": 131072},
        fields=_position_scale,
    ),
)
