"""Qwen 2, 2.5 and 3, both also with experts: biases, or norms of queries and keys; windows in the last layers."""

from typing import Any

from verbatim.reference.checkpoint.families.family import Family


def _last_layers(raw: dict, num_layers: int) -> list[bool]:
    return [i >= raw.get("max_window_layers", 28) for i in range(num_layers)]


def _every_second_of_the_first(raw: dict, num_layers: int) -> list[bool]:
    return [i % 2 == 0 and i < raw.get("max_window_layers", 28) for i in range(num_layers)]


def _shared_expert(raw: dict) -> dict[str, Any]:
    return {"shared_size": raw["shared_expert_intermediate_size"], "has_shared_gate": True}


FAMILIES = (
    Family(name="qwen2", architecture="Qwen2ForCausalLM", fixed={"query_bias": True}, slides=_last_layers),
    Family(name="qwen3", architecture="Qwen3ForCausalLM", fixed={"query_key_norm": "head"}, slides=_last_layers),
    Family(
        name="qwen2_moe",
        architecture="Qwen2MoeForCausalLM",
        defaults={
            "num_experts": 60,
            "num_experts_per_tok": 4,
            "moe_intermediate_size": 1408,
            "use_sliding_window": False,
            "shared_expert_intermediate_size": 5632,
        },
        fields=lambda raw: {"query_bias": bool(raw.get("qkv_bias", True))},
        routing=_shared_expert,
        slides=_every_second_of_the_first,
    ),
    Family(name="qwen3_moe", architecture="Qwen3MoeForCausalLM", fixed={"query_key_norm": "head"}),
)
