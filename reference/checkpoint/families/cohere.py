"""Cohere's Command R, R+, R7B and A, Aya: layer norms without biases, one for both halves of a layer; paired rotation.

From Command R7B on (Cohere 2) three of four layers have a window, and the others no positions. Command R+ norms queries
and keys, each head with weights of its own.
"""

from typing import Any

from verbatim.reference.checkpoint.families.family import Family, check_known, no_layer

DEFAULTS: dict[str, Any] = {
    "layer_norm_eps": 1e-5, "logit_scale": 0.0625, "tie_word_embeddings": True, "max_position_embeddings": 8192,
    "bos_token_id": 5, "eos_token_id": 255001,
}  # fmt: skip
ONLY: dict[str, tuple] = {  # what published files say of themselves, and what is computed
    "use_parallel_block": (True,), "use_gated_activation": (True,), "use_embedding_sharing": (True,),
    "use_parallel_embedding": (True, False), "position_embedding_type": ("rope_gptj",), "rotary_pct": (1.0,),
    "order_of_interleaved_layers": ("local_attn_first",), "layer_switch": (4,),
}  # fmt: skip
READS = ("attention_bias", "layer_norm_eps", "logit_scale")


def _prepare(raw: dict) -> dict:
    """ModelError for a file that says that it is something else."""
    check_known(raw, ONLY, "Cohere's models")
    return raw


def _second(raw: dict) -> dict:
    """Layers without a window have no positions."""
    raw, num_layers = _prepare(raw), raw.get("num_hidden_layers")
    if not isinstance(num_layers, int):
        return raw  # refused by name later
    slides = [name == "sliding_attention" for name in raw.get("layer_types") or ()] or _three_of_four(raw, num_layers)
    has_window = raw.get("sliding_window", 4096) is not None
    return raw | {"no_rope_layers": [int(is_near and has_window) for is_near in slides]}


def _three_of_four(raw: dict, num_layers: int) -> list[bool]:
    pattern = raw.get("sliding_window_pattern") or 4
    return [(i + 1) % pattern != 0 for i in range(num_layers)]


def _fields(raw: dict) -> dict[str, Any]:
    return {
        "norm_epsilon": float(raw["layer_norm_eps"]),
        "logits_divisor": 1 / float(raw["logit_scale"]),
        "query_key_norm": "heads" if raw.get("use_qk_norm") else None,
    }


SHARED: dict[str, Any] = {
    "fixed": {"norms": "parallel", "norm_type": "layer"}, "fields": _fields, "has_pairs": True,
}  # fmt: skip
FAMILIES = (
    Family(
        name="cohere",
        architecture="CohereForCausalLM",
        prepare=_prepare,
        defaults=DEFAULTS | {"rope_theta": 500000.0},
        reads=(*READS, *ONLY, "use_qk_norm"),
        slides=no_layer,
        **SHARED,
    ),
    Family(
        name="cohere2",
        architecture="Cohere2ForCausalLM",
        prepare=_second,
        defaults=DEFAULTS | {"sliding_window": 4096},
        reads=(*READS, *ONLY, "sliding_window_pattern"),
        slides=_three_of_four,
        **SHARED,
    ),
)
