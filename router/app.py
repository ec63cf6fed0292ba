"""The router as a Sanic app: a few pages of its own, and everything else passed on to the endpoints.

It is a single process, so that its counts are complete. Without keys of its own it leaves them to the endpoints, to
which all headers are passed on; `/health`, `/ready` and `/metrics` are then open to everyone who reaches the router.
"""

import asyncio
import json
import os
import signal
from functools import partial

import aiohttp
from sanic import Blueprint, Config, HTTPResponse, Request, Sanic
from sanic import json as json_response

from verbatim.router.access import KnownCredentials
from verbatim.router.children import Children
from verbatim.router.client_request import read_request
from verbatim.router.endpoint import Endpoint
from verbatim.router.health import watch
from verbatim.router.kept import KeptLocations
from verbatim.router.locate import locate
from verbatim.router.metrics import RouterMetrics
from verbatim.router.models import list_models
from verbatim.router.relay import Relay
from verbatim.router.routing import NoEndpointError, Router
from verbatim.router.settings import Settings
from verbatim.server.api.registry import shape_error
from verbatim.server.http import application, journal, strict
from verbatim.server.http.application import GET
from verbatim.server.http.browsers import check_host, is_from_browser
from verbatim.server.http.error_answers import OpenAIErrorHandler
from verbatim.server.http.keys import load_keys, reload_on_hangup

CONNECT_SECONDS = 5
LONG_BODY_BYTES = 16 << 10
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
NOT_OURS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")  # aiohttp would add them where a client has none


def create_app(router: Router, children: Children, settings: Settings) -> Sanic:
    """An app in front of the router's endpoints; it ends `children`, the servers that were started for it."""
    strict.install()
    dumps = partial(json.dumps, separators=(",", ":"))
    config, handler = Config(application.CONFIGURATION), OpenAIErrorHandler(shape_error)
    app = Sanic("verbatim-router", config=config, error_handler=handler, dumps=dumps)
    app.ctx.router, app.ctx.children, app.ctx.locations = router, children, KeptLocations()
    app.ctx.allow_hosts = {host.lower() for host in settings.allow_hosts}
    app.ctx.metrics, app.ctx.failover_seconds = RouterMetrics(router), settings.failover_seconds
    app.ctx.settings, app.ctx.keys, app.ctx.known = settings, load_keys(settings), KnownCredentials()
    app.blueprint(own_routes())
    app.add_route(pass_on, "/<path:path>", methods=METHODS, name="pass_on", unquote=False)
    app.add_route(pass_on, "/", methods=METHODS, name="pass_on_root")
    app.add_signal(strict.check_head, "http.lifecycle.request")
    app.add_signal(admit, "http.routing.before")
    app.add_signal(write_line, "http.lifecycle.response")
    app.on_request(application.limit_answering)
    app.on_response(name_request)
    app.before_server_start(connect)
    app.before_server_stop(begin_stopping)
    app.after_server_stop(disconnect)
    return app


def own_routes() -> Blueprint:
    """The pages that are the router's own."""
    blueprint = Blueprint("own")

    @blueprint.route("/health", methods=GET)
    async def health(request):
        return json_response(
            {"status": "ok", "endpoints": [describe(each) for each in request.app.ctx.router.endpoints]}
        )

    @blueprint.route("/ready", methods=GET)
    async def ready(request):
        router = request.app.ctx.router
        if router.is_stopping or not any(endpoint.is_ready for endpoint in router.endpoints):
            raise NoEndpointError("No endpoint of this router is ready, or the router is shutting down.")
        return json_response({"status": "ready"})

    @blueprint.route("/metrics", methods=GET)
    async def metrics(request):
        text, content_type = request.app.ctx.metrics.exposition()
        return HTTPResponse(text, content_type=content_type)

    @blueprint.route("/v1/models", methods=GET)
    async def models(request):
        asked = read_request(request, journal.request_id(request))
        return await list_models(asked, request.app.ctx.router, request.app.ctx.session)

    return blueprint


def describe(endpoint: Endpoint) -> dict:
    """The entry of an endpoint in /health."""
    models = None if endpoint.models is None else list(endpoint.models)
    return {"url": endpoint.url, "ready": endpoint.is_ready, "running": endpoint.running, "models": models}


async def pass_on(request: Request, path: str = "") -> HTTPResponse | None:
    """Anything else goes to an endpoint."""
    application.notice_leaving(request)
    ctx = request.app.ctx
    request_id = journal.request_id(request)
    is_long = len(request.body) > LONG_BODY_BYTES
    read = partial(read_request, request, request_id)
    asked = await application.beside(request, read) if is_long else read()
    try:
        asked = await locate(asked, ctx.router, ctx.locations, ctx.session)
        return await Relay(request, asked).run()
    except asyncio.CancelledError:
        journal.write(request, journal.CLIENT_LEFT)
        raise
    finally:
        if ctx.router.is_stopping:
            application.close_after(request)


async def admit(request: Request) -> None:
    """Before the body is read: nobody's is without a key, where one is needed."""
    ctx = request.app.ctx
    journal.begin(request)
    await application.limit_reading(request)
    ctx.keys.check(request)
    if is_from_browser(request):
        check_host(request, ctx.allow_hosts)
    application.refuse_long(request)
    if ctx.keys.is_empty:
        await ctx.known.check(request, ctx.router, ctx.session)


async def write_line(request: Request, response: HTTPResponse) -> None:
    """An answer is there, or a stream has ended: a line in the log."""
    journal.write(request, response.status)


async def name_request(request: Request, response: HTTPResponse) -> None:
    """Every answer has the id of its request, which the endpoint has as well."""
    response.headers["x-request-id"] = journal.request_id(request)


async def connect(app: Sanic) -> None:
    """Probe the endpoints from now on, and see to it that those of our own live."""
    application.prepare(app, app.ctx.settings.max_body_bytes)
    reload_on_hangup(app, app.ctx.settings)
    app.ctx.session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=app.config.RESPONSE_TIMEOUT),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=NOT_OURS,
        auto_decompress=False,
    )
    probes = [watch(endpoint, app.ctx.session) for endpoint in app.ctx.router.endpoints]
    app.ctx.tasks = [asyncio.create_task(work) for work in (*probes, app.ctx.children.revive())]


async def begin_stopping(app: Sanic) -> None:
    """Running answers are completed, or end with an error in time; a second signal ends the router at once."""
    router = app.ctx.router
    router.is_stopping = True
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(1))
    seconds = max(0, app.config.GRACEFUL_SHUTDOWN_TIMEOUT - application.SHUTDOWN_NOTICE_SECONDS)
    asyncio.get_running_loop().call_later(seconds, end_all, router)


def end_all(router: Router) -> None:
    """Time is up: what still runs ends with an error, and nothing is begun anew."""
    router.is_terminated = True
    for endpoint in router.endpoints:
        endpoint.is_ready = False
        endpoint.give_up()


async def disconnect(app: Sanic) -> None:
    """Hang up, so that the servers can end."""
    for task in app.ctx.tasks:
        task.cancel()
    await asyncio.gather(*app.ctx.tasks, return_exceptions=True)
    await app.ctx.session.close()
