"""Gemma 1, 2 and 3: scaled embeddings; from Gemma 2 on norms around each half of a layer, a window in most layers.

Of Gemma 3 with images, the text part is read.
"""

from verbatim.reference.checkpoint.families.family import Family, no_layer, refuse, text_part

FIXED = {"norms": "around", "norm_offset": 1.0}
DEFAULTS = {"tie_word_embeddings": True, "query_pre_attn_scalar": 256, "head_dim": 256}  # what Google left out

TEXT_DEFAULTS = DEFAULTS | {  # the larger models' text_config says only what differs from these
    "vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "num_key_value_heads": 4, "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 131072, "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0,
    "sliding_window": 4096, "eos_token_id": 1, "bos_token_id": 2,
}  # fmt: skip


def _causal(raw: dict) -> dict:
    """Whether it is the text model of an image model or not."""
    found = text_part(raw)
    refuse(found, ("use_bidirectional_attention",))
    return found


def _first(raw: dict) -> dict:
    """Gemma 1 was published as with the exact GELU, and trained with the other one."""
    refuse(raw, ("use_bidirectional_attention",))
    return raw | {"hidden_activation": raw.get("hidden_activation") or "gelu_pytorch_tanh"}


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
        defaults={"tie_word_embeddings": True, "head_dim": 256},
        scales=lambda raw: {"embedding_scale": float(raw["hidden_size"]) ** 0.5},
        slides=no_layer,
    ),
    Family(
        name="gemma2",
        architecture="Gemma2ForCausalLM",
        fixed=FIXED,
        defaults=DEFAULTS,
        scales=_scales,
        slides=_every_second,
    ),
    Family(
        name="gemma3",
        architecture="Gemma3ForCausalLM",
        aliases=("Gemma3ForConditionalGeneration",),
        prepare=_causal,
        fixed=FIXED | {"query_key_norm": "head"},
        defaults=TEXT_DEFAULTS,
        scales=_scales,
        slides=_all_but_every_sixth,
    ),
)
