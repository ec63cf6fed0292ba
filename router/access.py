"""Whose bodies the router reads: nobody's before the key is known, to the router itself or else to an endpoint.

A router that has been given keys checks them. One that has none asks an endpoint, with the client's key and without its
body, whether it would list its models; what was accepted is remembered for a minute. The endpoint checks the key again
with the request itself.
"""

import time
from collections import OrderedDict
from hashlib import sha256
from typing import Any

import aiohttp
from sanic import Request

from verbatim.router.bounded import get
from verbatim.router.routing import Router
from verbatim.server.errors import UnauthorizedError
from verbatim.server.http.cors import is_preflight

CREDENTIALS = ("authorization", "x-api-key")
PAGE = "/v1/models"
REFUSALS = (401, 403)
MAX_KNOWN = 10_000
KNOWN_SECONDS = 60.0
SECONDS = 5


class KnownCredentials:
    """Credentials that an endpoint has accepted, by their digests, with the time until which that holds."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, float] = OrderedDict()

    async def check(self, request: Request, router: Router, session: aiohttp.ClientSession) -> None:
        """Raise UnauthorizedError if an endpoint refuses the credentials of a request with a body."""
        stream: Any = request.stream
        if not stream.request_body or is_preflight(request):
            return
        headers = [(name, value) for name, value in request.headers.items() if name in CREDENTIALS]
        digest = sha256(repr(headers).encode("utf-8", "surrogateescape")).digest()
        if self._known.get(digest, 0) > time.monotonic():
            return
        for endpoint in router.endpoints:
            if not endpoint.is_ready:
                continue
            status = await _status(session, endpoint.url + PAGE, headers)
            if status in REFUSALS:
                raise UnauthorizedError("The API key of this request is not one of this server's.")
            if status is not None:
                self._put(digest)
                return

    def _put(self, digest: bytes) -> None:
        self._known[digest] = time.monotonic() + KNOWN_SECONDS
        self._known.move_to_end(digest)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)


async def _status(session: aiohttp.ClientSession, url: str, headers: list[tuple[str, str]]) -> int | None:
    """The status of a page; None if it cannot be asked for."""
    try:
        async with get(session, url, headers=headers, timeout=aiohttp.ClientTimeout(total=SECONDS)) as answer:
            return answer.status
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return None
