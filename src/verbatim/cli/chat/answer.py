"""An answer as it grows out of chunks: text, thoughts, tool calls, candidates of each token, and the time it took."""

import time
from typing import Any


class Answer:
    """What has come so far. `entries` are OpenAI's `logprobs.content`; times are in seconds."""

    def __init__(self) -> None:
        self.text = ""
        self.calls: list[dict] = []
        self.entries: list[dict] = []
        self.usage: dict = {}
        self.finish_reason: str | None = None
        self.num_chunks = 0
        self._started = time.monotonic()
        self._first: float | None = None
        self._last = self._started

    def add(self, chunk: dict) -> tuple[str, str]:
        """Take a chunk; the text and the thoughts that it adds."""
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk.get("choices") or ():
            if choice.get("index"):
                continue  # only the first choice is shown
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            self.entries += (choice.get("logprobs") or {}).get("content") or ()
            return self._add_delta(choice.get("delta") or choice.get("message") or {})
        return "", ""

    def _add_delta(self, delta: dict) -> tuple[str, str]:
        text = delta.get("content") or delta.get("refusal") or ""
        thoughts = delta.get("reasoning_content") or delta.get("reasoning") or ""
        for position, part in enumerate(delta.get("tool_calls") or ()):
            self._add_call(part.get("index", position), part)
        if text or thoughts or delta.get("tool_calls"):
            self._last = time.monotonic()
            self._first = self._first or self._last
            self.num_chunks += 1
        self.text += text
        return text, thoughts if isinstance(thoughts, str) else ""

    def _add_call(self, index: int, part: dict) -> None:
        """A part of a tool call: its id and name come once, its arguments in pieces."""
        while len(self.calls) <= index:
            self.calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call, function = self.calls[index], part.get("function") or {}
        call["id"] = part.get("id") or call["id"]
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""

    def message(self) -> dict:
        """The assistant's message, as the API takes it back."""
        if self.calls:
            return {"role": "assistant", "content": self.text or None, "tool_calls": self.calls}
        return {"role": "assistant", "content": self.text}

    @property
    def num_tokens(self) -> int:
        """Generated tokens: as the server counts them, else by their candidates, else the number of chunks."""
        return self.usage.get("completion_tokens") or len(self.entries) or self.num_chunks

    @property
    def first_token_seconds(self) -> float | None:
        """From the request to the first token."""
        return None if self._first is None else self._first - self._started

    @property
    def tokens_per_second(self) -> float | None:
        """The speed from the first token on; None for less than two tokens."""
        if self._first is None or self._last <= self._first or self.num_tokens < 2:
            return None
        return (self.num_tokens - 1) / (self._last - self._first)

    def summary(self) -> str:
        """Tokens and speed in a line."""
        words = [f"{self.num_tokens} token{'' if self.num_tokens == 1 else 's'}"]
        if self.tokens_per_second is not None:
            words.append(f"{self.tokens_per_second:.1f} tokens/s")
        if self.finish_reason == "length":
            words.append("cut: max_tokens or the end of the context")
        elif self.finish_reason not in (None, "stop", "tool_calls"):
            words.append(f"ended by {self.finish_reason}")
        return ", ".join(words)

    def stats(self) -> list[tuple[str, str]]:
        """Pairs of a subject and its number, as /stats shows them."""
        rows = [("prompt tokens", _count(self.usage.get("prompt_tokens")))]
        rows.append(("of them cached", _count(_details(self.usage, "prompt").get("cached_tokens"))))
        rows.append(("answer tokens", str(self.num_tokens)))
        rows.append(("time to first token", _milliseconds(self.first_token_seconds)))
        speed = self.tokens_per_second
        rows.append(("tokens/s", "unknown" if speed is None else f"{speed:.1f}"))
        return [*rows, ("draft tokens accepted", self._acceptance())]

    def _acceptance(self) -> str:
        details = _details(self.usage, "completion")
        accepted = details.get("accepted_prediction_tokens") or 0
        drafted = accepted + (details.get("rejected_prediction_tokens") or 0)
        return f"{accepted} of {drafted} ({accepted / drafted:.0%})" if drafted else "no draft tokens"


def _details(usage: dict, name: str) -> dict[str, Any]:
    return usage.get(f"{name}_tokens_details") or {}


def _count(number: int | None) -> str:
    return "unknown" if number is None else str(number)


def _milliseconds(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds * 1000:.0f} ms"
