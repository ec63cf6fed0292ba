"""Puts the server together: `sanic server.app --backend fastpath` asks this module for `app`.

Sanic makes the app in the main process and again in every worker. Making it touches nothing; engine, sockets and
tokenizer come with the listeners below. An app serves all models of a server.
"""

import asyncio
import gc
import json
import multiprocessing
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path

from sanic import Config, HTTPResponse, Request, Sanic

from verbatim.reference.receipts.signing import load_signer
from verbatim.reference.records.errors import BackendError, VerbatimError
from verbatim.server.api.anthropic import models as anthropic
from verbatim.server.api.policy import HEADER
from verbatim.server.api.registry import shape_error
from verbatim.server.engine.backends import check_backend, choose_backend
from verbatim.server.engine.client import EngineClient
from verbatim.server.engine.manager import pass_on_hangup, patch_manager, watch_workers
from verbatim.server.engine.parent import end_with_parent
from verbatim.server.engine.place import Place
from verbatim.server.engine.supervise import EngineSupervisor
from verbatim.server.engine.worker_beat import beat_path, keep_beating
from verbatim.server.http import application, journal, strict
from verbatim.server.http.browsers import BrowserCheck
from verbatim.server.http.cors import CrossOrigin
from verbatim.server.http.error_answers import OpenAIErrorHandler
from verbatim.server.http.json_body import MAX_VALUES
from verbatim.server.http.keys import load_keys, reload_on_hangup
from verbatim.server.http.metrics import Metrics, make_directory
from verbatim.server.models import lineup, start_lines
from verbatim.server.models.served import ServedModels, load_served_model
from verbatim.server.routes.adapters import adapter_routes
from verbatim.server.routes.apis import api_routes
from verbatim.server.routes.debug import debug_routes
from verbatim.server.routes.docs import docs_routes
from verbatim.server.routes.health import health_routes
from verbatim.server.routes.metrics import metrics_routes
from verbatim.server.routes.models import model_routes
from verbatim.server.routes.ollama import ollama_routes
from verbatim.server.routes.page import page_routes
from verbatim.server.routes.probes import probe_routes
from verbatim.server.routes.tokens import token_routes
from verbatim.server.settings.options import LINEUP, PLACE, Options

ROUTES = (
    api_routes,
    model_routes,
    token_routes,
    health_routes,
    probe_routes,
    ollama_routes,
    metrics_routes,
    docs_routes,
    page_routes,
)


def create_app(_arguments: object = None, *, name: str = "verbatim") -> Sanic:
    """A new app for the options in the environment. Sanic passes its parsed arguments when it calls a factory."""
    patch_manager()
    strict.install()
    os.environ.setdefault("SANIC_IGNORE_PRODUCTION_WARNING", "true")  # a terminal would get that as its first line
    dumps = partial(json.dumps, separators=(",", ":"))
    options = Options.from_environment()
    logging = journal.logging_config(options.log_format)
    app = Sanic(
        name,
        config=Config(application.CONFIGURATION),
        error_handler=OpenAIErrorHandler(shape_error),
        dumps=dumps,
        log_config=logging,
    )
    for make_routes in (*ROUTES, debug_routes, adapter_routes) if options.enable_debug else ROUTES:
        app.blueprint(make_routes())
    app.add_signal(strict.check_head, "http.lifecycle.request")
    app.add_signal(admit, "http.routing.before")
    app.add_signal(count, "http.lifecycle.response")
    app.on_request(application.limit_answering)
    app.on_request(answer_preflight)
    app.on_response(add_headers)
    app.main_process_ready(start_beside_workers)
    app.main_process_stop(stop_engines)
    app.before_server_start(connect)
    app.before_server_stop(begin_stopping)
    app.after_server_stop(disconnect)
    return app


def __getattr__(name: str) -> Sanic:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if multiprocessing.parent_process() is None:
        check_start()
    app = globals()["app"] = create_app()
    return app


def check_start() -> None:
    """End with one line, before anything has started, if the options cannot be served here."""
    try:
        if not hasattr(socket, "AF_UNIX"):
            raise BackendError("the server needs Unix sockets, which this system has not: on Windows use WSL 2")
        options = choose_backend(Options.from_environment())
        check_backend(options)
        load_keys(options)
        load_signer(options.receipt_key)
        CrossOrigin(options)
        os.environ.pop(LINEUP, None)
        models = lineup.settle(options)
        ServedModels(map(load_served_model, models))
        lineup.write(models)
    except (VerbatimError, ValueError) as error:
        sys.exit(f"verbatim: {error}")


async def admit(request: Request) -> None:
    """Before the URL or the body is read: no key, no answer; and no body in time, no answer either."""
    journal.begin(request)
    await application.limit_reading(request)
    request.app.ctx.keys.check(request)
    request.app.ctx.browsers.check(request)
    application.refuse_long(request)


async def count(request: Request, response: HTTPResponse) -> None:
    """An answer is there, or a stream has ended: one more for the numbers, and a line in the log."""
    path = f"/{request.route.path}" if request.route else "unknown"
    request.app.ctx.metrics.count_answer(request.method, path, response.status)
    journal.write(request, response.status)


