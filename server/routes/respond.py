"""How every API answers: read the body off the loop if it is long, run the engine, stream or return the whole."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

from sanic import HTTPResponse, Request, json

from verbatim.reference.records.errors import ContextLengthError, RequestError
from verbatim.reference.records.request import Output
from verbatim.reference.records.request import Request as EngineRequest
from verbatim.server.api import receipts
from verbatim.server.api.adapter import Adapter
from verbatim.server.api.builder import Builder
from verbatim.server.api.policy import reading
from verbatim.server.engine.client import EngineClient
from verbatim.server.errors import ModelNotFoundError
from verbatim.server.http import application, journal, sse
from verbatim.server.http.json_body import parse_json
from verbatim.server.http.key_file import Key
from verbatim.server.http.keys import owner_of
from verbatim.server.http.owner import owned_by
from verbatim.server.models.served import ServedModel, ServedModels
from verbatim.server.settings.options import Options

LONG_BODY_BYTES = 16 << 10
CURL_PREFIX = "/api/"
T = TypeVar("T")


async def respond(request: Request, adapter: Adapter) -> HTTPResponse | None:
    """Answer one POST."""
    model, builder = await read_body(request, partial(_read, request, adapter))
    adapter.check_model(model)
    engine = request.app.ctx.engines[model.engine_id]
    batches = _batches(engine, builder, request.app.ctx.options, model.adapter, request.ctx.key)
    with answering(request, adapter.prompt_field):
        if builder.streaming.is_stream:
            await sse.stream(request, _events(engine, builder, batches), adapter, builder.fail)
            return None
        async with aclosing(batches):
            async for outputs in batches:
                for output in outputs:
                    builder.take(output)
        return json(builder.whole())


def _read(request: Request, adapter: Adapter, body: object, model: ServedModel) -> Builder:
    """The builder of an answer, with a receipt where the body or a header requires one."""
    builder = adapter.read(body, model)
    wish = builder.wants_receipt or receipts.wanted(request.headers)
    if not wish or not adapter.makes_text:
        return builder
    sign = request.app.ctx.sign_receipt
    return receipts.ReceiptBuilder(builder, body, model, has_body=wish == receipts.FULL, sign=sign)


@contextmanager
def answering(request: Request, prompt_field: str) -> Iterator[None]:
    """Around the work on a request that has been read; if the prompt is too long, `prompt_field` is at fault."""
    try:
        yield
    except ContextLengthError as error:
        raise ContextLengthError(str(error), field=prompt_field) from None
    except asyncio.CancelledError:
        journal.write(request, journal.CLIENT_LEFT)
        raise
    finally:
        if request.app.ctx.is_stopping:
            application.close_after(request)


async def read_body(request: Request, read: Callable[[object, ServedModel], T]) -> tuple[ServedModel, T]:
    """The model that a JSON body names, and what `read` makes of the body; a long one is read on a thread.

    A name that is not known may be that of an adapter which the engine has loaded since, or is just loading.
    """
    options = request.app.ctx.options
    try:
        return await _read_body(request, read)
    except ModelNotFoundError:
        if not (options.lora or options.enable_debug):
            raise
    for engine in request.app.ctx.engines.values():
        await engine.wait_loaded()
        await engine.stats()  # what it has told before has come, too
    return await _read_body(request, read)


async def _read_body(request: Request, read: Callable[[object, ServedModel], T]) -> tuple[ServedModel, T]:
    application.notice_leaving(request)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not _is_from_curl(request, media_type):
        raise RequestError("The Content-Type must be application/json.", code="unsupported_content_type")
    models: ServedModels = request.app.ctx.models

    def read_all() -> tuple[ServedModel, T]:
        body = parse_json(request.body, request.app.ctx.most_values)
        model = models.of(body)
        return model, read(body, model)

    policy, is_single = request.app.ctx.options.unknown_fields, len(models) == 1
    with owned_by(owner_of(request)), reading(policy, is_model_optional=is_single) as under_way:
        made = read_all() if len(request.body) < LONG_BODY_BYTES else await application.beside(request, read_all)
    request.ctx.ignored = under_way.names()
    return made


def _is_from_curl(request: Request, media_type: str) -> bool:
    """Ollama's documents send JSON with curl's own type. Web pages, whose requests name their origin, may not."""
    is_form = media_type == "application/x-www-form-urlencoded" and "origin" not in request.headers
    return is_form and request.path.startswith(CURL_PREFIX)


def _batches(
    engine: EngineClient, builder: Builder, options: Options, adapter: str, key: Key | None
) -> AsyncGenerator[Sequence[Output]]:
    """The outputs of all requests; no generator around those of the engine in the usual case, as it costs 3%.

    Requests of one key share no cached beginning with those of another: its length would tell what others have sent.
    """
    waves = list(builder.waves(options.max_queue))
    if adapter:
        waves = [[replace(each, adapter=adapter) for each in wave] for wave in waves]
    if key:
        apart = "" if options.share_prefix_cache else f"{key.owner} "
        waves = [
            [replace(each, owner=key.owner, cache_salt=apart + each.cache_salt) for each in wave] for wave in waves
        ]
    if builder.known_outputs or len(waves) != 1:
        return _in_waves(engine, waves, builder.known_outputs, key)
    return engine.batches(waves[0], key)


async def _in_waves(
    engine: EngineClient, waves: list[Sequence[EngineRequest]], known: Sequence[Output], key: Key | None
) -> AsyncGenerator[Sequence[Output]]:
    if known:
        yield known
        return
    for wave in waves:
        async with aclosing(engine.batches(wave, key)) as batches:
            async for outputs in batches:
                yield outputs


async def _events(
    engine: EngineClient, builder: Builder, batches: AsyncGenerator[Sequence[Output]]
) -> AsyncGenerator[Iterable[dict]]:
    async with aclosing(batches):
        async for outputs in batches:
            yield (event for output in outputs for event in builder.take(output))
    if last := builder.last(await engine.stats() if builder.wants_metrics else None):
        yield last
