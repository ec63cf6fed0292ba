"""A request's way through the router: endpoints are asked until the answer is complete.

Before anything has been sent to the client, a request that cannot connect, or gets 503, or 429 while another endpoint
is free, is retried at another. One that breaks off later is retried elsewhere, up to `MAX_FAILURES` times: a request
that kills every endpoint must not be passed around. A whole answer starts again; a stream is resumed where it stopped,
at an endpoint whose answers are the same (stream.py), and may wait `--failover-seconds` for it.
"""

import asyncio
from collections.abc import Mapping

import aiohttp
import orjson
from sanic import HTTPResponse, Request
from sanic.compat import Header
from sanic.log import logger
from yarl import URL

from verbatim.reference.records.errors import RequestError
from verbatim.router.bounded import MAX_ANSWER_BYTES, TooLongError, read
from verbatim.router.client_request import HOP_BY_HOP, ClientRequest
from verbatim.router.endpoint import Endpoint
from verbatim.router.kept import KeptLocation, KeptLocations
from verbatim.router.metrics import RouterMetrics
from verbatim.router.routing import NoEndpointError, Router
from verbatim.router.stream import EndpointLostError, Stream
from verbatim.server.api.replay_buffer import DivergedError

MAX_FAILURES = 3
RETRY_SECONDS = 1.0  # with nothing lost yet: a connection that was kept may have been stale, and its server be well
BUSY, AWAY = 429, 503
BUSY_SECONDS = 0.5
EVENTS = "text/event-stream"
FAILURES = (aiohttp.ClientError, EndpointLostError, OSError, TimeoutError)
NEVER_REACHED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class Relay:
    """The state of one request: which endpoints have refused it, how often it was broken off, what the client got."""

    def __init__(self, request: Request, asked: ClientRequest):
        ctx = request.app.ctx
        self.request, self.asked = request, asked
        self.router: Router = ctx.router
        self.locations: KeptLocations = ctx.locations
        self.metrics: RouterMetrics = ctx.metrics
        self.session, self.failover_seconds = ctx.session, ctx.failover_seconds
        self.refused: set[Endpoint] = set()
        self.refusal: HTTPResponse | None = None
        self.stream: Stream | None = None
        self.num_failures = 0
        self.until = 0.0  # so long it may wait for an endpoint, by the loop's clock

    @property
    def begun(self) -> Stream | None:
        """The stream of which the client has seen the beginning."""
        return self.stream if self.stream is not None and self.stream.has_begun else None

    async def run(self) -> HTTPResponse | None:
        """The answer, or None if it was streamed. NoEndpointError if no endpoint can be asked, and none has refused."""
        error: Exception | None = None
        while True:
            try:
                endpoint = await self._next_endpoint()
            except NoEndpointError as none:
                return await self._give_up(error or none, none)
            try:
                async with endpoint.asked():
                    answer = await self._ask(endpoint)
                if answer is not self.refusal or answer is None:
                    return answer
            except DivergedError as diverged:
                await self._diverge(endpoint, diverged)
                return None
            except TooLongError as too_long:
                if not self.begun:
                    raise
                await self.begun.fail(too_long)
                return None
            except FAILURES as failure:
                error = failure
                self._count_failure(endpoint, failure)

    async def _next_endpoint(self) -> Endpoint:
        """The endpoint to ask now; with a stream half way, only one that gives the same answer."""
        if self.begun and self.begun.fingerprint is None:
            raise NoEndpointError("The endpoint broke off, and no other one can go on where it stood.")
        if self.begun and self.refusal is not None and asyncio.get_running_loop().time() >= self.until:
            raise NoEndpointError("The endpoint broke off, and the others were too busy to go on in time.")
        if self.num_failures > MAX_FAILURES:
            raise NoEndpointError("Several endpoints broke off this request.")
        fingerprint = self.begun.fingerprint if self.begun else None
        return await self.router.pick(self.asked, self.refused, fingerprint=fingerprint, until=self.until)

    async def _ask(self, endpoint: Endpoint) -> HTTPResponse | None:
        """One endpoint's answer: a whole one, None for one that was streamed, or `self.refusal`."""
        fingerprint = endpoint.fingerprint(self.asked.model) if self.asked.is_resumable else None
        self.metrics.requests.labels(endpoint.url).inc()
        body = self.asked.body_for(fingerprint) or None
        asked = self.session.request(
            self.asked.method, self._url(endpoint), headers=self.asked.headers, data=body, allow_redirects=False
        )
        async with asked as response:
            if response.status == 200 and response.content_type == EVENTS:
                await self._stream(endpoint, response, fingerprint)
                return None
            answer = await self._whole(endpoint, response)
        if response.status not in (BUSY, AWAY):
            if not self.begun:
                return answer
            raise EndpointLostError(f"The endpoint answered {response.status} to a request that another had taken.")
        await self._refuse(endpoint, response.status, answer)
        return answer

    def _url(self, endpoint: Endpoint) -> URL:
        try:
            return URL(endpoint.url + self.asked.target_there, encoded=True)
        except ValueError:  # it must not count against the endpoint
            raise RequestError("The URL cannot be read.", code="invalid_url") from None

    async def _refuse(self, endpoint: Endpoint, status: int, answer: HTTPResponse) -> None:
        """The client sees the refusal only if no other endpoint takes the request."""
        self.refusal = answer
        self.metrics.retries.labels(endpoint.url).inc()
        if status == AWAY:
            endpoint.eject()
        if not self.begun:
            self.refused.add(endpoint)
        elif status == BUSY:
            await asyncio.sleep(BUSY_SECONDS)  # a stream that has begun is worth another try

    async def _stream(self, endpoint: Endpoint, response: aiohttp.ClientResponse, fingerprint: str | None) -> None:
        if stream := self.begun:
            await stream.follow(response)
            self.metrics.failovers.labels("resumed").inc()
            logger.info("A stream that another endpoint had begun has ended at %s.", endpoint.url)
        else:
            media_type = response.headers.get("content-type", EVENTS)
            headers = passed_on(response.headers)
            stream = self.stream = Stream(self.request, self.asked, fingerprint, headers, media_type)
            await stream.follow(response)
        self._keep_location(endpoint, stream.kept_id, stream.renames, stream.created)

    def _keep_location(
        self,
        endpoint: Endpoint,
        response_id: str | None,
        renames: tuple[tuple[bytes, bytes], ...] = (),
        created: tuple[bytes, bytes] | None = None,
    ) -> None:
        """Remember where a response is, by the id that the client knows, and which names differ there."""
        if response_id is not None:
            known = self.asked.kept_at.renames if self.asked.kept_at else ()
            self.locations.put(response_id, KeptLocation(endpoint, (*known, *renames), created))

    async def _whole(self, endpoint: Endpoint, response: aiohttp.ClientResponse) -> HTTPResponse:
        """The answer read to its end, so that it can still be asked for elsewhere if that does not come."""
        body = await read(response, MAX_ANSWER_BYTES)
        if self.asked.kept_at:
            body = self.asked.kept_at.outward(body, is_itself=self.asked.is_for_kept)
        if response.status == 200:
            self._keep_location(endpoint, self._kept_id(body))
        media_type = response.headers.get("content-type")
        headers = passed_on(response.headers)
        if self.asked.method == "HEAD" and "content-length" in response.headers:
            headers["content-length"] = response.headers["content-length"]  # of the body that GET would have
        return HTTPResponse(body, response.status, headers, media_type)

    def _kept_id(self, body: bytes) -> str | None:
        """The id under which a whole answer can be asked for later."""
        api = self.asked.adapter
        if api is None or not api.is_kept or self.asked.is_for_kept:
            return None
        try:
            return api.new_kept_id(orjson.loads(body))
        except (ValueError, AttributeError):
            return None

    def _count_failure(self, endpoint: Endpoint, error: Exception) -> None:
        """It broke off, or was never reached: no more requests until a probe succeeds."""
        endpoint.eject()
        self.metrics.errors.labels(endpoint.url).inc()
        logger.warning("Endpoint %s failed on a request: %s %s", endpoint.url, type(error).__name__, error)
        if not isinstance(error, NEVER_REACHED):
            self.num_failures += 1
            self.until = asyncio.get_running_loop().time() + (self.failover_seconds if self.begun else RETRY_SECONDS)
            return
        self.metrics.retries.labels(endpoint.url).inc()
        if not self.begun:
            self.refused.add(endpoint)

    async def _give_up(self, error: Exception, none: NoEndpointError) -> HTTPResponse | None:
        """No endpoint is left: the last refusal, or an error of ours, as an answer or as a stream's last event."""
        if stream := self.begun:
            self.metrics.failovers.labels("failed").inc()
            await stream.fail(none, getattr(error, "last", None))
            return None
        if self.refusal is not None:
            return self.refusal
        raise none

    async def _diverge(self, endpoint: Endpoint, error: DivergedError) -> None:
        """Better no text than wrong text."""
        logger.error("Endpoint %s cannot go on with a stream: %s", endpoint.url, error)
        self.metrics.failovers.labels("diverged").inc()
        assert self.stream is not None, "only a stream can diverge"
        await self.stream.fail(error)


def passed_on(headers: Mapping) -> Header:
    """An endpoint's headers but for those that hold between the two of us, and those that we write ourselves."""
    return Header([pair for pair in headers.items() if pair[0].lower() not in HOP_BY_HOP | {"content-type"}])
