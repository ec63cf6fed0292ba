"""Parsed answers for the judges: a whole body or a stream of chunks, with accessors for the fields that cases read.

An accessor raises FailError, which fails the server, when a field is missing or of another type.
"""

import json
from functools import cached_property
from typing import Any

from verbatim.conformance.case import FailError, dig, expect, shown
from verbatim.conformance.exchange import Exchange
from verbatim.conformance.sse import EventStream, read_events


class Whole:
    """A body that is one JSON object, of chat or of completions."""

    def __init__(self, exchange: Exchange):
        self.exchange = exchange
        try:
            self.body = exchange.json()
        except ValueError as error:
            raise FailError("the body is strict JSON in UTF-8", f"{error}; {exchange.summary()}") from None
        expect(isinstance(self.body, dict), "the body is a JSON object", self.body)

    def at(self, path: str, wanted: type | None = None) -> Any:
        """What is at a dotted path of the body."""
        return dig(self.body, path) if wanted is None else dig(self.body, path, wanted)

    @property
    def choices(self) -> list[dict]:
        """All choices, by index."""
        choices = self.at("choices", list)
        expect(all(isinstance(choice, dict) for choice in choices), "every choice is an object", choices)
        return sorted(choices, key=lambda choice: dig(choice, "index", int))

    def text(self, index: int = 0) -> str:
        """The text of a choice; a content of null is the empty text."""
        choice = dig(self.choices, str(index), dict)
        if "text" in choice:
            return dig(choice, "text", str)
        content = dig(choice, "message.content")
        return "" if content is None else dig(choice, "message.content", str)

    @property
    def texts(self) -> list[str]:
        """The texts of all choices."""
        return [self.text(index) for index in range(len(self.choices))]

    @property
    def finish(self) -> str:
        """Why the first choice ended."""
        return self.at("choices.0.finish_reason", str)

    def usage(self, name: str = "completion_tokens") -> int:
        """A count of the `usage` object."""
        return self.at(f"usage.{name}", int)

    @property
    def entries(self) -> list[dict]:
        """The log-probability entries of the first choice of a chat."""
        return self.at("choices.0.logprobs.content", list)

    @property
    def calls(self) -> list[dict]:
        """The tool calls of the first choice."""
        calls = self.at("choices.0.message", dict).get("tool_calls") or []
        return dig(calls, "", list)

    def arguments(self, index: int = 0) -> object:
        """The parsed arguments of a call."""
        return parsed(dig(self.calls, f"{index}.function.arguments", str), "the arguments of the call")


class Streamed:
    """A stream of chunks ending in [DONE]."""

    def __init__(self, exchange: Exchange):
        self.exchange = exchange
        media_type = exchange.media_type
        actual = f"{media_type}; {exchange.summary()}"
        expect(media_type == "text/event-stream", "the media type is text/event-stream", actual)

    @cached_property
    def events(self) -> EventStream:
        """The events of the body, parsed by the rules of event streams."""
        return read_events(self.exchange.body)

    @cached_property
    def chunks(self) -> list[dict]:
        """The JSON object of every event but [DONE]."""
        chunks = []
        for event in self.events.events:
            if event.data != "[DONE]":
                chunks.append(dig(parsed(event.data, "every event's data"), "", dict))
                expect(not chunks[-1].get("error"), "the stream runs without an error", chunks[-1])
        expect(chunks, "the stream has chunks", self.exchange.summary())
        return chunks

    def parts(self, index: int = 0) -> list[dict]:
        """The items of `choices` that belong to the choice `index`, in order."""
        return [part for part in self.all_parts if part.get("index") == index]

    @cached_property
    def all_parts(self) -> list[dict]:
        """The items of `choices` of all chunks."""
        return [dig(part, "", dict) for chunk in self.chunks for part in dig(chunk, "choices", list)]

    def delta(self, part: dict) -> dict:
        """The delta of an item of `choices`."""
        return dig(part, "delta", dict)

    def deltas(self, index: int = 0) -> list[str]:
        """The texts of the chunks of a choice, those without text left out."""
        texts = []
        for part in self.parts(index):
            text = part.get("text") if "text" in part else self.delta(part).get("content")
            if text is not None:
                texts.append(dig(text, "", str))
        return [text for text in texts if text]

    def text(self, index: int = 0) -> str:
        """The whole text of a choice."""
        return "".join(self.deltas(index))

    def finishes(self, index: int = 0) -> list[str]:
        """Every finish_reason of a choice that is not null."""
        return [part["finish_reason"] for part in self.parts(index) if part.get("finish_reason") is not None]

    @property
    def usages(self) -> list[dict]:
        """Every usage that is not null."""
        return [dig(chunk, "usage", dict) for chunk in self.chunks if chunk.get("usage") is not None]

    @property
    def fragments(self) -> list[dict]:
        """All fragments of tool calls of the first choice, in order."""
        return [dig(item, "", dict) for part in self.parts() for item in self.delta(part).get("tool_calls") or []]

    @property
    def calls(self) -> list[dict]:
        """The tool calls put together as clients do it, by index."""
        calls: dict[int, dict] = {}
        for fragment in self.fragments:
            call = calls.setdefault(dig(fragment, "index", int), {"id": None, "name": "", "arguments": ""})
            call["id"] = call["id"] or fragment.get("id")
            function = fragment.get("function") or {}
            call["name"] += dig(function.get("name") or "", "", str)
            call["arguments"] += dig(function.get("arguments") or "", "", str)
        return [calls[index] for index in sorted(calls)]


def parsed(text: str, what: str) -> object:
    """A text of the server that must be JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FailError(f"{what} is JSON", f"{error}: {shown(text)}") from None


def joined_bytes(entries: list[dict], content: str) -> bytes:
    """The bytes of log-probability entries, end to end; without `bytes` the tokens' own text counts."""
    data = b""
    for entry in entries:
        token, numbers = dig(entry, "token", str), dig(entry, "bytes")
        if numbers is None:
            data += token.encode("utf-8", "surrogatepass")
            continue
        is_bytes = isinstance(numbers, list) and all(type(n) is int and 0 <= n < 256 for n in numbers)
        expect(is_bytes, f"bytes are integers of 0 to 255 (in the answer {content!r})", numbers)
        data += bytes(numbers)
    return data
