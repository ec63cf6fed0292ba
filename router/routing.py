"""Which endpoint takes a request: the least busy that has the model; equals alternate.

Subclass `Router` and override `choose` to decide otherwise; `serve(..., router_type=MyRouter)` then uses it. What comes
after the choice (asking, failing over, counting) is the same for all.
"""

import asyncio
from collections.abc import Iterable, Sequence

from verbatim.router.client_request import ClientRequest
from verbatim.router.endpoint import Endpoint
from verbatim.server.errors import EngineUnavailableError

POLL_SECONDS = 0.05


class NoEndpointError(EngineUnavailableError):
    """There is no endpoint that could take the request just now."""


class Router:
    """The endpoints, and the choice among them. `is_stopping`: no new requests; `is_terminated`: none at all."""

    def __init__(self, endpoints: Iterable[Endpoint]):
        self.endpoints = tuple(endpoints)
        self.is_stopping = self.is_terminated = False
        self._turn = 0

    def choose(self, request: ClientRequest, endpoints: Sequence[Endpoint]) -> Endpoint:
        """One of `endpoints`, all of which are ready, have the model and have not refused this request."""
        self._turn += 1
        size = len(self.endpoints)
        return min(endpoints, key=lambda each: (each.running, (self.endpoints.index(each) - self._turn) % size))

    def candidates(self, request: ClientRequest, refused: set[Endpoint], fingerprint: str | None) -> list[Endpoint]:
        """Those that `choose` may choose from; with a fingerprint only those whose answers are the same.

        A model that no endpoint has may be asked of any: it refuses the model itself, after it has checked the key.
        """
        if request.kept_at is not None:
            serving = [request.kept_at.endpoint]
        else:
            serving = [each for each in self.endpoints if each.serves(request.model)] or list(self.endpoints)
        return [
            each
            for each in serving
            if each.is_ready and each not in refused and fingerprint in (None, each.fingerprint(request.model))
        ]

    async def pick(
        self, request: ClientRequest, refused: set[Endpoint], *, fingerprint: str | None = None, until: float = 0
    ) -> Endpoint:
        """The endpoint to ask. NoEndpointError if there is none, and none is ready by then (a time of the loop's)."""
        while not self.is_terminated:
            if found := self.candidates(request, refused, fingerprint):
                return self.choose(request, found)
            if asyncio.get_running_loop().time() >= until:
                raise NoEndpointError("No endpoint of this router can take the request just now; try again.")
            await asyncio.sleep(POLL_SECONDS)
        raise NoEndpointError("The router is shutting down.")
