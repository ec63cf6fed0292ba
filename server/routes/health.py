"""GET /health: 200 with the counts of each model's engine once all answer; until then, and when any has died, 503.

`model` and `engine` are those of the main model.

GET /ready asks less: 200 if a request would be taken now, 503 also while the server is stopping or an engine makes no
progress (`engine_stalled`). It names the models with their fingerprints, for a router in front of several servers, and
shows each engine's heartbeat.
"""

from sanic import Blueprint, json

from verbatim.server.engine.heartbeat import Beat
from verbatim.server.errors import EngineUnavailableError
from verbatim.server.http.application import GET


def health_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("health")

    @blueprint.route("/health", methods=GET)
    async def health(request):
        counts = {name: await engine.stats() for name, engine in request.app.ctx.engines.items()}
        main = request.app.ctx.models.main.model_id
        return json({"status": "ok", "model": main, "engine": counts[main], "engines": counts})

    @blueprint.route("/ready", methods=GET)
    async def ready(request):
        if request.app.ctx.is_stopping:
            raise EngineUnavailableError("The server is shutting down.")
        for engine in request.app.ctx.engines.values():
            engine.check_connected()
        beats = {name: describe(engine.heartbeat()) for name, engine in request.app.ctx.engines.items()}
        return json({"status": "ready", "models": request.app.ctx.models.fingerprints(), "engines": beats})

    return blueprint


def describe(beat: Beat | None) -> dict | None:
    """An engine's heartbeat for people: its steps so far, and how many seconds ago it was seen to work."""
    return None if beat is None else {"steps": beat.steps, "seconds_ago": round(beat.age(), 3)}
