"""From mlc-chat-config.json to the config.json of the model that it was made of, which the family then reads."""

from typing import Any

from verbatim.reference.records.errors import ModelError

ARCHITECTURES = {
    "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "mixtral": "MixtralForCausalLM",
    "qwen2": "Qwen2ForCausalLM", "qwen2_moe": "Qwen2MoeForCausalLM", "qwen3": "Qwen3ForCausalLM",
    "qwen3-embedding": "Qwen3ForCausalLM", "qwen3_moe": "Qwen3MoeForCausalLM", "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM", "gemma3": "Gemma3ForCausalLM", "gemma3_text": "Gemma3ForCausalLM",
    "phi3": "Phi3ForCausalLM", "phi": "PhiForCausalLM", "olmo2": "Olmo2ForCausalLM", "internlm2": "LlamaForCausalLM",
    "stablelm": "StableLmForCausalLM", "starcoder2": "Starcoder2ForCausalLM",
}  # fmt: skip
WINDOWED = ("mistral", "gemma3", "gemma3_text")  # whose sliding_window_size counts
TIED = ("gemma", "gemma2", "gemma3", "gemma3_text")  # which never have a head of their own
OF_THE_LIBRARY = (  # sizes that MLC compiles into a library, or that say how it was compiled
    "prefill_chunk_size", "tensor_parallel_shards", "pipeline_parallel_stages", "max_batch_size", "disaggregation",
    "dtype", "is_text_model", "kwargs",
)  # fmt: skip
RENAMED = ("context_window_size", "sliding_window_size", "attention_sink_size", "position_embedding_base")


def raw_config(chat: dict[str, Any]) -> dict[str, Any]:
    """The config.json; ModelError names what is missing, wrong, or not supported."""
    name = chat.get("model_type")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise ModelError(f"model_type {name!r} is not supported; supported: {', '.join(ARCHITECTURES)}")
    given = _object(chat, "model_config")
    if isinstance(given.get("text_config"), dict):
        others = given["text_config"].get("kwargs")
        given = given | given["text_config"] | (others if isinstance(others, dict) else {})
    raw = {key: given[key] for key in given if key not in (*OF_THE_LIBRARY, *RENAMED, "text_config", "model_type")}
    raw["architectures"] = [ARCHITECTURES[name]]
    raw["vocab_size"] = given.get("vocab_size", chat.get("vocab_size"))
    if (base := given.get("position_embedding_base")) is not None:
        raw["rope_theta"] = base
    if context := context_size(chat):
        raw.setdefault("max_position_embeddings", context)
    if name in TIED:
        raw["tie_word_embeddings"] = True
    return raw | _window(name, chat, given) | _ids(chat)


def context_size(chat: dict[str, Any]) -> int | None:
    """The smaller of the two context_window_size; None where both are -1 or missing: a window bounds it alone."""
    given = _object(chat, "model_config")
    text = given["text_config"] if isinstance(given.get("text_config"), dict) else {}
    found = [_size(part, "context_window_size") for part in (chat, given, text)]
    return min((size for size in found if size is not None), default=None)


def _window(name: str, chat: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The sliding window, with attention sinks, where the model has one; no other model may be given one."""
    size = _size(chat, "sliding_window_size") or _size(given, "sliding_window_size")
    if name not in WINDOWED:
        if size:
            raise ModelError(
                f"sliding_window_size {size} is not supported for model_type {name!r}: give --sliding-window-size"
            )
        return {}
    if size is None and name != "mistral":
        return {}  # what the family means by leaving it out
    sinks = _size(chat, "attention_sink_size", least=0) or 0
    return {"sliding_window": size} | ({"attention_sink_size": sinks} if size and sinks else {})


def _ids(chat: dict[str, Any]) -> dict[str, Any]:
    """The first token, and those that end an answer: the template's, and those of the model."""
    template = chat.get("conv_template")
    stops = template.get("stop_token_ids") if isinstance(template, dict) else None
    ends = chat.get("eos_token_id")
    stops, ends = stops if isinstance(stops, list) else [], ends if isinstance(ends, list) else [ends]
    found = [token_id for token_id in (*stops, *ends) if token_id is not None]
    if not all(type(token_id) is int for token_id in found):
        raise ModelError(f"stop_token_ids and eos_token_id must be whole numbers, not {str(found)[:100]}")
    return {"bos_token_id": chat.get("bos_token_id"), "eos_token_id": list(dict.fromkeys(found))}


def _object(found: dict[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(found.get(name), dict):
        raise ModelError(f"{name} must be an object, not {str(found.get(name))[:100]!r}")
    return found[name]


def _size(found: dict[str, Any], name: str, *, least: int = 1) -> int | None:
    """A size, None where it is -1, null or missing."""
    value = found.get(name)
    if value in (None, -1) or (value == 0 and least):  # 0 is what MLC's classes have before they know it
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ModelError(f"{name} must be a whole number of at least {least}, or -1 for none, not {value!r}")
    return value
