"""What the server's and the router's Sanic applications have in common: their configuration and time limits."""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

from sanic import Request, Sanic
from sanic.exceptions import PayloadTooLarge

GET = ("GET", "HEAD")  # the methods of a page; of HEAD no body is sent
READER_SECONDS = 120.0
READERS = 2  # threads for long bodies: with few of them, streams get their turn soon
SWITCH_SECONDS = 0.001  # after so long a thread lets streams go first, if they want to
LEAST_BODY_BYTES = 4 << 20
BYTES_PER_TOKEN = 64  # of a body: texts take far fewer, even with every character escaped
T = TypeVar("T")
SHUTDOWN_NOTICE_SECONDS = 2  # before time is up, answers that still run end with an error that tells it
CONFIGURATION: dict[str, str | bool | int | float | None] = {  # environment variables named SANIC_... override it
    "AUTO_EXTEND": False,
    "MOTD": False,
    "FALLBACK_ERROR_FORMAT": "json",
    "GRACEFUL_SHUTDOWN_TIMEOUT": 60.0,  # seconds that running answers have to end after SIGTERM
    "KEEP_ALIVE_TIMEOUT": 120,
    "REQUEST_MAX_SIZE": 32 << 20,
    "RESPONSE_TIMEOUT": 3600,  # without a byte; a long prompt on a slow engine has no token for long
}


def body_limit(context_size: int) -> int:
    """How many bytes a request may have that makes use of a whole context of so many tokens."""
    return max(LEAST_BODY_BYTES, BYTES_PER_TOKEN * context_size)


def prepare(app: Sanic, most_bytes: int, reader_timeout: float = READER_SECONDS) -> None:
    """Once in a worker: the limit of bodies, threads for long ones, and how long a client may read nothing."""
    app.ctx.reader_timeout = reader_timeout
    app.config.REQUEST_MAX_SIZE = most_bytes
    app.ctx.body_readers = ThreadPoolExecutor(READERS, "body")
    sys.setswitchinterval(SWITCH_SECONDS)


async def beside(request: Request, work: Callable[[], T]) -> T:
    """The result of work that takes long, done beside the streams."""
    loop, context = asyncio.get_running_loop(), copy_context()
    return await loop.run_in_executor(request.app.ctx.body_readers, context.run, work)


def refuse_long(request: Request) -> None:
    """Before anything of a body has been read: PayloadTooLarge if its length is known to be too much."""
    stream: Any = request.stream
    if stream.request_body is True and stream.request_bytes > request.app.config.REQUEST_MAX_SIZE:
        if stream.expecting_continue:  # the client waits for our word and will send nothing
            stream.expecting_continue, stream.request_body, stream.keep_alive = False, None, False
        raise PayloadTooLarge(too_long(request))


def too_long(request: Request) -> str:
    """What is wrong with a body that is too long."""
    return f"The body must have at most {request.app.config.REQUEST_MAX_SIZE} bytes (--max-body-bytes)."


async def limit_reading(request: Request) -> None:
    """The time that a client has to send its body."""
    _limit(request, request.app.config.REQUEST_TIMEOUT)


async def limit_answering(request: Request) -> None:
    """The body has been read: the time that we have to answer."""
    _limit(request, request.app.config.RESPONSE_TIMEOUT)


def _limit(request: Request, seconds: float) -> None:
    protocol: Any = request.protocol
    protocol.response_timeout = seconds


def notice_leaving(request: Request) -> None:
    """Sanic stops reading at 64 KiB and never resumes: a client's leaving would go unnoticed."""
    transport: Any = request.transport
    transport.resume_reading()


def close_after(request: Request) -> None:
    """Close the connection after the answer: an idle one would delay the end of the process."""
    stream: Any = request.stream
    stream.keep_alive = False
