"""What a client has been sent, joined piece by piece, and the part of it that has come again from another endpoint.

Texts are compared, not pieces: with speculation several tokens may come in a piece, and the number depends on load.
Texts and lists grow; any other value comes once. Whatever differs is a DivergedError: the other endpoint is not what it
claims to be, and nothing more of it may be sent.
"""

from typing import Any

from verbatim.server.errors import EngineFailedError


class DivergedError(EngineFailedError):
    """Two endpoints gave different answers to one request."""


class Replay:
    """Events that come whole, in order: those the client has must come again, each the same, before anything new."""

    def __init__(self, emitted: list[Any]):
        self._emitted = emitted
        self._num_again = 0

    @property
    def is_over(self) -> bool:
        """Whether all that the client has has come again."""
        return self._num_again >= len(self._emitted)

    def is_next(self, event: Any) -> bool:
        """Whether the client does not have this event; DivergedError if it has another one in that place."""
        if self.is_over:
            return True
        self._num_again += 1
        if event != self._emitted[self._num_again - 1]:
            raise DivergedError("Another endpoint gave another answer to the same request.")
        return False


class ReplayBuffer:
    """Values by key: `add` what was sent, then `cut` what comes again down to what is new."""

    def __init__(self) -> None:
        self._emitted: dict[tuple, Any] = {}
        self._again: dict[tuple, int] = {}  # how much of a text or list has come again
        self.missing: set[tuple] = set()  # the keys that have not come again in full

    def add(self, key: tuple, value: Any) -> None:
        """A piece that the client has. Null and nothing are no pieces."""
        if value is None or value == "" or value == []:
            return
        grows = isinstance(value, str | list) and key in self._emitted and isinstance(self._emitted[key], type(value))
        self._emitted[key] = self._emitted[key] + value if grows else value
        self.missing.add(key)

    def cut(self, key: tuple, value: Any) -> Any:
        """Of a text or list what goes beyond what was sent."""
        start = self._again.get(key, 0)
        emitted = self._emitted.get(key, value[:0])
        known = emitted[start : start + len(value)]
        if value[: len(known)] != known:
            raise DivergedError("Another endpoint gave another answer to the same request.")
        self._again[key] = start + len(value)
        if start + len(value) >= len(emitted):
            self.missing.discard(key)
        return value[len(known) :]

    def is_new(self, key: tuple, value: Any) -> bool:
        """Whether a value that comes once has not come yet."""
        if value is None or key not in self._emitted:
            return value is not None
        if self._emitted[key] != value:
            raise DivergedError("Another endpoint gave another answer to the same request.")
        self.missing.discard(key)
        return False

    def require(self, is_all_again: bool) -> None:
        """Nothing new may be sent before all that was sent has come again."""
        if not is_all_again:
            raise DivergedError("Another endpoint gave a shorter answer to the same request.")
