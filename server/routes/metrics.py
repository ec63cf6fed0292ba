"""GET /metrics: the server's numbers for Prometheus, also while there is no engine.

Of the use by API key, a key sees its own; one that is marked `admin` sees that of all.
"""

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
        key = request.ctx.key
        shows = (lambda label: label in ("", key.label)) if key and not key.is_admin else (lambda label: True)
        text, content_type = request.app.ctx.metrics.exposition(stats, shows)
        return HTTPResponse(text, content_type=content_type)

    return blueprint


async def _stats(engine: EngineClient) -> dict[str, int] | None:
    try:
        return await engine.stats()
    except EngineUnavailableError:
        return None
