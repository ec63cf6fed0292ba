"""What the server's and the router's Sanic applications have in common: their configuration and time limits."""

from typing import Any

from sanic import Request

GET = ("GET", "HEAD")  # the methods of a page; of HEAD no body is sent
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
