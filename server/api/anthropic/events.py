"""A message under way: the engine's outputs become content blocks, and every step of their making an event.

    message_start, ping
      content_block_start, content_block_delta ..., content_block_stop        for a thought, text, and each call
    message_delta with the reason of the end and the usage, message_stop

A whole answer is folded from the same outputs. Input tokens that came from the cache are counted apart from the others.
"""

import json
import uuid
from base64 import b64encode
from hashlib import sha256
from typing import Any

from verbatim.reference.dialects import CallArguments, CallStart, Delta, DialectParser, TextDelta, ThoughtDelta
from verbatim.reference.records.request import FinishReason, Output, Request
from verbatim.server.api.anthropic.errors import shape
from verbatim.server.api.builder import Builder, Streaming, is_cut
from verbatim.server.http.error_answers import describe


class MessageBuilder(Builder):
    """Folds the outputs of one request into a message."""

    def __init__(self, *, request: Request, model_id: str, streaming: Streaming, parser: DialectParser | None):
        self.requests, self.streaming = (request,), streaming
        self._parser = parser
        self._blocks: list[dict[str, Any]] = []
        self._arguments = ""  # of the call that is being written
        self._has_begun = self._is_open = False
        self._message: dict[str, Any] = {
            "id": request.request_id,
            "type": "message",
            "role": "assistant",
            "model": model_id,
        }
        self._end: dict[str, str | None] = {"stop_reason": None, "stop_sequence": None}
        self._usage: dict[str, int] = {}

    def take(self, output: Output) -> list[dict]:
        """The events of an output."""
        events = [] if self._has_begun else self._begin(output)
        for delta in self._parse(output):
            events += self._apply(delta)
        if output.finish_reason:
            events += self._finish(output)
        return events

    def whole(self) -> dict:
        """The finished message."""
        usage = self._usage | {"service_tier": "standard"}
        return self._message | {"content": self._blocks} | self._end | {"usage": usage}

    def fail(self, error: BaseException) -> list[dict]:
        """The event that ends a stream in which something went wrong."""
        return [shape(describe(error)[1])]

    def _begin(self, output: Output) -> list[dict]:
        self._has_begun = True
        self._count(output)
        usage = self._usage | {"output_tokens": 0, "service_tier": "standard"}
        message = self._message | {"content": []} | self._end | {"usage": usage}
        return [{"type": "message_start", "message": message}, {"type": "ping"}]

    def _parse(self, output: Output) -> list:
        if self._parser is None:
            return [TextDelta(text=output.text)] if output.text else []
        deltas = self._parser.push(output.text)
        if output.finish_reason:
            deltas += self._parser.finish(is_cut=is_cut(output))
        return deltas

    def _apply(self, delta: Delta) -> list[dict]:
        match delta:
            case TextDelta(text=text):
                is_text = self._is_open and self._blocks[-1]["type"] == "text"
                events = [] if is_text else self._open({"type": "text", "text": ""})
                self._blocks[-1]["text"] += text
                return [*events, self._delta({"type": "text_delta", "text": text})]
            case ThoughtDelta(text=text):
                is_open = self._is_open and self._blocks[-1]["type"] == "thinking"
                events = [] if is_open else self._open({"type": "thinking", "thinking": "", "signature": ""})
                self._blocks[-1]["thinking"] += text
                return [*events, self._delta({"type": "thinking_delta", "thinking": text})]
            case CallStart(name=name):
                call_id = f"toolu_{uuid.uuid4().hex[:24]}"
                return self._open({"type": "tool_use", "id": call_id, "name": name, "input": {}})
            case CallArguments(text=text):
                self._arguments += text
                return [self._delta({"type": "input_json_delta", "partial_json": text})]

    def _open(self, block: dict) -> list[dict]:
        """The events that end the block before, and begin this one."""
        events = self._close()
        self._blocks.append(block)
        self._is_open, self._arguments = True, ""
        return [*events, {"type": "content_block_start", "index": self._index, "content_block": dict(block)}]

    def _close(self) -> list[dict]:
        """The event that ends the block that is being written, if there is one."""
        if not self._is_open:
            return []
        self._is_open, block, events = False, self._blocks[-1], []
        if block["type"] == "tool_use":
            block["input"] = parse_input(self._arguments)
        elif block["type"] == "thinking":
            block["signature"] = signature_of(block["thinking"])
            events.append(self._delta({"type": "signature_delta", "signature": block["signature"]}))
        return [*events, {"type": "content_block_stop", "index": self._index}]

    @property
    def _index(self) -> int:
        return len(self._blocks) - 1

    def _delta(self, delta: dict) -> dict:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _finish(self, output: Output) -> list[dict]:
        events = self._close()
        self._count(output)
        stop = output.stop_reason
        self._end = {"stop_reason": self._reason(output), "stop_sequence": stop if isinstance(stop, str) else None}
        end = {"type": "message_delta", "delta": dict(self._end), "usage": dict(self._usage)}
        return [*events, end, {"type": "message_stop"}]

    def _reason(self, output: Output) -> str:
        if output.finish_reason is FinishReason.LENGTH:
            is_used_up = output.num_completion_tokens >= (self.requests[0].stopping.max_tokens or 0)
            return "max_tokens" if is_used_up else "model_context_window_exceeded"
        if isinstance(output.stop_reason, str):
            return "stop_sequence"
        return "tool_use" if any(block["type"] == "tool_use" for block in self._blocks) else "end_turn"

    def _count(self, output: Output) -> None:
        self._usage = {
            "input_tokens": len(self.requests[0].prompt_ids) - output.num_cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": output.num_cached_tokens,
            "output_tokens": output.num_completion_tokens,
        }


def signature_of(thought: str) -> str:
    """What clients send back with a thought: a digest, which is not checked, since a thought here is plain text."""
    return b64encode(sha256(thought.encode()).digest()).decode()


def parse_input(text: str) -> dict:
    """The input of a call; nothing of one that was cut short, as half an input must not be used."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if type(value) is dict else {}
