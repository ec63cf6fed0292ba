"""How both endpoints answer: read the body off the loop if it is long, run the engine, stream or return the whole."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from sanic import HTTPResponse, Request, json

from reference.errors import ContextLengthError, RequestError
from reference.request import Output
from server import sse
from server.engine_client import EngineClient
from server.protocol.answer import Answer
from server.protocol.fields import parse_json
from server.served import ServedModel

LONG_BODY_BYTES = 64 << 10


async def respond(
    request: Request, read: Callable[[object, ServedModel], Answer], prompt_field: str
) -> HTTPResponse | None:
    """Answer one POST: `read` makes its body into an Answer; if the prompt is too long, `prompt_field` is at fault."""
    request.transport.resume_reading()  # Sanic pauses at 64 KiB and forgets: a client's leaving would go unseen
    _check_content_type(request)
    answer = await _read(request, read)
    try:
        if answer.is_stream:
            return await sse.stream(request, _chunks(request.app.ctx.engine, answer))
        async with aclosing(_outputs(request.app.ctx.engine, answer)) as outputs:
            async for output in outputs:
                answer.take(output)
        return json(answer.whole())
    except ContextLengthError as error:
        raise ContextLengthError(str(error), field=prompt_field) from None
    finally:
        if request.app.ctx.is_stopping:
            request.stream.keep_alive = False  # an idle connection would hold up the end of the server


def _check_content_type(request: Request) -> None:
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestError("The Content-Type must be application/json.", code="unsupported_content_type")


async def _read(request: Request, read: Callable) -> Answer:
    model = request.app.ctx.model
    if len(request.body) < LONG_BODY_BYTES:
        return read(parse_json(request.body), model)
    return await asyncio.to_thread(lambda: read(parse_json(request.body), model))


def _outputs(engine: EngineClient, answer: Answer) -> AsyncGenerator[Output]:
    return _replay(answer.known_outputs) if answer.known_outputs else engine.generate(answer.requests)


async def _replay(outputs: list[Output]) -> AsyncGenerator[Output]:
    for output in outputs:
        yield output


async def _chunks(engine: EngineClient, answer: Answer) -> AsyncGenerator[dict]:
    async with aclosing(_outputs(engine, answer)) as outputs:
        async for output in outputs:
            for chunk in answer.take(output):
                yield chunk
    if answer.wants_usage:
        yield answer.usage_chunk()
