"""Qwen 2, 2.5 and 3, and Qwen 3 with experts: biases, or norms of queries and keys; windows in the last layers."""

from verbatim.reference.checkpoint.families.family import Family


def _last_layers(raw: dict, num_layers: int) -> list[bool]:
    return [i >= raw.get("max_window_layers", 28) for i in range(num_layers)]


FAMILIES = (
    Family(name="qwen2", architecture="Qwen2ForCausalLM", fixed={"query_bias": True}, slides=_last_layers),
    Family(name="qwen3", architecture="Qwen3ForCausalLM", fixed={"query_key_norm": "head"}, slides=_last_layers),
    Family(name="qwen3_moe", architecture="Qwen3MoeForCausalLM", fixed={"query_key_norm": "head"}),
)