async def answer_preflight(request: Request) -> HTTPResponse | None:
    """A browser's question what it may do needs no handler."""
    return request.app.ctx.cross_origin.answer_preflight(request)


async def add_headers(request: Request, response: HTTPResponse) -> None:
    """Every answer names the request, with the client's own id or a new one, what had no effect, and who may see it."""
    response.headers["x-request-id"] = journal.request_id(request)
    if ignored := journal.ignored(request):
        response.headers[HEADER] = ignored
    if anthropic.is_asked(request.headers):
        response.headers["request-id"] = response.headers["x-request-id"]
    request.app.ctx.cross_origin.mark(request, response)


def start_engines(app: Sanic) -> None:
    """Start an engine process for each model, on sockets that only this user can reach; much else lies beside them."""
    try:
        app.ctx.place = Place()
        os.environ[PLACE] = str(app.ctx.place.path)
        make_directory(app.ctx.place.path / "metrics")
    except OSError as error:
        sys.exit(f"verbatim: there is no place for the server's own files: {error}")
    models = lineup.read()
    app.ctx.supervisors = [EngineSupervisor(model, path) for model, path in zip(models, sockets(models), strict=True)]
    for supervisor in app.ctx.supervisors:
        supervisor.start()
    start_lines.show(app, models)


def sockets(models: list[Options]) -> list[str]:
    """Where the engine of each model listens."""
    return [str(Path(os.environ[PLACE]) / f"engine-{index}.sock") for index in range(len(models))]


async def start_beside_workers(app: Sanic) -> None:
    """In the main process: the engines, and the watch over the workers."""
    start_engines(app)
    give_up = partial(setattr, app.ctx, "has_lost_workers", True)
    options = Options.from_environment()
    watch_workers(app.manager, give_up, options.engine_timeout)
    if options.api_key_file:
        pass_on_hangup(app.manager)


async def stop_engines(app: Sanic) -> None:
    """Let the engines finish what still runs; the exit code is 1 if one never started, or workers died too often."""
    supervisors = getattr(app.ctx, "supervisors", ())
    for supervisor in supervisors:
        supervisor.ask_to_stop()
    for supervisor in supervisors:
        supervisor.stop(app.config.GRACEFUL_SHUTDOWN_TIMEOUT)
    if os.environ.pop(PLACE, None):
        app.ctx.place.remove()
    if any(supervisor.has_failed for supervisor in supervisors) or getattr(app.ctx, "has_lost_workers", False):
        sys.exit(1)


async def connect(app: Sanic) -> None:
    """In each worker: the models' words, and a line to each engine."""
    options, models = Options.from_environment(), lineup.read()
    app.ctx.options, app.ctx.models = options, ServedModels(map(load_served_model, models))
    app.ctx.keys, app.ctx.cross_origin = load_keys(options), CrossOrigin(options)
    context_size = max(model.config.context_size for model in app.ctx.models)
    most_bytes = options.max_body_bytes or application.body_limit(context_size)
    application.prepare(app, most_bytes, options.reader_timeout)
    app.ctx.most_values = max(MAX_VALUES, 2 * context_size)
    reload_on_hangup(app, options)
    app.ctx.sign_receipt = load_signer(options.receipt_key)
    app.ctx.browsers = BrowserCheck(app.ctx.cross_origin, options.allow_hosts)
    if hasattr(app, "multiplexer"):
        end_with_parent()
    else:
        start_engines(app)  # --single-process: there is no main process beside this one
    app.ctx.metrics = Metrics()
    app.ctx.engines = {
        model.model_id: EngineClient(
            path,
            app.ctx.metrics,
            model.model_id,
            load_wait=options.load_wait,
            take_adapters=partial(app.ctx.models.set_adapters, model.model_id),
            request_timeout=options.request_timeout,
            engine_timeout=options.engine_timeout,
            take_facts=partial(app.ctx.models.take_facts, model),
        )
        for model, path in zip(models, sockets(models), strict=True)
    }
    app.ctx.is_stopping = False
    # Sanic cancels its own tasks before answers end.
    app.ctx.readers = [asyncio.create_task(engine.run()) for engine in app.ctx.engines.values()]
    beats = keep_beating(beat_path(Path(os.environ[PLACE]), os.getpid()))
    app.ctx.readers.append(asyncio.create_task(beats))
    gc.collect()
    gc.freeze()  # modules, vocabularies and templates stay: garbage collection skips them from now on


async def begin_stopping(app: Sanic) -> None:
    """Running answers are completed, or end with an error in time; further signals do not cut them."""
    app.ctx.is_stopping = True
    seconds = max(0, app.config.GRACEFUL_SHUTDOWN_TIMEOUT - application.SHUTDOWN_NOTICE_SECONDS)
    for engine in app.ctx.engines.values():
        engine.stop_waiting()
        asyncio.get_running_loop().call_later(seconds, engine.fail_all, "The server is shutting down.")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


async def disconnect(app: Sanic) -> None:
    """Hang up, which lets the engines end; with `--single-process`, see to that as well."""
    for reader in app.ctx.readers:
        reader.cancel()
    await asyncio.gather(*app.ctx.readers, return_exceptions=True)
    if not hasattr(app, "multiplexer"):
        await stop_engines(app)
