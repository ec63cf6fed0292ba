"""OLMo 2 and 3: norms after each half of a layer, and over all heads of queries and of keys together; OLMoE.

OLMo 3 has a window in three of four layers, and stretches the rotary positions of the others only. OLMoE has Llama's
places of norms, and a mixture of experts.
"""

from verbatim.reference.checkpoint.families.family import Family, no_layer, rope_of_each_type

FIXED = {"norms": "after", "query_key_norm": "all"}
DEFAULTS = {"rms_norm_eps": 1e-5, "bos_token_id": None, "eos_token_id": 50279}


def _rope_of_each_type(raw: dict) -> dict:
    theta = raw.get("rope_theta") or 500000.0
    return rope_of_each_type(raw, full=theta, sliding=theta)


def _three_of_four(raw: dict, num_layers: int) -> list[bool]:
    return [(i + 1) % 4 != 0 for i in range(num_layers)]


FAMILIES = (
    Family(
        name="olmo2",
        architecture="Olmo2ForCausalLM",
        fixed=FIXED,
        defaults=DEFAULTS,
        reads=("attention_bias",),
        slides=no_layer,
    ),
    Family(
        name="olmo3",
        architecture="Olmo3ForCausalLM",
        prepare=_rope_of_each_type,
        fixed=FIXED,
        defaults=DEFAULTS | {"sliding_window": 4096},
        reads=("attention_bias",),
        slides=_three_of_four,
    ),
    Family(
        name="olmoe",
        architecture="OlmoeForCausalLM",
        fixed={"query_key_norm": "all"},
        defaults=DEFAULTS | {"num_local_experts": 64, "num_experts_per_tok": 8, "max_position_embeddings": 4096},
        reads=("attention_bias",),
        slides=no_layer,
        has_experts=True,
    ),
)
