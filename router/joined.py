"""What a client has been given, joined piece by piece, and how much of it has come again from another endpoint.

Pieces are compared by what they say, not one by one: with speculation several tokens may come in one piece, and how
many depends on load. Texts and lists grow; anything else is said once. Whatever differs is a DivergedError: the other
endpoint is not what it says it is, and not one more word of it may go out.
"""

from verbatim.server.errors import EngineFailedError


class DivergedError(EngineFailedError):
    """Two endpoints gave different answers to one request."""


class Joined:
    """Values by key: `give` what went out, then `cut` what comes again down to what is new."""

    def __init__(self):
        self._given: dict[tuple, object] = {}
        self._again: dict[tuple, int] = {}  # how much of a text or list has come again; 1 for a whole value
        self.missing: set[tuple] = set()  # the keys that have not come again in full

    def give(self, key: tuple, value) -> None:
        """A piece that the client has. Null and nothing are no pieces."""
        if value is None or value == "" or value == []:
            return
        grows = isinstance(value, str | list) and key in self._given and isinstance(self._given[key], type(value))
        self._given[key] = self._given[key] + value if grows else value
        self.missing.add(key)

    def cut(self, key: tuple, value):
        """Of a text or list what goes beyond what was given."""
        start = self._again.get(key, 0)
        given = self._given.get(key, value[:0])
        known = given[start : start + len(value)]
        if value[: len(known)] != known:
            raise DivergedError("Another endpoint gave another answer to the same request.")
        self._again[key] = start + len(value)
        if start + len(value) >= len(given):
            self.missing.discard(key)
        return value[len(known) :]

    def is_news(self, key: tuple, value) -> bool:
        """Whether a value that is said once has not been said yet."""
        if value is None or key not in self._given:
            return value is not None
        if self._given[key] != value:
            raise DivergedError("Another endpoint gave another answer to the same request.")
        self.missing.discard(key)
        return False

    def require(self, is_all_again: bool) -> None:
        """Nothing new may go out before all that was given has come again."""
        if not is_all_again:
            raise DivergedError("Another endpoint gave a shorter answer to the same request.")
