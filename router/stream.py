"""A stream on its way to the client, which may outlive the endpoint that writes it.

Events are passed on whole, as they come and each as an HTTP chunk of its own, never half an event. Of a stream that
another endpoint could continue, the emitted events are kept (up to `MAX_EMITTED_BYTES`); when the endpoint is lost,
`follow` is called again with the answer of another endpoint, and sends only what the client does not have.
What events mean is the API's business (server/api/adapter.py).
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress

import aiohttp
from sanic import Request
from sanic.compat import Header

from verbatim.router.bounded import MAX_EVENT_BYTES, TooLongError
from verbatim.router.client_request import ClientRequest
from verbatim.server.api.adapter import Adapter, Resumption
from verbatim.server.api.replay_buffer import DivergedError
from verbatim.server.errors import EngineUnavailableError
from verbatim.server.http import sse
from verbatim.server.http.error_answers import describe

MAX_EMITTED_BYTES = 32 << 20
DRAIN_SECONDS = 1
LOST = describe(EngineUnavailableError())[1]["error"]["code"]  # of an engine that has died, and of a server that stops


class EndpointLostError(Exception):
    """The endpoint has broken off its answer, or reported that it must. `last` is the event with the report."""

    def __init__(self, message: str, last: bytes | None = None):
        super().__init__(message)
        self.last = last


class Stream:
    """What one client gets. `fingerprint` is that of the endpoint that began it, None if no other can continue it."""

    def __init__(
        self, request: Request, asked: ClientRequest, fingerprint: str | None, headers: Header, media_type: str
    ):
        self.asked, self.fingerprint = asked, fingerprint
        self._line = sse.Line(request, headers, media_type)
        self._emitted: list[bytes] = []
        self._num_bytes = 0
        self._is_over = False
        self.renames: tuple[tuple[bytes, bytes], ...] = ()
        self.created: tuple[bytes, bytes] | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the client has seen anything: from then on only an event can report an error."""
        return self._line.response is not None

    @property
    def kept_id(self) -> str | None:
        """The id under which the answer that is streamed can be asked for later, once the client has it."""
        has_one = self._emitted and self._api.is_kept
        return self._api.new_kept_id(sse.read_event(self._emitted[0])) if has_one else None

    @property
    def _api(self) -> Adapter:
        assert self.asked.adapter is not None, "only streams of APIs are kept and resumed"
        return self.asked.adapter

    async def follow(self, response: aiohttp.ClientResponse) -> None:
        """Pass on an endpoint's answer to its end; `renames` and `created` are what was replaced in it.

        EndpointLostError if it ends too early, DivergedError if it is another answer than the client has begun to get.
        """
        with of_our_form():
            resumption = self._api.resume(self._emitted) if self._emitted else None
        async with aclosing(events_of(response.content, keeps_rest=self.fingerprint is None)) as batches:
            async for batch in batches:
                await self._pass_on(batch, resumption)
                if self._is_over:
                    break
        if self.fingerprint is not None and not self._is_over:
            raise EndpointLostError("The endpoint ended the stream before its end.")
        await self._line.end()
        with suppress(aiohttp.ClientError, TimeoutError):  # read to its end, the connection serves once more
            async with asyncio.timeout(DRAIN_SECONDS):
                await response.content.read()
        if resumption:
            self.renames, self.created = resumption.renames, resumption.created

    async def fail(self, error: Exception, last: bytes | None = None) -> None:
        """End a stream that nobody can continue: with the endpoint's own last event, or with one of ours."""
        await self._line.send(last or self._error_event(error))
        await self._line.end()

    async def _pass_on(self, batch: list[bytes], resumption: Resumption | None) -> None:
        """In one write; when something is wrong with an event, those before it go out all the same."""
        ready: list[bytes] = []
        try:
            with of_our_form():
                for event in batch:
                    ready += self._cut(event, resumption)
        finally:
            if ready:
                await self._line.send(*ready)

    def _cut(self, event: bytes, resumption: Resumption | None) -> list[bytes]:
        """What of an event is sent to the client."""
        if sse.is_comment(event) or self.fingerprint is None:  # nothing that could be resumed
            return [event]
        if self.asked.kept_at:
            event = self.asked.kept_at.outward(event, is_itself=self.asked.is_for_kept)
        error = self._api.error_of(event)
        if error is not None and error.get("code") == LOST:
            raise EndpointLostError("The endpoint's engine has died, or the endpoint is shut down.", event)
        events = resumption.take(event) if resumption and error is None else [event]
        self._is_over = error is not None or self._api.is_last(event)
        self._keep(events)
        return events

    def _keep(self, events: list[bytes]) -> None:
        self._emitted += events
        self._num_bytes += sum(map(len, events))
        if self._num_bytes > MAX_EMITTED_BYTES:
            self.fingerprint, self._emitted = None, []

    def _error_event(self, error: Exception) -> bytes:
        if self.asked.adapter is None:
            return sse.event(describe(error)[1])
        return self.asked.adapter.error_event(error, self._emitted)


@contextmanager
def of_our_form() -> Iterator[None]:
    """Around the reading of events that are taken apart."""
    try:
        yield
    except ValueError:
        raise DivergedError("Another endpoint sent an event that cannot be read.") from None
    except (KeyError, TypeError, AttributeError):
        raise DivergedError("Another endpoint sent an event of another form.") from None


async def events_of(content: aiohttp.StreamReader, *, keeps_rest: bool) -> AsyncGenerator[list[bytes]]:
    """The events of a stream, those together that have come together; half an event at its end only if wanted.

    TooLongError for an event that is longer than `MAX_EVENT_BYTES`.
    """
    rest = b""
    async for data in content.iter_any():
        data = rest + data
        end = b"\r\n\r\n" if b"\r\n\r\n" in data else b"\n\n"
        *events, rest = data.split(end)
        if len(rest) > MAX_EVENT_BYTES:
            raise TooLongError(f"An event of the endpoint has more than the {MAX_EVENT_BYTES} bytes that are read.")
        if events:
            yield [event + end for event in events]
    if rest and keeps_rest:
        yield [rest]
