"""`GET /v1/models` of the router: the models of all endpoints that are ready, each once."""

import asyncio

import aiohttp
import orjson
from sanic import HTTPResponse, json

from server.router.ask import Ask
from server.router.endpoint import Endpoint
from server.router.routing import NoEndpointError, Router

SECONDS = 10


async def list_models(ask: Ask, router: Router, session: aiohttp.ClientSession) -> HTTPResponse:
    """The union; what an endpoint says instead (that it wants a key, for one) if none lists any."""
    ready = [endpoint for endpoint in router.endpoints if endpoint.is_ready]
    answers = [answer for answer in await asyncio.gather(*(_ask(one, ask, session) for one in ready)) if answer]
    lists = [orjson.loads(body)["data"] for status, body in answers if status == 200]
    if lists:
        models: dict[str, dict] = {}
        for listed in lists:
            for model in listed:
                models.setdefault(model["id"], model)
        return json({"object": "list", "data": list(models.values())})
    for status, body in answers:
        return HTTPResponse(body, status, content_type="application/json")
    raise NoEndpointError("No endpoint of this router is ready just now; try again.")


async def _ask(endpoint: Endpoint, ask: Ask, session: aiohttp.ClientSession) -> tuple[int, bytes] | None:
    try:
        timeout = aiohttp.ClientTimeout(total=SECONDS)
        async with session.get(endpoint.url + ask.path, headers=ask.headers, timeout=timeout) as answer:
            return answer.status, await answer.read()
    except (aiohttp.ClientError, OSError, TimeoutError):
        endpoint.eject()
        return None
