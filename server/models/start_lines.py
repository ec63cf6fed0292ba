"""What a person wants to know when the server starts: what serves, with what, where, and a command to try.

In text it is a short block, with `ready` under it once every engine has loaded and a worker accepts requests. With
`--log-format json` both are lines of the log like all others.
"""

import ipaddress
import json
import os
import shlex
import sys
import threading
import time
from collections.abc import Iterable

import psutil
from sanic import Sanic
from sanic.log import logger
from sanic.worker.constants import ProcessState

from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.records.config import ModelConfig
from verbatim.server.engine.backends import Place
from verbatim.server.engine.identity import own_version
from verbatim.server.engine.memory import load_shape
from verbatim.server.http.keys import load_keys
from verbatim.server.models.served import ServedModel, load_served_model
from verbatim.server.settings.options import FALLBACK, Options

GIB = 1 << 30
POLL_SECONDS = 0.05
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # listens at every address: one of them for the links


def show(app: Sanic, lineup: list[Options]) -> None:
    """Print the block, and from a thread of its own `ready` when that is so. `lineup` are the models' options."""
    options, base = lineup[0], address(app)
    write(options, f"verbatim {own_version()}", dict(rows(lineup, base)), warnings(app, options))
    threading.Thread(target=_say_when_ready, args=(app, options), name="ready", daemon=True).start()


def address(app: Sanic) -> str:
    """The URL at which this machine reaches the server; a path of a Unix socket stays one."""
    state = app.state
    if getattr(state, "unix", None) or not state.port:
        return app.serve_location
    host = ANYWHERE.get(state.host, f"[{state.host}]" if ":" in state.host else state.host)
    return f"http{'s' if state.ssl else ''}://{host}:{state.port}"


def rows(lineup: list[Options], base: str) -> Iterable[tuple[str, str]]:
    """Names and texts of the block's lines."""
    options, model, place = lineup[0], load_served_model(lineup[0]), Place.of(lineup[0])
    stored = open_source(options.model).stored_as() or model.config.quantization
    weights = options.quantization or stored or "weights as stored"
    yield "model", f"{options.model_id} ({weights}, cache {options.kv_cache_dtype})"
    for other in lineup[1:]:
        yield f"and {lineup.index(other)}", f"{other.model_id}{' (embeddings only)' * other.is_for_embeddings}"
    if options.lora:
        yield "adapters", ", ".join(options.adapters)
    yield "engine", f"{options.backend} on {place.text}"
    if options.speculative_mode != "disable":
        yield "drafts", options.speculative_mode
    yield "context", f"{model.config.context_size} tokens; {options.max_num_sequence} answers at once"
    if positions := _positions(model.config):
        yield "positions", positions
    yield "cache", _cache(options, place)
    yield "tool calls", _format(options, model)
    if model.thoughts:
        yield "thoughts", f"{model.thoughts.name}: they stand apart from the answer"
    if unread := open_source(options.model).unread():
        yield "unread", f"of config.json, as nothing here knows them: {', '.join(unread)}"
    yield "page", f"{base}/"
    yield "API", f"{base}/v1"
    yield "docs", f"{base}/docs"
    has_key = not load_keys(options).is_empty
    yield "key", "asked for: Authorization: Bearer KEY" if has_key else "none asked for"
    yield "try", example(base, model, has_key)


def _format(options: Options, model: ServedModel) -> str:
    """The format of tool calls, and whether it is an assumption."""
    if model.template is None:
        return "none, as there is no chat template"
    if options.tool_parser or model.dialect.is_shown(model.template.source):
        return model.dialect.name
    return f"{model.dialect.name} is assumed: the chat template shows no known format (--tool-parser names them)"


