"""Qwen 2, 2.5 and 3, both also with experts: biases, or norms of queries and keys; windows in the last layers."""

from typing import Any

from verbatim.reference.checkpoint.families.family import Family


def _last_layers(raw: dict, num_layers: int) -> list[bool]:
    return [i >= raw.get("max_window_layers", 28) for i in range(num_layers)]


def _every_second_of_the_first(raw: dict, num_layers: int) -> list[bool]:
    return [i % 2 == 0 and i < raw.get("max_window_layers", 28) for i in range(num_layers)]


DEFAULTS = {"use_sliding_window": False, "max_position_embeddings": 32768, "bos_token_id": None, "eos_token_id": None}
WINDOW = {"sliding_window": 4096, "num_key_value_heads": 32}


def _shared_expert(raw: dict) -> dict[str, Any]:
    return {"shared_size": raw["shared_expert_intermediate_size"], "has_shared_gate": True}


FAMILIES = (
    Family(
        name="qwen2",
        architecture="Qwen2ForCausalLM",
        defaults=DEFAULTS | WINDOW,
        fixed={"query_bias": True},
        reads=("max_window_layers",),
        slides=_last_layers,
    ),
    Family(
        name="qwen3",
        architecture="Qwen3ForCausalLM",
        defaults=DEFAULTS | WINDOW | {"head_dim": 128},
        fixed={"query_key_norm": "head"},
        reads=("max_window_layers", "attention_bias"),
        slides=_last_layers,
    ),
    Family(
        name="qwen2_moe",
        architecture="Qwen2MoeForCausalLM",
        defaults=DEFAULTS
        | {
            "num_local_experts": 60,
            "num_experts_per_tok": 4,
            "moe_intermediate_size": 1408,
            "sliding_window": 4096,
            "shared_expert_intermediate_size": 5632,
            "num_key_value_heads": 16,
        },
        reads=("max_window_layers", "qkv_bias", "shared_expert_intermediate_size"),
        has_experts=True,
        fields=lambda raw: {"query_bias": bool(raw.get("qkv_bias", True))},
        routing=_shared_expert,
        slides=_every_second_of_the_first,
    ),
    Family(
        name="qwen3_moe",
        architecture="Qwen3MoeForCausalLM",
        defaults=DEFAULTS
        | {
            "num_local_experts": 128,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 768,
            "sliding_window": 4096,
            "num_key_value_heads": 4,
        },
        fixed={"query_key_norm": "head"},
        reads=("attention_bias", "max_window_layers"),
        has_experts=True,
    ),
)
