"""POST /v1/chat/completions."""

from sanic import Blueprint

from verbatim.server.api.chat import read_chat
from verbatim.server.routes.respond import respond


def chat_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("chat")

    @blueprint.post("/v1/chat/completions")
    async def chat_completions(request):
        return await respond(request, read_chat, "messages")

    return blueprint
