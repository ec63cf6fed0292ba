"""GET /api/tags, /api/ps and /api/version: what Ollama's clients ask first."""

from sanic import Blueprint, json

from verbatim.server.api.ollama.about import API_VERSION, entry, loaded_entry
from verbatim.server.http.application import GET


def ollama_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("ollama")

    @blueprint.route("/api/tags", methods=GET)
    async def tags(request):
        return json({"models": [entry(model, name) for name, model in request.app.ctx.models.listed()]})

    @blueprint.route("/api/ps", methods=GET)
    async def loaded(request):
        return json({"models": [loaded_entry(model, model.model_id) for model in request.app.ctx.models]})

    @blueprint.route("/api/version", methods=GET)
    async def version(request):
        return json({"version": API_VERSION})

    return blueprint
