"""POST /tokenize and /detokenize: text to ids and back, as the model's own tokenizer does it."""

from sanic import Blueprint, json

from server.protocol.tokens import detokenize, tokenize
from server.routes.respond import read_body


def token_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("tokens")

    @blueprint.post("/tokenize")
    async def tokenize_text(request):
        return json(await read_body(request, tokenize))

    @blueprint.post("/detokenize")
    async def detokenize_ids(request):
        return json(await read_body(request, detokenize))

    return blueprint
