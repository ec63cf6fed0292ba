"""GET /health: 200 with the engine's counts once it answers; until then, and when it has died, 503.

GET /ready asks less: 200 if a request would be taken now, 503 also while the server is stopping.
"""

from sanic import Blueprint, json

from server.engine_client import EngineUnavailableError


def health_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("health")

    @blueprint.get("/health")
    async def health(request):
        counts = await request.app.ctx.engine.stats()
        return json({"status": "ok", "model": request.app.ctx.model.model_id, "engine": counts})

    @blueprint.get("/ready")
    async def ready(request):
        if request.app.ctx.is_stopping:
            raise EngineUnavailableError("The server is shutting down.")
        request.app.ctx.engine.check_connected()
        return json({"status": "ready"})

    return blueprint
