"""Finds the endpoint that has a kept response, first from memory, then by asking all that are ready."""

from dataclasses import replace

import aiohttp

from verbatim.router.bounded import get
from verbatim.router.client_request import ClientRequest
from verbatim.router.kept import KeptLocation, KeptLocations
from verbatim.router.routing import Router

SECONDS = 10


async def locate(
    request: ClientRequest, router: Router, locations: KeptLocations, session: aiohttp.ClientSession
) -> ClientRequest:
    """The request with the location of the response that it is about; as it was if that is nowhere, or about none."""
    if request.response_id is None:
        return request
    location = locations.get(request.response_id)
    if location is None and len(router.endpoints) > 1:
        location = await _find(request, request.response_id, router, session)
    return replace(request, kept_at=location)


async def _find(
    request: ClientRequest, response_id: str, router: Router, session: aiohttp.ClientSession
) -> KeptLocation | None:
    """Each is asked with the client's own headers, so that nobody learns of what is not theirs to see."""
    headers = [pair for pair in request.headers if not pair[0].lower().startswith("content-")]
    if request.adapter is None or "/" in response_id or "?" in response_id:
        return None
    path, timeout = request.adapter.kept_path(response_id), aiohttp.ClientTimeout(total=SECONDS)
    for endpoint in router.endpoints:
        if not endpoint.is_ready:
            continue
        try:
            async with get(session, endpoint.url + path, headers=headers, timeout=timeout) as answer:
                if answer.status == 200:
                    return KeptLocation(endpoint)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            continue
    return None
