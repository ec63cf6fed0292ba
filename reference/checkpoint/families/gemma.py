"""Gemma 2 and 3: norms around each half of a layer, scaled embeddings, a window in most layers."""

from verbatim.reference.checkpoint.families.family import Family

FIXED = {"norms": "around", "norm_offset": 1.0}
DEFAULTS = {"tie_word_embeddings": True, "query_pre_attn_scalar": 256, "head_dim": 256}  # what Google left out


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
        fixed=FIXED | {"query_key_norm": "head"},
        defaults=DEFAULTS,
        scales=_scales,
        slides=_all_but_every_sixth,
    ),
)
