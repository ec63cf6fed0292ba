"""GET /v1/models and /v1/models/{id}; an id may hold slashes, plain or as %2F."""

from urllib.parse import unquote

from sanic import Blueprint, json


def model_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("models")

    @blueprint.get("/v1/models")
    async def list_models(request):
        return json({"object": "list", "data": request.app.ctx.models.describe()})

    @blueprint.get("/v1/models/<model_id:path>")
    async def retrieve_model(request, model_id):
        name = unquote(model_id)
        return json(request.app.ctx.models.find(name).describe(name))

    return blueprint
