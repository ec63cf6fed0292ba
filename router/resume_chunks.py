"""Goes on with a stream of chunks (chat, completions) that another endpoint began: skips what the client has.

Chunks are taken apart by choice, since in which order choices speak depends on load. A choice that has caught up is
passed on as it comes; until then each chunk is cut to what is new in it, which is mostly nothing. All chunks carry the
`id` and `created` of the first stream, and calls of tools the ids that follow from it.
"""

import orjson

from verbatim.router.joined import DivergedError, Joined
from verbatim.server.api.answer import padding
from verbatim.server.http.sse import DONE, event

SIGNS = ("object", "model", "system_fingerprint")  # must be the same on both
OWN = ("id", "created")  # are the first stream's
TEXTS = ("content", "text", "arguments")  # grow piece by piece; other texts are said once
CALL_DIGITS = 20  # of a chat's id that the ids of its calls begin with


class ChunkResumption:
    """`given` are the events that the client has, at least one; `take` makes of the other endpoint's the rest."""

    renames, created = (), None

    def __init__(self, given: list[bytes]):
        chunks = [read_event(one) for one in given if one != DONE]
        self._first = chunks[0]
        self._joined = Joined()
        self._num_bare = sum(not chunk["choices"] for chunk in chunks)  # chunks of usage, which come last
        for chunk in chunks:
            for choice in chunk["choices"]:
                self._give((choice["index"],), choice)

    def take(self, raw: bytes) -> list[bytes]:
        """The events to send for one that has come: none, or one."""
        if raw == DONE:
            self._joined.require(not self._joined.missing)
            return [raw]
        chunk = read_event(raw)
        if b'"call_' in raw:
            theirs, ours = (call_prefix(one["id"]) for one in (chunk, self._first))
            chunk = read_event(raw.replace(theirs, ours))
        if any(chunk.get(name) != self._first.get(name) for name in SIGNS):
            raise DivergedError("Another endpoint has another model.")
        chunk |= {name: self._first[name] for name in OWN}
        return [event(chunk)] if self._has_news(chunk) else []

    def _has_news(self, chunk: dict) -> bool:
        """Cut the chunk's choices to what is new in them, and say whether anything is."""
        if not chunk["choices"]:
            self._joined.require(not self._joined.missing)
            self._num_bare -= 1
            return self._num_bare < 0
        given = chunk["choices"]
        chunk["choices"] = [choice for choice in given if self._has_caught_up(choice) or self._cut_choice(choice)]
        if "obfuscation" in chunk:
            chunk["obfuscation"] = padding(chunk["choices"])
        return bool(chunk["choices"])

    def _has_caught_up(self, choice: dict) -> bool:
        return not any(key[0] == choice["index"] for key in self._joined.missing)

    def _cut_choice(self, choice: dict) -> bool:
        is_news = self._cut((choice["index"],), choice)
        self._joined.require(not is_news or self._has_caught_up(choice))
        return is_news

    def _give(self, path: tuple, container: dict) -> None:
        for key, value in container.items():
            if isinstance(value, dict):
                self._give((*path, key), value)
            elif key == "tool_calls":
                for call in value:
                    self._give((*path, key, call["index"]), call)
            else:
                self._joined.give((*path, key), value)

    def _cut(self, path: tuple, container: dict) -> bool:
        """Cut a part of a choice in place; whether anything in it is new."""
        has_news = False
        for key, value in container.items():
            if isinstance(value, dict):
                has_news |= self._cut((*path, key), value)
            elif key == "tool_calls":
                for call in value:
                    has_news |= self._cut((*path, key, call["index"]), call)
            elif isinstance(value, list) or (key in TEXTS and value is not None):
                container[key] = self._joined.cut((*path, key), value)
                has_news |= bool(container[key])
            else:
                has_news |= self._joined.is_news((*path, key), value)
        return has_news


def read_event(raw: bytes) -> dict:
    """The JSON of an event. DivergedError for what is no event of ours."""
    try:
        return orjson.loads(raw[raw.index(b"data: ") + 6 :])
    except ValueError:
        raise DivergedError("Another endpoint sent an event that cannot be read.") from None


def call_prefix(answer_id: str) -> bytes:
    """What the ids of an answer's calls begin with (server/api/chat.py)."""
    return b"call_" + answer_id.rpartition("-")[2][:CALL_DIGITS].encode()
