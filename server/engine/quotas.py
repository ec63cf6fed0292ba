"""What each API key uses of an engine, where it has limits: requests and tokens of the last minute, open sequences.

Counted in the engine's process, so that all HTTP workers share one count. The limits come with each request; times are
seconds of a steady clock.
"""

from collections import deque

from verbatim.reference.records.errors import QueueFullError

WINDOW_SECONDS = 60
LIMITS = ("requests", "tokens", "sequences")  # in the order in which they come


class Window:
    """A sum over the last minute, kept by the second."""

    def __init__(self) -> None:
        self._entries: deque[list[int]] = deque()  # second, amount
        self.total = 0

    def add(self, amount: int, now: float) -> None:
        """So much more."""
        if not self._entries or self._entries[-1][0] != int(now):
            self._entries.append([int(now), 0])
        self._entries[-1][1] += amount
        self.total += amount
        self.trim(now)

    def trim(self, now: float) -> None:
        """Drop what is older than a minute."""
        while self._entries and self._entries[0][0] <= now - WINDOW_SECONDS:
            self.total -= self._entries.popleft()[1]


class Quotas:
    """The use by owner; only owners that have limits are known here."""

    def __init__(self) -> None:
        self._requests: dict[str, Window] = {}
        self._tokens: dict[str, Window] = {}

    def admit(self, owner: str, limits: list[int | None], num_prompt: int, open_now: int, num: int, now: float) -> None:
        """Count a request for `num` sequences with so many tokens of prompts, or raise QueueFullError.

        `open_now` sequences of the owner run or wait.
        """
        requests = self._requests.setdefault(owner, Window())
        tokens = self._tokens.setdefault(owner, Window())
        requests.trim(now)
        tokens.trim(now)
        used = (requests.total + 1, tokens.total + num_prompt, open_now + num)
        for name, limit, value in zip(LIMITS, limits, used, strict=True):
            if limit is not None and value > limit:
                when = "at the same time" if name == "sequences" else "a minute"
                raise QueueFullError(f"This API key may use {limit} {name} {when}; this request would make it {value}")
        requests.add(1, now)
        tokens.add(num_prompt, now)

    def count_tokens(self, owner: str, amount: int, now: float) -> None:
        """Tokens of an answer."""
        if owner in self._tokens:
            self._tokens[owner].add(amount, now)
