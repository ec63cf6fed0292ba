"""Answers in Ollama's form: lines of JSON, the last of them with counts and durations in nanoseconds.

A chat's pieces are a `message`, those of a completion a `response`. Calls of tools come whole, before the last line.
"""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from verbatim.reference.records.request import FinishReason, Output
from verbatim.server.api.builder import Builder, Streaming
from verbatim.server.api.chat.choice import ChatBuilder, ChatChoice
from verbatim.server.api.completions.choice import CompletionBuilder, CompletionChoice
from verbatim.server.api.messages import parse_arguments
from verbatim.server.http import sse
from verbatim.server.http.error_answers import describe

MEDIA_TYPE = "application/x-ndjson"


def line(value: dict) -> bytes:
    """One piece of a stream."""
    return sse.event(value).removeprefix(b"data: ")[:-1]


def now() -> str:
    """The time as Ollama writes it (RFC 3339)."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def shape(body: dict) -> dict:
    """The body of an error as Ollama writes it, and beside it what Ollama does not have: field and code."""
    error = body["error"]
    return {"error": error["message"], "param": error["param"], "code": error["code"]}


class LineBuilder(Builder):
    """The lines of one answer, made of the only choice of a chat or a completion (`inner`).

    `is_chat` says what they answer: a prompt's answer, too, may be that of a chat.
    """

    def __init__(self, name: str, inner: ChatBuilder | CompletionBuilder, *, is_chat: bool, is_stream: bool):
        self.name, self.is_chat = name, is_chat
        self.requests, self.known_outputs = inner.requests, inner.known_outputs
        self.streaming = Streaming(is_stream=is_stream)
        choices: Iterable[ChatChoice | CompletionChoice] = inner.choices.values()
        self._choice = next(iter(choices))
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._start = time.perf_counter_ns()
        self._first: int | None = None  # when the first token had come
        self._latest: Output | None = None

    def take(self, output: Output) -> list[dict]:
        """A line with the new text, and at the end one with the calls and one with the counts."""
        self._latest = output
        if self._first is None and output.num_completion_tokens:
            self._first = time.perf_counter_ns()
        items = self._choice.take(output)
        text, thought = "".join(map(_text_of, items)), "".join(map(_thought_of, items))
        self._texts.append(text)
        self._thoughts.append(thought)
        lines = [self._line("", thought=thought)] if thought else []
        lines += [self._line(text)] if text else []
        if output.finish_reason:
            calls = [self._line("", self._calls())] if self._calls() else []
            lines += [*calls, self._line("") | self._counts()]
        return lines

    def whole(self) -> dict:
        """The whole answer."""
        return self._line("".join(self._texts), self._calls(), "".join(self._thoughts)) | self._counts()

    def fail(self, error: BaseException) -> list[dict]:
        """The line that ends a stream in which something went wrong."""
        return [shape(describe(error)[1])]

    def _line(self, text: str, calls: list[dict] | None = None, thought: str = "") -> dict:
        thinking = {"thinking": thought} if thought else {}
        content: dict[str, Any] = {"response": text} | thinking
        if self.is_chat:
            message: dict[str, Any] = {"role": "assistant", "content": text} | thinking
            content = {"message": message | ({"tool_calls": calls} if calls else {})}
        return {"model": self.name, "created_at": now(), **content, "done": False}

    def _calls(self) -> list[dict]:
        if not isinstance(self._choice, ChatChoice):
            return []
        calls = [call["function"] for call in self._choice.calls]
        return [
            {"function": {"index": index, "name": call["name"], "arguments": _arguments(call["arguments"])}}
            for index, call in enumerate(calls)
        ]

    def _counts(self) -> dict:
        output = self._latest
        assert output is not None, "an answer that is complete has an output"
        end = time.perf_counter_ns()
        first = self._first or end
        return {
            "done": True,
            "done_reason": "length" if output.finish_reason is FinishReason.LENGTH else "stop",
            "total_duration": end - self._start,
            "load_duration": 0,
            "prompt_eval_count": sum(len(request.prompt_ids) for request in self.requests),
            "prompt_eval_duration": first - self._start,
            "eval_count": output.num_completion_tokens,
            "eval_duration": end - first,
        }


class LoadedBuilder(Builder):
    """The answer to a request that asks for nothing but that a model is loaded, as all are."""

    def __init__(self, name: str, content: dict, *, is_stream: bool):
        self.streaming = Streaming(is_stream=is_stream)
        self._line = {"model": name, "created_at": now(), **content, "done": True, "done_reason": "load"}

    def last(self, stats: dict | None) -> list[dict]:
        """The only line."""
        return [self._line]

    def whole(self) -> dict:
        """The same."""
        return self._line


def _text_of(item: dict) -> str:
    return item["delta"].get("content") or "" if "delta" in item else item["text"]


def _thought_of(item: dict) -> str:
    return item.get("delta", {}).get("reasoning_content") or ""


def _arguments(text: str) -> dict:
    """Ollama's clients want an object; a call that was cut off has none."""
    arguments = parse_arguments(text)
    return arguments if isinstance(arguments, dict) else {}
