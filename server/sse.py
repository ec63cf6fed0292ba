"""Server-sent events as OpenAI frames them: one `data:` line of JSON an event, then `data: [DONE]`.

Nothing is sent before the first event exists, so that an error before the first token is an ordinary HTTP error.
After that only an event can tell of an error: Sanic would end a broken stream as if it were complete.
(WHATWG HTML, section 9.2, "Server-sent events".)
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

from server.errors import describe, log

DONE = b"data: [DONE]\n\n"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def event(value: dict) -> bytes:
    """One event. JSON escapes line breaks, so it always fits one line."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


async def stream(request, events: AsyncGenerator[dict]) -> None:
    """Answer `request` with `events`. Raises only what happens before the first one, or a client that left."""
    async with aclosing(events):
        first = await anext(events)
        response = await request.respond(content_type="text/event-stream; charset=utf-8", headers=HEADERS)
        await response.send(event(first))
        try:
            async for value in events:
                await response.send(event(value))
            await response.send(DONE)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            status, body, _ = describe(error)
            if status == 500:
                log(error)
            await response.send(event(body))
        await response.eof()
