"""GET /health: 200 with the engine's counts once it answers; until then, and when it has died, 503."""

from sanic import Blueprint, json


def health_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("health")

    @blueprint.get("/health")
    async def health(request):
        counts = await request.app.ctx.engine.stats()
        return json({"status": "ok", "model": request.app.ctx.model.model_id, "engine": counts})

    return blueprint
