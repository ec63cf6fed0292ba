"""Outputs on their way from an engine to a client, who may read more slowly than the engine writes.

What waits is bounded, for each request and for all of a worker's together. A request that exceeds a bound is given up:
the engine does no more for it, and what had come is dropped for an error that says so.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from verbatim.reference.records.errors import VerbatimError
from verbatim.reference.records.request import Output
from verbatim.server.errors import SlowReaderError

MAX_BYTES = 16 << 20
MAX_BYTES_TOGETHER = 256 << 20


class Unread:
    """How many bytes wait in all inboxes of a worker, as the engine's frames count them."""

    def __init__(self, most: int = MAX_BYTES, most_together: int = MAX_BYTES_TOGETHER):
        self.most, self.most_together = most, most_together
        self.num_bytes = 0
        self.inboxes: set[Inbox] = set()

    def give_up(self, inbox: "Inbox") -> None:
        """Give up what is too much: this inbox, to which something came, or the fullest of all."""
        if inbox.num_bytes > self.most:
            inbox.give_up(self.most)
        elif self.num_bytes > self.most_together:
            max(self.inboxes, key=lambda each: each.num_bytes).give_up(self.most_together)

    def check(self) -> None:
        """Raise if the books do not balance."""
        assert self.num_bytes == sum(inbox.num_bytes for inbox in self.inboxes), self.num_bytes


class Inbox:
    """What has come for one HTTP request and has not been taken yet: outputs, or what ends them."""

    def __init__(self, unread: Unread, abandon: Callable[[], None] = lambda: None):
        self._items: list[Output | VerbatimError] = []
        self._waiter: asyncio.Future | None = None
        self._unread, self._abandon = unread, abandon
        self.num_bytes = 0
        self.is_given_up = False
        unread.inboxes.add(self)

    def put(self, item: Output | VerbatimError, size: int = 0) -> None:
        """One more, which came as so many bytes."""
        if self.is_given_up:
            return
        self._items.append(item)
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)
        unread = self._unread
        unread.num_bytes += size
        self.num_bytes += size
        if self.num_bytes > unread.most or unread.num_bytes > unread.most_together:
            unread.give_up(self)

    async def take(self) -> list[Any]:
        """All outputs that are there, as soon as there is something; a VerbatimError ends them."""
        if not self._items:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        items, self._items = self._items, []
        self._release()
        return items

    def give_up(self, most: int) -> None:
        """Drop everything for an error: what waits is more than `most` bytes."""
        message = f"The client reads too slowly: more than {most} bytes of answers wait to be read."
        self._items = [SlowReaderError(message)]
        self.is_given_up = True
        self._release()
        self._abandon()

    def close(self) -> None:
        """Nobody takes anything any more."""
        self._items.clear()
        self._release()
        self._unread.inboxes.discard(self)

    def _release(self) -> None:
        self._unread.num_bytes -= self.num_bytes
        self.num_bytes = 0
