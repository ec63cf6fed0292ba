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
from server.engine_client import EngineClient
from server.engine_process import die_with_parent
from server.engines import check_backend
from server.errors import OpenAIErrorHandler
from server.options import SOCKET, Options
from server.routes.chat import chat_routes
from server.routes.completions import completion_routes
from server.routes.health import health_routes
from server.routes.models import model_routes
from server.served import load_served_model
from server.supervise import (
    EngineSupervisor,
    end_helpers_of_a_dead_parent,
    note_helpers,
    patch_manager,
    watch_workers,
)

FAREWELL_SECONDS = 2  # before time is up, answers that still run end with an error that says so
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
    app = Sanic(name, config=Config(SETTINGS), error_handler=OpenAIErrorHandler(), dumps=dumps)
    for blueprint in (chat_routes(), completion_routes(), model_routes(), health_routes()):
        app.blueprint(blueprint)
    app.on_response(add_request_id)
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
        load_served_model(options)
    except (VerbatimError, ValueError) as error:
        sys.exit(f"verbatim: {error}")


async def add_request_id(request, response) -> None:
    """Every answer names the request: the client's own id, or a new one."""
    response.headers["x-request-id"] = str(request.id)


def start_engine(app: Sanic) -> None:
    """Start the engine process on a socket that only this user can reach."""
    os.environ[SOCKET] = str(Path(tempfile.mkdtemp(prefix="verbatim-")) / "engine.sock")
    app.ctx.supervisor = EngineSupervisor()
    app.ctx.supervisor.start()


async def start_beside_workers(app: Sanic) -> None:
    """In the main process: the engine, and the watch over the workers."""
    note_helpers()
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
    app.ctx.model = load_served_model(Options.from_environment())
    if hasattr(app, "multiplexer"):
        die_with_parent()
    else:
        start_engine(app)  # --single-process: there is no main process beside this one
    app.ctx.engine = EngineClient(os.environ[SOCKET])
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
    if hasattr(app, "multiplexer"):
        end_helpers_of_a_dead_parent()
    else:
        await stop_engine(app)
