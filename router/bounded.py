"""What the router reads of an endpoint, within bounds: an endpoint may be anybody's, and may send without an end.

No redirect is followed: it would carry a client's key to wherever an endpoint points.
"""

from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp

from verbatim.server.errors import EngineFailedError

MAX_PAGE_BYTES = 4 << 20  # of a page about the endpoint: its models, a probe
MAX_ANSWER_BYTES = 256 << 20
MAX_EVENT_BYTES = 16 << 20


class TooLongError(EngineFailedError):
    """An endpoint sends more than the router reads."""


def get(session: aiohttp.ClientSession, url: str, **options: Any) -> AbstractAsyncContextManager:
    """A GET that follows no redirect, as `session.get` gives it."""
    return session.get(url, allow_redirects=False, **options)


async def read(response: aiohttp.ClientResponse, most: int = MAX_PAGE_BYTES) -> bytes:
    """The whole body. TooLongError if it has more bytes than `most`; nothing beyond them is read."""
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > most:
            response.close()
            raise TooLongError(f"The endpoint's answer has more than the {most} bytes that this router reads.")
        parts.append(part)
    return b"".join(parts)
