"""OLMo 2 and 3: norms after each half of a layer, and over all heads of queries and of keys together; OLMoE.

OLMo 3 has a window in three of four layers, and stretches the rotary positions of the others only. OLMoE has Llama's
places of norms, and a mixture of experts.
"""

from verbatim.reference.checkpoint.families.family import Family, no_layer, refuse

FIXED = {"norms": "after", "query_key_norm": "all"}


def _rope_of_each_type(raw: dict) -> dict:
    """The spelling of transformers 5, where each type of layer has rotary settings of its own."""
    if raw.get("rope_parameters"):
        return raw
    theta = {"rope_theta": raw.get("rope_theta") or 500000.0}
    full = theta | (raw.get("rope_scaling") or {})
    return raw | {"rope_parameters": {"full_attention": full, "sliding_attention": theta}}


def _three_of_four(raw: dict, num_layers: int) -> list[bool]:
    return [(i + 1) % 4 != 0 for i in range(num_layers)]


def _without_clipping(raw: dict) -> dict:
    refuse(raw, ("clip_qkv",))
    return raw


FAMILIES = (
    Family(name="olmo2", architecture="Olmo2ForCausalLM", fixed=FIXED),
    Family(
        name="olmo3",
        architecture="Olmo3ForCausalLM",
        prepare=_rope_of_each_type,
        fixed=FIXED,
        defaults={"sliding_window": 4096, "rms_norm_eps": 1e-5},
        slides=_three_of_four,
    ),
    Family(
        name="olmoe",
        architecture="OlmoeForCausalLM",
        prepare=_without_clipping,
        fixed={"query_key_norm": "all"},
        defaults={"rms_norm_eps": 1e-5, "num_experts": 64, "num_experts_per_tok": 8},
        slides=no_layer,
    ),
)
