"""Puts the server together: `sanic server.app --backend fastpath` asks this module for `app`.

Sanic makes the app in the main process and again in every worker. Making it touches nothing; engine, sockets and
tokenizer come with the listeners below. One app serves one model.
"""

import asyncio
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path

from sanic import Config, Sanic

from reference.errors import VerbatimError
from server import journal
from server.cors import CrossOrigin
from server.engine_client import EngineClient
from server.engines import check_backend, fit_options
from server.errors import OpenAIErrorHandler
from server.keys import load_keys
from server.metrics import Metrics, make_directory
from server.options import SOCKET, Options
from server.parent import end_with_parent
from server.routes.chat import chat_routes
from server.routes.completions import completion_routes
from server.routes.debug import debug_routes
from server.routes.docs import docs_routes
from server.routes.embeddings import embedding_routes
from server.routes.health import health_routes
from server.routes.metrics import metrics_routes
from server.routes.models import model_routes
from server.routes.playground import playground_routes
from server.routes.responses import response_routes
from server.routes.tokens import token_routes
from server.served import load_served_model
from server.supervise import EngineSupervisor, patch_manager, watch_workers

FAREWELL_SECONDS = 2  # before time is up, answers that still run end with an error that says so
ROUTES = (
    chat_routes, completion_routes, response_routes, embedding_routes, model_routes, token_routes, health_routes,
    metrics_routes, docs_routes, playground_routes,
)  # fmt: skip
SETTINGS = {  # environment variables named SANIC_... override them
    "AUTO_EXTEND": False,
    "FALLBACK_ERROR_FORMAT": "json",
    "GRACEFUL_SHUTDOWN_TIMEOUT": 60.0,  # seconds that running answers have to end after SIGTERM
    "KEEP_ALIVE_TIMEOUT": 120,
    "REQUEST_MAX_SIZE": 32 << 20,
    "RESPONSE_TIMEOUT": 3600,  # of silence; a long prompt on a slow engine is silent until its first token
}


def create_app(_arguments=None, *, name: str = "verbatim") -> Sanic:
    """A new app for the options in the environment. Sanic passes its parsed arguments when it calls a factory."""
    patch_manager()
    dumps = partial(json.dumps, separators=(",", ":"))
    options = Options.from_environment()
    logging = journal.logging_config(options.log_format)
    app = Sanic(name, config=Config(SETTINGS), error_handler=OpenAIErrorHandler(), dumps=dumps, log_config=logging)
    for make_routes in (*ROUTES, debug_routes) if options.enable_debug else ROUTES:
        app.blueprint(make_routes())
    app.add_signal(admit, "http.routing.before")
    app.add_signal(count, "http.lifecycle.response")
    app.on_request(answer_preflight)
    app.on_response(add_headers)
    app.main_process_ready(start_beside_workers)
    app.main_process_stop(stop_engine)
    app.before_server_start(connect)
    app.before_server_stop(begin_stopping)
    app.after_server_stop(disconnect)
    return app


def __getattr__(name: str):
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if multiprocessing.parent_process() is None:
        check_start()
    app = globals()["app"] = create_app()
    return app


def check_start() -> None:
    """End with one line, before anything has started, if the options cannot be served here."""
    try:
        options = Options.from_environment()
        check_backend(options)
        load_keys(options)
        model = load_served_model(options)
        fit_options(options, model.config).to_environment()
    except (VerbatimError, ValueError) as error:
        sys.exit(f"verbatim: {error}")


async def admit(request) -> None:
    """Before the URL is looked at or the body read: no key, no answer."""
    journal.begin(request)
    request.app.ctx.keys.check(request)


async def count(request, response) -> None:
    """An answer is there, or a stream has ended: one more for the numbers, and a line in the log."""
    path = f"/{request.route.path}" if request.route else "unknown"
    request.app.ctx.metrics.count_answer(request.method, path, response.status)
    journal.write(request, response.status)


async def answer_preflight(request):
    """A browser's question what it may do needs no handler."""
    return request.app.ctx.cross_origin.answer_preflight(request)


async def add_headers(request, response) -> None:
    """Every answer names the request, with the client's own id or a new one, and says which web pages may see it."""
    response.headers["x-request-id"] = journal.request_id(request)
    request.app.ctx.cross_origin.mark(request, response)


def start_engine(app: Sanic) -> None:
    """Start the engine process on a socket that only this user can reach; the workers' numbers lie beside it."""
    place = Path(tempfile.mkdtemp(prefix="verbatim-"))
    os.environ[SOCKET] = str(place / "engine.sock")
    make_directory(place / "metrics")
    app.ctx.supervisor = EngineSupervisor()
    app.ctx.supervisor.start()


async def start_beside_workers(app: Sanic) -> None:
    """In the main process: the engine, and the watch over the workers."""
    start_engine(app)
    watch_workers(app.manager)


async def stop_engine(app: Sanic) -> None:
    """Let the engine finish what still runs, and say with the exit code if it never could start."""
    supervisor = getattr(app.ctx, "supervisor", None)
    if supervisor is None:
        return
    supervisor.stop(app.config.GRACEFUL_SHUTDOWN_TIMEOUT)
    shutil.rmtree(Path(os.environ.pop(SOCKET)).parent, ignore_errors=True)
    if supervisor.has_failed:
        sys.exit(1)


async def connect(app: Sanic) -> None:
    """In each worker: the model's words, and the line to the engine."""
    app.ctx.options = options = Options.from_environment()
    app.ctx.model = load_served_model(options)
    app.ctx.keys, app.ctx.cross_origin = load_keys(options), CrossOrigin(options)
    if hasattr(app, "multiplexer"):
        end_with_parent()
    else:
        start_engine(app)  # --single-process: there is no main process beside this one
    app.ctx.metrics = Metrics()
    app.ctx.engine = EngineClient(os.environ[SOCKET], app.ctx.metrics)
    app.ctx.is_stopping = False
    app.ctx.reader = asyncio.create_task(app.ctx.engine.run())  # Sanic cancels its own tasks before answers end


async def begin_stopping(app: Sanic) -> None:
    """Running answers go on to their end, or are told of it: further signals do not cut them, nor does time."""
    app.ctx.is_stopping = True
    seconds = max(0, app.config.GRACEFUL_SHUTDOWN_TIMEOUT - FAREWELL_SECONDS)
    asyncio.get_running_loop().call_later(seconds, app.ctx.engine.fail_all, "The server is shutting down.")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


async def disconnect(app: Sanic) -> None:
    """Hang up, which lets the engine end; with `--single-process`, see to that as well."""
    app.ctx.reader.cancel()
    await asyncio.gather(app.ctx.reader, return_exceptions=True)
    if not hasattr(app, "multiplexer"):
        await stop_engine(app)
