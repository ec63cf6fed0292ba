"""GET /metrics: the server's numbers for Prometheus, also while there is no engine."""

from sanic import Blueprint, HTTPResponse

from server.engine_client import EngineUnavailableError


def metrics_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("metrics")

    @blueprint.get("/metrics")
    async def metrics(request):
        try:
            stats = await request.app.ctx.engine.stats()
        except EngineUnavailableError:
            stats = None
        text, content_type = request.app.ctx.metrics.exposition(stats)
        return HTTPResponse(text, content_type=content_type)

    return blueprint
