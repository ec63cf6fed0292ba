"""GET /v1/models and /v1/models/{id}, in OpenAI's form or Anthropic's; an id may hold slashes, plain or as %2F."""

from urllib.parse import unquote

from sanic import Blueprint, json

from verbatim.server.api.anthropic import models as anthropic
from verbatim.server.http.application import GET


def model_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("models")

    @blueprint.route("/v1/models", methods=GET)
    async def list_models(request):
        entries = request.app.ctx.models.describe()
        if anthropic.is_asked(request.headers):
            return json(anthropic.page_of(map(anthropic.describe, entries)))
        return json({"object": "list", "data": entries})

    @blueprint.route("/v1/models/<model_id:path>", methods=GET)
    async def retrieve_model(request, model_id):
        if not model_id:  # /v1/models/
            return await list_models(request)
        name = unquote(model_id)
        entry = request.app.ctx.models.find(name).describe(name)
        return json(anthropic.describe(entry) if anthropic.is_asked(request.headers) else entry)

    return blueprint
