"""POST /v1/completions."""

from sanic import Blueprint

from verbatim.server.api.completions import read_completion
from verbatim.server.routes.respond import respond


def completion_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("completions")

    @blueprint.post("/v1/completions")
    async def completions(request):
        return await respond(request, read_completion, "prompt")

    return blueprint
