"""One server that the router asks: where it is, what it serves, whether it is ready, what it does for us right now.

`models` maps ids to fingerprints (None for a server of another make); it is None until the server has
listed them, and is remembered while it is away. An endpoint that is not ready is ejected: it gets no requests until a
probe finds it ready.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Endpoint:
    """The state of one server. `running` counts the requests that it has from us; it cannot leak."""

    def __init__(self, url: str):
        self.url = url
        self.is_ready = False
        self.models: dict[str, str | None] | None = None
        self.running = 0
        self.woken = asyncio.Event()  # it is to be probed again now
        self._limits: set[asyncio.Timeout] = set()

    def serves(self, model: str | None) -> bool:
        """Whether it may have the model: servers without a list may have any."""
        return self.models is None or model is None or model in self.models

    def fingerprint(self, model: str | None) -> str | None:
        """What its answers depend on beside the request; None if it is unknown."""
        return self.models.get(model) if self.models and model else None

    @asynccontextmanager
    async def asked(self) -> AsyncIterator[None]:
        """Around a request to it; if the endpoint is given up meanwhile, TimeoutError ends the request."""
        self.running += 1
        try:
            async with asyncio.timeout(None) as limit:
                self._limits.add(limit)
                yield
        finally:
            self._limits.discard(limit)
            self.running -= 1
            self.check()

    def eject(self) -> None:
        """A request has failed there: no more of them until a probe succeeds."""
        self.is_ready = False
        self.woken.set()

    def give_up(self) -> None:
        """Nobody answers there any more: what is under way will not end by itself."""
        limits, self._limits = self._limits, set()
        for limit in limits:
            limit.reschedule(0)

    def check(self) -> None:
        """Raise if the counts cannot be."""
        assert 0 <= len(self._limits) <= self.running, (self.url, self.running, len(self._limits))
