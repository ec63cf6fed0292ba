"""Resumes the events of a response that another endpoint began: skips what the client has, and numbers the rest.

Deltas are joined and compared by their content; all other events come in the same order on both and are compared
pairwise. The other endpoint's ids become those that the client saw first (`renames`), so do times, and events are
numbered from the last that the client has. `renames` and `created` are what was replaced by what.
"""

from typing import Any

from verbatim.server.api.builder import padding
from verbatim.server.api.replay_buffer import Replay, ReplayBuffer
from verbatim.server.http.sse import DONE, named_event, read_event

DELTAS = tuple(f"response.{name}.delta" for name in ("output_text", "function_call_arguments", "reasoning_text"))
FRESH = ("sequence_number", "obfuscation")  # differ from run to run
FRESH_OF_RESPONSE = ("created_at", "completed_at", "usage")  # usage depends on the cache


class EventResumption:
    """`emitted` are the events that the client has, at least one; `take` gives the rest, of the other endpoint's."""

    def __init__(self, emitted: list[bytes]):
        events = [read_event(event) for event in emitted if event != DONE]
        self._created_at = events[0]["response"]["created_at"]
        self._next = events[-1]["sequence_number"] + 1
        self._others = Replay([comparable(event) for event in events if event["type"] not in DELTAS])
        self._ids = [name for event in events for name in ids_in(event)]
        self._num_ids = 0
        self._replay = ReplayBuffer()
        self.renames: tuple[tuple[bytes, bytes], ...] = ()
        self.created: tuple[bytes, bytes] | None = None
        for event in events:
            for key in pieces_of(event):
                self._replay.add(key, event[key[-1]])

    def take(self, raw: bytes) -> list[bytes]:
        """The events to send for one that has come: none, or one."""
        if raw == DONE:
            self._require_all_again()
            return [raw]
        value = self._translated(raw)
        if not (self._cut_delta(value) if value["type"] in DELTAS else self._is_next(value)):
            return []
        self._require_all_again()
        value["sequence_number"], self._next = self._next, self._next + 1
        return [named_event(value)]

    def _translated(self, raw: bytes) -> dict:
        """The event with the ids and the time of the first stream; ids meet those of the same place."""
        theirs = list(ids_in(read_event(raw)))
        ours = self._ids[self._num_ids : self._num_ids + len(theirs)]
        self._num_ids += len(theirs)
        self.renames += tuple((a.encode(), b.encode()) for a, b in zip(theirs, ours, strict=False))
        for name, known in self.renames:
            raw = raw.replace(name, known)
        value = read_event(raw)
        if "response" in value:
            times = value["response"]["created_at"], self._created_at
            self.created = (b'"created_at":%d' % times[0], b'"created_at":%d' % times[1])
            value["response"]["created_at"] = self._created_at
        return value

    def _cut_delta(self, value: dict) -> bool:
        for key in pieces_of(value):
            value[key[-1]] = self._replay.cut(key, value[key[-1]])
        if "obfuscation" in value:
            value["obfuscation"] = padding(value["delta"])
        return any(value[key[-1]] for key in pieces_of(value))

    def _is_next(self, value: dict) -> bool:
        """Whether the client does not have this event; if it does, it must be the same."""
        return self._others.is_next(comparable(value))

    def _require_all_again(self) -> None:
        self._replay.require(not self._replay.missing and self._others.is_over)


def pieces_of(value: dict[str, Any]) -> list[tuple]:
    """The keys of what grows in a delta, the field's name last; none for any other event."""
    if value["type"] not in DELTAS:
        return []
    place = (value["type"], value["output_index"], value.get("content_index"))
    return [(*place, name) for name in ("delta", "logprobs") if name in value]


def ids_in(value: dict) -> list[str]:
    """The ids that an event is the first to show."""
    if value["type"] == "response.created":
        return [value["response"]["id"]]
    if value["type"] == "response.output_item.added":
        return [value["item"][name] for name in ("id", "call_id") if name in value["item"]]
    return []


def comparable(value: dict) -> dict:
    """The event without what differs from run to run."""
    plain = {name: item for name, item in value.items() if name not in FRESH}
    if "response" in plain:
        response = plain["response"].items()
        plain["response"] = {name: item for name, item in response if name not in FRESH_OF_RESPONSE}
    return plain
