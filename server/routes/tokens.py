"""POST /tokenize and /detokenize: text to ids and back, as the model's own tokenizer does it."""

from sanic import Blueprint, json

from verbatim.server.api.tokens import detokenize, tokenize
from verbatim.server.routes.respond import read_body


def token_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("tokens")

    @blueprint.post("/tokenize")
    async def tokenize_text(request):
        _, tokens = await read_body(request, tokenize)
        return json(tokens)

    @blueprint.post("/detokenize")
    async def detokenize_ids(request):
        _, text = await read_body(request, detokenize)
        return json(text)

    return blueprint
