"""Server-sent events as OpenAI frames them: a `data:` line of JSON an event, then `data: [DONE]`.

Nothing is sent before the first event exists, so that an error before the first token is an ordinary HTTP error.
After that only an event can report an error: Sanic would end a broken stream as if it were complete. On an idle stream
a comment, which clients skip, is sent as a heartbeat, so that no proxy takes the connection for dead; after the first
of them an error is an event, too. (WHATWG HTML, section 9.2, "Server-sent events".)
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Any, ClassVar, Protocol

import orjson
from sanic import HTTPResponse, Request
from sanic.compat import Header
from sanic.log import logger

from verbatim.server.errors import SlowReaderError
from verbatim.server.http import application, journal
from verbatim.server.http.error_answers import describe, log

MEDIA_TYPE = "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"
COMMENT = b": still here\n\n"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def event(value: dict) -> bytes:
    """One event. JSON escapes line breaks, so it always fits one line."""
    return b"data: " + _to_json(value) + b"\n\n"


def _to_json(value: dict) -> bytes:
    """orjson is much the fastest, but has no integers beyond 64 bits, which a schema that we repeat may hold."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def named_event(value: dict) -> bytes:
    """One event that is named after its type, as responses have them."""
    return b"event: " + value["type"].encode() + b"\n" + event(value)


def read_event(raw: bytes) -> Any:
    """The JSON of an event that was written so. ValueError for anything else."""
    return orjson.loads(raw[raw.index(b"data: ") + 6 :])


def is_comment(raw: bytes) -> bool:
    """Whether an event is one that clients skip."""
    return raw.startswith(b":")


class Format(Protocol):
    """How an API writes its events."""

    end: ClassVar[bytes]  # what a stream ends with, if it has not failed
    media_type: ClassVar[str]
    heartbeat: ClassVar[bytes]  # what clients skip; empty if there is no such thing

    def write(self, value: dict) -> bytes:
        """One event."""


class Unchunked(Header):
    """Headers that do not take Sanic's word that an answer without a length has chunks."""

    def __setitem__(self, key: str, value: Any) -> None:
        """As for all headers but that."""
        if key.lower() != "transfer-encoding":
            super().__setitem__(key, value)


class Line:
    """The answer to one request, which begins with the first thing that is sent."""

    def __init__(self, request: Request, headers: Header | dict[str, str] = HEADERS, media_type: str = MEDIA_TYPE):
        self.request, self.headers, self.media_type = request, headers, media_type
        self.response: HTTPResponse | None = None
        self._latest = time.monotonic()
        self._beginning = asyncio.Lock()
        self._is_plain = request.version == "1.0"

    async def send(self, *events: bytes) -> None:
        """Send the headers if nothing has been sent, then these: in a single write, each as an HTTP chunk of its own.

        There are clients (the examples of MLC LLM, for example) that take a chunk for an event. Sanic would write every
        chunk by itself, which costs as much as making it; the framing is that of RFC 9112, section 7.1.
        """
        if self.response is None:
            async with self._beginning:
                if self.response is None:
                    self.response = await self.request.respond(content_type=self.media_type, headers=self.headers)
                    if self._is_plain:
                        await self._begin_plain(self.response)
                    else:
                        await self.response.send(events[0])
                        events = events[1:]
        self._latest = time.monotonic()
        if events:
            protocol: Any = self.request.protocol  # Sanic's own type has no `send`
            if not protocol._can_write.is_set():
                await self._wait_for_reader(protocol)
            chunks = events if self._is_plain else [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
            await protocol.send(b"".join(chunks))

    async def _wait_for_reader(self, protocol: Any) -> None:
        """Until what was sent has been read; a client that reads nothing of it for too long is cut off."""
        try:
            async with asyncio.timeout(self.request.app.ctx.reader_timeout or None):
                await protocol._can_write.wait()
        except TimeoutError:
            message = f"The client has read nothing for {self.request.app.ctx.reader_timeout:g} s; it is cut off."
            logger.warning("%s Request %s.", message, journal.request_id(self.request))
            protocol.transport.abort()
            raise SlowReaderError(message) from None

    async def _begin_plain(self, response: HTTPResponse) -> None:
        """The headers for a client of HTTP/1.0, which knows no chunks: the answer ends with the connection."""
        application.close_after(self.request)
        response.headers = Unchunked(response.headers)
        await response.send(b"", False)
        stream: Any = response.stream
        stream.response_func, stream.response_bytes_left = stream.http1_response_normal, 0

    async def end(self) -> None:
        """End the answer, of which something has been sent."""
        assert self.response is not None
        await self.response.eof()

    async def send_heartbeats(self, heartbeat: bytes, seconds: float) -> None:
        """Send `heartbeat` whenever nothing has been sent for so long. Runs until cancelled."""
        while True:
            await asyncio.sleep(max(0, self._latest + seconds - time.monotonic()))
            if time.monotonic() - self._latest >= seconds:
                await self.send(heartbeat)


async def stream(
    request: Request,
    batches: AsyncGenerator[Iterable[dict]],
    format_: Format,
    fail: Callable[[BaseException], list[dict]],
) -> None:
    """Answer `request` with events; those of a batch, which are there at once, are sent at once.

    `fail` gives the events that report an error in the middle. Raises what happens before anything is sent, or if the
    client leaves.
    """
    line = Line(request, media_type=format_.media_type)
    seconds = request.app.ctx.options.keep_alive_seconds if format_.heartbeat else 0
    keeper = asyncio.create_task(line.send_heartbeats(format_.heartbeat, seconds)) if seconds else None
    try:
        async with aclosing(batches):
            await _send_all(line, batches, format_, fail)
        await line.end()
    finally:
        if keeper:
            keeper.cancel()


async def _send_all(
    line: Line,
    batches: AsyncGenerator[Iterable[dict]],
    format_: Format,
    fail: Callable[[BaseException], list[dict]],
) -> None:
    try:
        async for batch in batches:
            await _send_batch(line, batch, format_)
        if format_.end:
            await line.send(format_.end)
    except asyncio.CancelledError:
        raise
    except Exception as error:
        if line.response is None:
            raise
        if describe(error)[0] == 500:
            log(error)
        for value in fail(error):
            await line.send(format_.write(value))


async def _send_batch(line: Line, batch: Iterable[dict], format_: Format) -> None:
    """In one piece; if making an event fails, those before it are sent all the same."""
    events = []
    try:
        for value in batch:
            events.append(format_.write(value))
    finally:
        if events:
            await line.send(*events)
