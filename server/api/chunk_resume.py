"""Resumes a stream of chunks (chat, completions) that another endpoint began: skips what the client has.

Chunks are taken apart by choice, since the order in which choices come depends on load. A choice that has caught up is
passed on as it comes; until then each chunk is cut to what is new in it, which is mostly nothing. All chunks carry the
`id` and `created` of the first stream, and tool calls the ids that follow from it.
"""

from collections.abc import Callable
from typing import Any

from verbatim.server.api.builder import padding
from verbatim.server.api.replay_buffer import DivergedError, ReplayBuffer
from verbatim.server.http.sse import DONE, event, read_event

SIGNS = ("object", "model", "system_fingerprint")  # must be the same on both
OWN = ("id", "created")  # are the first stream's
TEXTS = ("content", "text", "arguments", "reasoning", "reasoning_content")  # grow piece by piece; other texts come once


class ChunkResumption:
    """`emitted` are the events that the client has, not none; `take` gives the rest, of the other endpoint's.

    `derived_prefix` gives what other ids in chunks begin with, of an answer's id.
    """

    renames: tuple[tuple[bytes, bytes], ...] = ()
    created: tuple[bytes, bytes] | None = None

    def __init__(self, emitted: list[bytes], derived_prefix: Callable[[str], str] | None = None):
        chunks = [read_event(raw) for raw in emitted if raw != DONE]
        self._first = chunks[0]
        self._derived_prefix = derived_prefix
        self._replay = ReplayBuffer()
        self._num_bare = sum(not chunk["choices"] for chunk in chunks)  # chunks of usage, which come last
        for chunk in chunks:
            for choice in chunk["choices"]:
                self._add((choice["index"],), choice)

    def take(self, raw: bytes) -> list[bytes]:
        """The events to send for one that has come: none, or one."""
        if raw == DONE:
            self._replay.require(not self._replay.missing)
            return [raw]
        chunk = self._translated(raw)
        if any(chunk.get(name) != self._first.get(name) for name in SIGNS):
            raise DivergedError("Another endpoint has another model.")
        chunk |= {name: self._first[name] for name in OWN}
        return [event(chunk)] if self._cut_chunk(chunk) else []

    def _translated(self, raw: bytes) -> dict[str, Any]:
        """The chunk with ids that follow from the first stream's."""
        chunk = read_event(raw)
        if self._derived_prefix is None:
            return chunk
        theirs, ours = (self._derived_prefix(str(each.get("id"))).encode() for each in (chunk, self._first))
        return read_event(raw.replace(theirs, ours)) if theirs in raw else chunk

    def _cut_chunk(self, chunk: dict) -> bool:
        """Cut the chunk's choices to what is new in them; whether anything is."""
        if not chunk["choices"]:
            self._replay.require(not self._replay.missing)
            self._num_bare -= 1
            return self._num_bare < 0
        choices = chunk["choices"]
        chunk["choices"] = [choice for choice in choices if self._has_caught_up(choice) or self._cut_choice(choice)]
        if "obfuscation" in chunk:
            chunk["obfuscation"] = padding(chunk["choices"])
        return bool(chunk["choices"])

    def _has_caught_up(self, choice: dict) -> bool:
        return not any(key[0] == choice["index"] for key in self._replay.missing)

    def _cut_choice(self, choice: dict) -> bool:
        is_new = self._cut((choice["index"],), choice)
        self._replay.require(not is_new or self._has_caught_up(choice))
        return is_new

    def _add(self, path: tuple, container: dict) -> None:
        for key, value in container.items():
            if isinstance(value, dict):
                self._add((*path, key), value)
            elif key == "tool_calls":
                for call in value:
                    self._add((*path, key, call["index"]), call)
            else:
                self._replay.add((*path, key), value)

    def _cut(self, path: tuple, container: dict) -> bool:
        """Cut a part of a choice in place; whether anything in it is new."""
        is_new = False
        for key, value in container.items():
            if isinstance(value, dict):
                is_new |= self._cut((*path, key), value)
            elif key == "tool_calls":
                for call in value:
                    is_new |= self._cut((*path, key, call["index"]), call)
            elif isinstance(value, list) or (key in TEXTS and value is not None):
                container[key] = self._replay.cut((*path, key), value)
                is_new |= bool(container[key])
            else:
                is_new |= self._replay.is_new((*path, key), value)
        return is_new
