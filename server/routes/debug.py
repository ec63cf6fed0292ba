"""POST /debug/...: only with `--enable-debug`; each takes an object, perhaps with `model`, and asks its engine."""

from sanic import Blueprint, HTTPResponse, Request, json
from sanic.models.handler_types import RouteHandler

from verbatim.server.api.fields import Object
from verbatim.server.api.policy import REFUSE, reading
from verbatim.server.api.tokens import MODEL
from verbatim.server.engine.debugging import COMMANDS
from verbatim.server.models.served import ServedModel
from verbatim.server.routes.respond import read_body

BODY = Object(MODEL)


def debug_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("debug")
    for command in COMMANDS:
        blueprint.add_route(_handler(command), f"/debug/{command}", methods=["POST"], name=command)
    return blueprint


def _handler(command: str) -> RouteHandler:
    async def handle(request: Request) -> HTTPResponse:
        model, _ = await read_body(request, _read)
        return json(await request.app.ctx.engines[model.engine_id].debug(command))

    return handle


def _read(body: object, model: ServedModel) -> None:
    """Strictly, whatever the policy: a command must be meant."""
    with reading(REFUSE):
        BODY.read(body).done()
