"""How both endpoints answer: read the body off the loop if it is long, run the engine, stream or return the whole."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from typing import TypeVar

from sanic import HTTPResponse, Request, json

from verbatim.reference.records.errors import ContextLengthError, RequestError, UnsupportedError
from verbatim.reference.records.request import Output
from verbatim.server.api.answer import Answer
from verbatim.server.api.fields import parse_json
from verbatim.server.api.response_events import ResponseAnswer
from verbatim.server.engine.client import EngineClient
from verbatim.server.http import journal, sse
from verbatim.server.models.served import ServedModel, ServedModels

LONG_BODY_BYTES = 64 << 10
T = TypeVar("T")


async def respond(
    request: Request, read: Callable[[object, ServedModel], Answer], prompt_field: str
) -> HTTPResponse | None:
    """Answer one POST: `read` makes its body into an Answer; if the prompt is too long, `prompt_field` is at fault."""
    model, answer = await read_body(request, read)
    if model.is_for_embeddings:
        message = f"The model {model.model_id!r} is here for /v1/embeddings alone"
        raise UnsupportedError(message, field="model")
    engine = request.app.ctx.engines[model.model_id]
    is_response = isinstance(answer, ResponseAnswer)
    style = sse.Style(sse.named_event, answer.fail) if is_response else sse.PLAIN
    with answering(request, prompt_field):
        if answer.streaming.is_stream:
            return await sse.stream(request, _chunks(engine, answer), style)
        async with aclosing(_batches(engine, answer)) as batches:
            async for outputs in batches:
                for output in outputs:
                    answer.take(output)
        return json(answer.whole())


@contextmanager
def answering(request: Request, prompt_field: str) -> Iterator[None]:
    """Around the work on a request that has been read."""
    try:
        yield
    except ContextLengthError as error:
        raise ContextLengthError(str(error), field=prompt_field) from None
    except asyncio.CancelledError:
        journal.write(request, journal.CLIENT_LEFT)
        raise
    finally:
        if request.app.ctx.is_stopping:
            request.stream.keep_alive = False  # an idle connection would hold up the end of the server


async def read_body(request: Request, read: Callable[[object, ServedModel], T]) -> tuple[ServedModel, T]:
    """The model that a JSON body names, and what `read` makes of the body; a long one is read on a thread."""
    request.transport.resume_reading()  # Sanic pauses at 64 KiB and forgets: a client's leaving would go unseen
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestError("The Content-Type must be application/json.", code="unsupported_content_type")
    models: ServedModels = request.app.ctx.models

    def read_all():
        body = parse_json(request.body)
        model = models.of(body)
        return model, read(body, model)

    return read_all() if len(request.body) < LONG_BODY_BYTES else await asyncio.to_thread(read_all)


def _batches(engine: EngineClient, answer: Answer) -> AsyncGenerator[list[Output]]:
    return _replay(answer.known_outputs) if answer.known_outputs else engine.batches(answer.requests)


async def _replay(outputs: list[Output]) -> AsyncGenerator[list[Output]]:
    yield outputs


async def _chunks(engine: EngineClient, answer: Answer) -> AsyncGenerator[Iterable[dict]]:
    if answer.wants_metrics:
        yield [answer.usage_chunk(await engine.stats())]
        return
    async with aclosing(_batches(engine, answer)) as batches:
        async for outputs in batches:
            yield (chunk for output in outputs for chunk in answer.take(output))
    if answer.streaming.wants_usage:
        yield [answer.usage_chunk()]
