"""Models without a chat template: a message becomes the prompt of `/completions`, its chunks those of a chat."""

from collections.abc import Iterator

SETTINGS_OF_CHATS = ("messages", "tools", "tool_choice", "parallel_tool_calls", "max_completion_tokens")


def completion_body(body: dict) -> dict:
    """The body of `POST /v1/completions` that continues the last message of a chat's body, and knows no other."""
    texts = [message["content"] for message in body["messages"] if message["role"] == "user"]
    kept = {name: value for name, value in body.items() if name not in SETTINGS_OF_CHATS}
    max_tokens = body.get("max_completion_tokens")
    return kept | {"prompt": texts[-1]} | ({"max_tokens": max_tokens} if max_tokens else {})


def chat_chunk(chunk: dict) -> dict:
    """A chunk of a completion in the form of a chat's."""
    return chunk | {"choices": [_choice(choice) for choice in chunk.get("choices") or ()]}


def _choice(choice: dict) -> dict:
    entries = list(_entries(choice.get("logprobs") or {}))
    return choice | {"delta": {"content": choice.get("text") or ""}, "logprobs": {"content": entries}}


def _entries(logprobs: dict) -> Iterator[dict]:
    """Entries as a chat has them, of the parallel arrays of a completion."""
    tokens, scores, tops = (logprobs.get(name) or [] for name in ("tokens", "token_logprobs", "top_logprobs"))
    for token, score, top in zip(tokens, scores, tops, strict=False):
        if score is not None:
            ranked = sorted((top or {}).items(), key=lambda item: -item[1])
            candidates = [{"token": text, "logprob": logprob} for text, logprob in ranked]
            yield {"token": token, "logprob": score, "top_logprobs": candidates}
