"""The paths of all APIs: `POST` answers a body, other pages are about what was answered before."""

from sanic import Blueprint, HTTPResponse, Request, json
from sanic.models.handler_types import RouteHandler

from verbatim.server.api import registry
from verbatim.server.api.adapter import Adapter, Page
from verbatim.server.http.application import GET
from verbatim.server.http.keys import owner_of
from verbatim.server.http.owner import owned_by
from verbatim.server.routes.respond import read_body, respond


def api_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("apis")
    for adapter in registry.ADAPTERS:
        blueprint.add_route(_answer(adapter), adapter.path, methods=["POST"], name=adapter.name)
        for page in adapter.pages:
            path = page.path.replace("{", "<").replace("}", ">")
            handle = _compute(page) if page.body else _show(page)
            methods = GET if page.method == "GET" else [page.method]
            blueprint.add_route(handle, path, methods=methods, name=f"{adapter.name}_{page.name}")
    return blueprint


def _answer(adapter: Adapter) -> RouteHandler:
    async def handle(request: Request) -> HTTPResponse | None:
        return await respond(request, adapter)

    return handle


def _compute(page: Page) -> RouteHandler:
    async def handle(request: Request) -> HTTPResponse:
        _, answer = await read_body(request, page.handle)
        return json(answer)

    return handle


def _show(page: Page) -> RouteHandler:
    async def handle(request: Request, **place: str) -> HTTPResponse:
        with owned_by(owner_of(request)):
            return json(page.handle(next(iter(place.values())), request.args))

    return handle
