"""POST /debug/...: only with `--enable-debug`; each takes an object, perhaps with `model`, and asks its engine."""

from sanic import Blueprint, json

from verbatim.server.api.fields import Fields
from verbatim.server.engine.debugging import COMMANDS
from verbatim.server.models.served import ServedModel
from verbatim.server.routes.respond import read_body


def debug_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("debug")
    for command in COMMANDS:
        blueprint.add_route(_handler(command), f"/debug/{command}", methods=["POST"], name=command)
    return blueprint


def _handler(command: str):
    async def handle(request):
        model, _ = await read_body(request, _read)
        return json(await request.app.ctx.engines[model.model_id].debug(command))

    return handle


def _read(body: object, model: ServedModel) -> None:
    fields = Fields(body)
    fields.string("model")
    fields.done()
