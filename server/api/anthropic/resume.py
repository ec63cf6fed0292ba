"""Resumes the events of a message that another endpoint began: skips what the client has.

Deltas are joined and compared by their content; all other events come in the same order on both and are compared
pairwise. The message keeps its first id, and its calls keep theirs as far as the client has seen them.
"""

from typing import Any

from verbatim.server.api.replay_buffer import Replay, ReplayBuffer
from verbatim.server.http.sse import named_event, read_event

DELTA, PING = "content_block_delta", "ping"
GROWING = {  # what grows, by the type of the delta
    "text_delta": "text",
    "input_json_delta": "partial_json",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
}
INPUT = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")  # depend on the cache


class MessageResumption:
    """`emitted` are the events that the client has, at least one; `take` gives the rest, of the other endpoint's."""

    renames: tuple[tuple[bytes, bytes], ...] = ()
    created: tuple[bytes, bytes] | None = None

    def __init__(self, emitted: list[bytes]):
        events = [read_event(event) for event in emitted]
        self._usage = events[0]["message"]["usage"]
        self._others = Replay([comparable(event) for event in events if event["type"] not in (DELTA, PING)])
        self._replay = ReplayBuffer()
        for event in events:
            if event["type"] == DELTA:
                key = key_of(event)
                self._replay.add(key, event["delta"][key[-1]])

    def take(self, raw: bytes) -> list[bytes]:
        """The events to send for one that has come: none, or one."""
        value = read_event(raw)
        if value["type"] == PING:
            return []
        if not (self._cut(value) if value["type"] == DELTA else self._is_next(value)):
            return []
        self._replay.require(not self._replay.missing and self._others.is_over)
        if value["type"] == "message_delta":
            value["usage"] |= {name: self._usage[name] for name in INPUT}
        return [named_event(value)]

    def _cut(self, value: dict) -> bool:
        """Cut a delta to what is new in it; whether anything is."""
        key = key_of(value)
        value["delta"][key[-1]] = self._replay.cut(key, value["delta"][key[-1]])
        return bool(value["delta"][key[-1]])

    def _is_next(self, value: dict) -> bool:
        """Whether the client does not have this event; if it does, it must be the same."""
        return self._others.is_next(comparable(value))


def key_of(value: dict[str, Any]) -> tuple:
    """Where a delta belongs: its block, its type, and the field that grows."""
    delta = value["delta"]
    return value["index"], delta["type"], GROWING[delta["type"]]


def comparable(value: dict) -> dict:
    """The event without what differs from run to run: ids and usage."""
    plain = {name: item for name, item in value.items() if name != "usage"}
    for name in ("message", "content_block"):
        if name in plain:
            plain[name] = {key: item for key, item in plain[name].items() if key not in ("id", "usage")}
    return plain
