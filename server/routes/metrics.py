"""GET /metrics: the server's numbers for Prometheus, also while there is no engine."""

from sanic import Blueprint, HTTPResponse

from verbatim.server.engine.client import EngineClient
from verbatim.server.errors import EngineUnavailableError
from verbatim.server.http.application import GET


def metrics_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("metrics")

    @blueprint.route("/metrics", methods=GET)
    async def metrics(request):
        stats = {name: await _stats(engine) for name, engine in request.app.ctx.engines.items()}
        text, content_type = request.app.ctx.metrics.exposition(stats)
        return HTTPResponse(text, content_type=content_type)

    return blueprint


async def _stats(engine: EngineClient) -> dict[str, int] | None:
    try:
        return await engine.stats()
    except EngineUnavailableError:
        return None
