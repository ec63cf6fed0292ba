"""Gemma 1, 2 and 3: scaled embeddings; from Gemma 2 on norms around each half of a layer, a window in most layers.

Of Gemma 3 with images, the text part is read.
"""

from typing import Any

from verbatim.reference.checkpoint.families.family import Family, no_layer, rope_of_each_type, text_part

FIXED = {"norms": "around", "norm_offset": 1.0}
DEFAULTS = {  # what Google left out
    "tie_word_embeddings": True, "head_dim": 256, "num_key_value_heads": 4,
    "max_position_embeddings": 8192, "hidden_act": "gelu_pytorch_tanh", "bos_token_id": 2, "eos_token_id": 1,
}  # fmt: skip
SECOND = DEFAULTS | {
    "query_pre_attn_scalar": 256, "sliding_window": 4096, "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
}  # fmt: skip
TEXT_DEFAULTS = DEFAULTS | {  # the larger models' text_config says only what differs from these
    "vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "max_position_embeddings": 131072, "sliding_window": 4096, "query_pre_attn_scalar": 256,
    "attn_logit_softcapping": None, "final_logit_softcapping": None,
}  # fmt: skip
READS = ("attention_bias", "hidden_activation", "query_pre_attn_scalar", "attn_logit_softcapping",
         "final_logit_softcapping")  # fmt: skip


def _activation(raw: dict) -> dict:
    """Gemma 2 and 3 have a name of their own for it, and ignore the common one."""
    return raw | {"hidden_act": raw.get("hidden_activation") or DEFAULTS["hidden_act"]}


def _text_model(raw: dict) -> dict:
    """Gemma 3's text model, of an image model or not."""
    found = _activation(text_part(raw))
    return rope_of_each_type(
        found, full=found.get("rope_theta") or 1e6, sliding=found.get("rope_local_base_freq") or 1e4
    )


def _first(raw: dict) -> dict:
    """Gemma 1 was published as with the exact GELU, and trained with the other one."""
    name = raw.get("hidden_activation") or raw.get("hidden_act") or "gelu"
    return raw | {"hidden_act": "gelu_pytorch_tanh" if name == "gelu" else name}


def _softcaps(raw: dict) -> dict[str, Any]:
    return {"attention_softcap": raw["attn_logit_softcapping"], "final_softcap": raw["final_logit_softcapping"]}


def _scales(raw: dict) -> dict[str, float]:
    return {
        "embedding_scale": float(raw["hidden_size"]) ** 0.5,
        "attention_scale": float(raw["query_pre_attn_scalar"]) ** -0.5,
    }


def _every_second(raw: dict, num_layers: int) -> list[bool]:
    return [i % 2 == 0 for i in range(num_layers)]


def _all_but_every_sixth(raw: dict, num_layers: int) -> list[bool]:
    pattern = raw.get("sliding_window_pattern") or raw.get("_sliding_window_pattern") or 6
    return [(i + 1) % pattern != 0 for i in range(num_layers)]


FAMILIES = (
    Family(
        name="gemma",
        architecture="GemmaForCausalLM",
        prepare=_first,
        fixed={"norm_offset": 1.0},
        defaults=DEFAULTS | {"num_key_value_heads": 16},
        reads=("attention_bias", "hidden_activation"),
        scales=lambda raw: {"embedding_scale": float(raw["hidden_size"]) ** 0.5},
        slides=no_layer,
    ),
    Family(
        name="gemma2",
        architecture="Gemma2ForCausalLM",
        prepare=_activation,
        fixed=FIXED,
        defaults=SECOND,
        reads=READS,
        scales=_scales,
        fields=_softcaps,
        slides=_every_second,
    ),
    Family(
        name="gemma3",
        architecture="Gemma3ForCausalLM",
        aliases=("Gemma3ForConditionalGeneration",),
        model_types=("gemma3_text", "gemma3"),
        prepare=_text_model,
        fixed=FIXED | {"query_key_norm": "head"},
        defaults=TEXT_DEFAULTS,
        reads=(*READS, "rope_local_base_freq", "sliding_window_pattern", "_sliding_window_pattern"),
        scales=_scales,
        fields=_softcaps,
        slides=_all_but_every_sixth,
    ),
)
