"""A stream on its way to the client, which may outlive the endpoint that writes it.

Events are passed on whole, as they come and each as an HTTP chunk of its own, never half of one. Of a stream that
another endpoint could go on with, what the client has is kept (up to `MAX_GIVEN_BYTES`); when the endpoint is lost,
`follow` is called again with another one's answer to the same request, and sends only what the client does not have.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager, suppress

import aiohttp
from sanic import Request

from verbatim.router.ask import RESPONSES, Ask
from verbatim.router.joined import DivergedError
from verbatim.router.resume_chunks import ChunkResumption, read_event
from verbatim.router.resume_events import EventResumption
from verbatim.server.http import sse
from verbatim.server.http.error_answers import describe

MAX_GIVEN_BYTES = 32 << 20
DRAIN_SECONDS = 1
PLAIN_ERROR = b'data: {"error"'
FAILED_RESPONSE = b"event: response.failed\n"
LOST = b'"engine_unavailable"'  # the code of an engine that has died, and of a server that is shut down


class EndpointLostError(Exception):
    """The endpoint has broken off its answer, or said that it must. `farewell` is the event that says so."""

    def __init__(self, message: str, farewell: bytes | None = None):
        super().__init__(message)
        self.farewell = farewell


class Stream:
    """What one client gets. `fingerprint` is that of the endpoint that began it, None if nobody else can go on."""

    def __init__(self, request: Request, ask: Ask, fingerprint: str | None, headers, kind: str):
        self.ask, self.fingerprint = ask, fingerprint
        self._line = sse.Line(request, headers, kind)
        self._given: list[bytes] = []
        self._num_bytes = 0
        self.renames, self.created = (), None

    @property
    def has_begun(self) -> bool:
        """Whether the client has seen anything: from then on only an event can tell of an error."""
        return self._line.response is not None

    @property
    def response_id(self) -> str | None:
        """The id of the response that is streamed, once the client has it."""
        is_response = self.ask.path == RESPONSES and self._given
        return read_event(self._given[0]).get("response", {}).get("id") if is_response else None

    async def follow(self, response: aiohttp.ClientResponse) -> None:
        """Pass on an endpoint's answer to its end; `renames` and `created` say what of it was replaced.

        EndpointLostError if it ends too early, DivergedError if it is another answer than the client has begun to get.
        """
        with of_our_form():
            resumption = self._resumption() if self._given else None
        async with aclosing(events_of(response.content, keeps_rest=self.fingerprint is None)) as batches:
            async for batch in batches:
                await self._pass_on(batch, resumption)
                if self._is_over:
                    break
        if self.fingerprint is not None and not self._is_over:
            raise EndpointLostError("The endpoint ended the stream before its end.")
        await self._line.response.eof()
        with suppress(aiohttp.ClientError, TimeoutError):  # read to its end, the connection serves once more
            async with asyncio.timeout(DRAIN_SECONDS):
                await response.content.read()
        if resumption:
            self.renames, self.created = resumption.renames, resumption.created

    async def fail(self, error: Exception, farewell: bytes | None = None) -> None:
        """End a stream that nobody can go on with: with the endpoint's own last event, or with one of ours."""
        await self._line.send(farewell or self._error_event(error))
        await self._line.response.eof()

    @property
    def _is_over(self) -> bool:
        return bool(self._given) and (self._given[-1] == sse.DONE or is_error(self._given[-1]))

    def _resumption(self) -> ChunkResumption | EventResumption:
        return (EventResumption if self.ask.path == RESPONSES else ChunkResumption)(self._given)

    async def _pass_on(self, batch: list[bytes], resumption: ChunkResumption | EventResumption | None) -> None:
        """In one write; when something is wrong with an event, those before it go out all the same."""
        ready = []
        try:
            with of_our_form():
                for event in batch:
                    ready += self._taken(event, resumption)
        finally:
            if ready:
                await self._line.send(*ready)

    def _taken(self, event: bytes, resumption) -> list[bytes]:
        """What of an event goes on to the client."""
        if event.startswith(b":") or self.fingerprint is None:  # a comment, or nothing that could be resumed
            return [event]
        if self.ask.home:
            event = self.ask.home.outward(event, is_itself=self.ask.is_for_kept)
        if is_error(event) and LOST in event:
            raise EndpointLostError("The endpoint's engine has died, or the endpoint is shut down.", event)
        events = resumption.take(event) if resumption and not is_error(event) else [event]
        self._keep(events)
        return events

    def _keep(self, events: list[bytes]) -> None:
        self._given += events
        self._num_bytes += sum(map(len, events))
        if self._num_bytes > MAX_GIVEN_BYTES:
            self.fingerprint, self._given = None, []

    def _error_event(self, error: Exception) -> bytes:
        body = describe(error)[1]
        if self.ask.path != RESPONSES:
            return sse.event(body)
        number = read_event(self._given[-1])["sequence_number"] + 1 if self._given else 0
        told = {name: body["error"][name] for name in ("code", "message", "param")}
        return sse.named_event({"type": "error", "sequence_number": number} | told)


def is_error(event: bytes) -> bool:
    """Whether a verbatim server tells with it that something went wrong."""
    return event.startswith((PLAIN_ERROR, FAILED_RESPONSE))


@contextmanager
def of_our_form() -> Iterator[None]:
    """Around the reading of events that are taken apart."""
    try:
        yield
    except (KeyError, TypeError, AttributeError):
        raise DivergedError("Another endpoint sent an event of another form.") from None


async def events_of(content: aiohttp.StreamReader, *, keeps_rest: bool) -> AsyncIterator[list[bytes]]:
    """The events of a stream, those together that have come together; half an event at its end only if wanted."""
    rest = b""
    async for data in content.iter_any():
        data = rest + data
        end = b"\r\n\r\n" if b"\r\n\r\n" in data else b"\n\n"
        *events, rest = data.split(end)
        if events:
            yield [event + end for event in events]
    if rest and keeps_rest:
        yield [rest]
