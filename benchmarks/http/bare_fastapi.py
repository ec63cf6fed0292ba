"""The same server with FastAPI: an asynchronous generator behind a StreamingResponse, under uvicorn."""

import asyncio

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from benchmarks.http.bare_events import read_events


def make_app() -> FastAPI:
    """One route, the same as ours."""
    app, events = FastAPI(), read_events()

    async def say():
        for event in events:
            yield event
            await asyncio.sleep(0)

    @app.get("/ready")
    async def ready():
        return {}

    @app.post("/v1/chat/completions")
    async def chat(request: Request):
        await request.body()
        return StreamingResponse(say(), media_type="text/event-stream")

    return app