def _positions(config: ModelConfig) -> str:
    """Which rotary positions the served context has chosen; nothing where a model has only one kind."""
    scalings = [layer.rope.scaling for layer in config.layers if layer.rope and layer.rope.scaling]
    for scaling in scalings:
        if scaling.rope_type == "longrope":
            if scaling.short is None:
                return "longrope, with the factors for short contexts"
            limit = scaling.short.original_context
            return (
                f"longrope, with the factors for long contexts: those for short ones need --context-window-size {limit}"
            )
        if scaling.rope_type == "dynamic":
            size, longest = scaling.context, config.longest_context
            if size > scaling.original_context:
                return f"dynamic, stretched for a context of {size} tokens"
            return f"dynamic, not stretched: --context-window-size may be up to {longest}"
    return ""


def _cache(options: Options, place: Place) -> str:
    """Tokens and bytes of the main model's cache, beside what is free."""
    tokens, sequences, chunk = options.max_total_seq_length, options.max_num_sequence, options.prefill_chunk_size
    assert tokens and sequences and chunk, "`fit_lineup` fills in the sizes"
    needs = place.needs_of(options, load_shape(options), sequences, chunk)
    return f"{tokens} tokens, {tokens * needs.token / GIB:.2f} GiB of {place.free / GIB:.1f} GiB free"


def example(base: str, model: ServedModel, has_key: bool) -> str:
    """A command that gets an answer of the model."""
    path, content = "chat/completions", {"messages": [{"role": "user", "content": "Hello"}]}
    if model.template is None:
        path, content = "completions", {"prompt": "Once upon a time"}  # type: ignore[dict-item]  # another body
    body = shlex.quote(json.dumps({"model": model.model_id} | content, ensure_ascii=False))
    key = " -H 'Authorization: Bearer KEY'" if has_key else ""
    return f"curl {base}/v1/{path}{key} -H 'Content-Type: application/json' -d {body}"


def warnings(app: Sanic, options: Options) -> list[str]:
    """What may be a mistake."""
    found = []
    if reason := os.environ.get(FALLBACK):
        found.append(f"the reference serves, which is slow: {reason}")
    if load_keys(options).is_empty and not is_local(app.state.host):
        text = "anybody who reaches this machine may use the model: set --api-key, or --host 127.0.0.1"
        found.append(f"listens at {app.state.host} and asks for no key: {text}")
    return found


def is_local(host: str | None) -> bool:
    """Whether only this machine can connect to that address; a name is taken for this machine's if it is localhost."""
    try:
        return host is None or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def write(options: Options, title: str, facts: dict[str, str], found: list[str]) -> None:
    """The block, as text or as a line of the log."""
    if options.log_format == "json":
        logger.info("starting", extra={"facts": {"start": facts | {"version": title}, "warnings": found}})
        return
    lines = [("", title), *facts.items(), *(("warning", text) for text in found)]
    width = max(len(name) for name, _ in lines) + 1
    if sys.stdout.isatty():
        from rich.console import Console  # slow to import
        from rich.text import Text

        console = Console(highlight=False, soft_wrap=True)
        for name, text in lines:
            style = "bold red" if name == "warning" else "dim"
            console.print(Text.assemble((f"  {name:<{width}}" if name else "", style), text))
    else:
        print("\n".join(f"  {name:<{width}}{text}" if name else text for name, text in lines), flush=True)


def _say_when_ready(app: Sanic, options: Options) -> None:
    """Wait for all engines and for a worker, then say how long the start took."""
    for supervisor in app.ctx.supervisors:
        while not supervisor.is_loaded.wait(1):
            if not supervisor.is_alive():
                return
    while not _has_worker(app):
        time.sleep(POLL_SECONDS)
    seconds = time.time() - psutil.Process().create_time()
    if options.log_format == "json":
        logger.info("ready after %.1f s", seconds, extra={"facts": {"ready_seconds": round(seconds, 3)}})
    else:
        print(f"ready after {seconds:.1f} s", flush=True)


def _has_worker(app: Sanic) -> bool:
    """Whether an HTTP worker accepts requests; the only process does, where there is one."""
    manager = getattr(app, "_manager", None)
    return manager is None or any(process.state == ProcessState.ACKED for process in manager.transient_processes)
