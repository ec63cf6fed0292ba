"""A minimal Sanic server that streams bytes known in advance, an event at a time.

Between two events it yields to the other streams, as a real server does.
"""

import asyncio

from sanic import Sanic

from benchmarks.http.bare_events import read_events


def make_app() -> Sanic:
    """One route, the same as ours."""
    app, events = Sanic("bare"), read_events()

    @app.get("/ready")
    async def ready(request):
        response = await request.respond()
        await response.eof()

    @app.post("/v1/chat/completions")
    async def chat(request):
        response = await request.respond(content_type="text/event-stream; charset=utf-8")
        for event in events:
            await response.send(event)
            await asyncio.sleep(0)
        await response.eof()

    return app


app = make_app()
