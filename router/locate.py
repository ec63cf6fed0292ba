"""Finds the endpoint that has a kept response, first from memory, then by asking all that are ready."""

from dataclasses import replace

import aiohttp

from verbatim.router.ask import RESPONSES, Ask
from verbatim.router.homes import Home, Homes
from verbatim.router.routing import Router

SECONDS = 10


async def with_home(ask: Ask, router: Router, homes: Homes, session: aiohttp.ClientSession) -> Ask:
    """The request with the home of the response that it is about; as it was if that is nowhere, or about none."""
    if ask.response_id is None:
        return ask
    home = homes.get(ask.response_id)
    if home is None and len(router.endpoints) > 1:
        home = await _find(ask, router, session)
    return replace(ask, home=home)


async def _find(ask: Ask, router: Router, session: aiohttp.ClientSession) -> Home | None:
    """Each is asked with the client's own headers, so that nobody learns of what is not theirs to see."""
    headers = [pair for pair in ask.headers if not pair[0].lower().startswith("content-")]
    for endpoint in router.endpoints:
        if not endpoint.is_ready or "/" in ask.response_id or "?" in ask.response_id:
            continue
        try:
            async with session.get(
                f"{endpoint.url}{RESPONSES}/{ask.response_id}",
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=SECONDS),
            ) as answer:
                if answer.status == 200:
                    return Home(endpoint)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            continue
    return None
