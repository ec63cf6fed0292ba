"""`GET /v1/models` of the router: the models of all endpoints that are ready, each once."""

import asyncio

import aiohttp
import orjson
from sanic import HTTPResponse, json

from verbatim.router.bounded import TooLongError, get, read
from verbatim.router.client_request import ClientRequest
from verbatim.router.endpoint import Endpoint
from verbatim.router.health import WRONG_FORM
from verbatim.router.routing import NoEndpointError, Router
from verbatim.server.api.anthropic import models as anthropic

SECONDS = 10


async def list_models(request: ClientRequest, router: Router, session: aiohttp.ClientSession) -> HTTPResponse:
    """The union; if no endpoint lists any, the answer of one (that it wants a key, for example)."""
    ready = [endpoint for endpoint in router.endpoints if endpoint.is_ready]
    answers = await asyncio.gather(*(_list(endpoint, request, session) for endpoint in ready))
    models: dict[str, dict] = {}
    for listed in answers:
        for model in listed if isinstance(listed, list) else ():
            models.setdefault(model["id"], model)
    if models and anthropic.is_asked(dict(request.headers)):
        return json(anthropic.page_of(models.values()))
    if models:
        return json({"object": "list", "data": list(models.values())})
    for refusal in answers:
        if isinstance(refusal, HTTPResponse):
            return refusal
    raise NoEndpointError("No endpoint of this router is ready just now; try again.")


async def _list(
    endpoint: Endpoint, request: ClientRequest, session: aiohttp.ClientSession
) -> list[dict] | HTTPResponse | None:
    """What an endpoint lists, or its refusal; None if it does neither."""
    try:
        timeout = aiohttp.ClientTimeout(total=SECONDS)
        async with get(session, endpoint.url + request.path, headers=request.headers, timeout=timeout) as answer:
            body = await read(answer)
            if answer.status != 200:
                return HTTPResponse(body, answer.status, content_type=answer.headers.get("content-type"))
            return [model for model in orjson.loads(body)["data"] if model["id"]]
    except (aiohttp.ClientError, OSError, TooLongError, *WRONG_FORM):
        return None
