"""Every error as OpenAI writes it: {"error": {"message", "type", "param", "code"}}, with the status that fits.

Errors that a caller can act on name the remedy; any other failure is a 500 that shows nothing, and the log
gets the place where it happened but never a request's text.
"""

import asyncio
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from sanic import HTTPResponse, json
from sanic.compat import Header
from sanic.exceptions import PayloadTooLarge, RequestTimeout, SanicException, ServiceUnavailable
from sanic.handlers import ErrorHandler
from sanic.log import error_logger

from verbatim.reference.records.errors import QueueFullError, RequestError
from verbatim.server.errors import (
    EngineFailedError,
    EngineStalledError,
    EngineTimeoutError,
    EngineUnavailableError,
    ForbiddenError,
    ModelNotFoundError,
    NotOfferedError,
    ResponseNotFoundError,
    SlowReaderError,
    UnauthorizedError,
)
from verbatim.server.http import application, journal

RETRY_SECONDS = "1"
DISCARDED_BYTES = 64 << 20  # of a body that is too long: who is cut off while still sending never sees the answer
CHALLENGE = "WWW-Authenticate"  # a line for each scheme: browsers read no second one in a line
SANIC_CODES = {404: "unknown_url", 405: "method_not_supported", 408: "request_timeout", 413: "request_too_large"}


def describe(error: BaseException) -> tuple[int, dict, Any]:
    """Status, body and headers for any exception; the headers are a mapping."""
    match error:
        case UnauthorizedError():
            body = _body(error, "invalid_request_error", code="invalid_api_key")
            return 401, body, Header((CHALLENGE, scheme) for scheme in ("Bearer", 'Basic realm="API key as password"'))
        case ForbiddenError():
            return 403, _body(error, "invalid_request_error", code="origin_not_allowed"), {}
        case ModelNotFoundError() | ResponseNotFoundError():
            return 404, _body(error, "invalid_request_error", error.field, error.code), {}
        case RequestError(code="model_not_found"):  # an engine's, of an adapter that it has no longer
            return 404, _body(error, "invalid_request_error", error.field, error.code), {}
        case RequestError():
            return 400, _body(error, "invalid_request_error", error.field, error.code), {}
        case SlowReaderError():
            return 408, _body(error, "invalid_request_error", code="reader_too_slow"), {}
        case NotOfferedError():
            return 501, _body(error, "invalid_request_error", code="not_implemented"), {}
        case QueueFullError():
            return 429, _body(error, "rate_limit_error", code="rate_limit_exceeded"), {"Retry-After": RETRY_SECONDS}
        case EngineStalledError():
            return 503, _body(error, "server_error", code="engine_stalled"), {"Retry-After": RETRY_SECONDS}
        case EngineUnavailableError():
            return 503, _body(error, "server_error", code="engine_unavailable"), {"Retry-After": RETRY_SECONDS}
        case EngineTimeoutError():
            return 504, _body(error, "server_error", code="timeout"), {}
        case EngineFailedError():
            return 500, _body(error, "server_error", code="engine_failed"), {}
        case SanicException() if error.status_code < 500 or error.status_code == 503:
            return _describe_sanic(error)
    return 500, _body("The server failed on this request.", "server_error", code="internal_error"), {}


def _describe_sanic(error: SanicException) -> tuple[int, dict, dict]:
    type_ = "invalid_request_error" if error.status_code < 500 else "server_error"
    headers = dict(getattr(error, "headers", None) or {})
    return error.status_code, _body(error, type_, code=SANIC_CODES.get(error.status_code)), headers


def _body(message: object, type_: str, param: str | None = None, code: str | None = None) -> dict:
    return {"error": {"message": str(message), "type": type_, "param": param, "code": code}}


class OpenAIErrorHandler(ErrorHandler):
    """Sanic's hook for all errors that reach it, those before routing included.

    `shape` takes path, headers and the body as OpenAI writes it, and gives the body in the form of the request's API.
    """

    def __init__(self, shape: Callable[[str, Mapping[str, str], dict], dict]):
        super().__init__()
        self.shape = shape

    def default(self, request: Any, exception: Exception) -> HTTPResponse:
        """The error as JSON; unforeseen ones are logged."""
        if isinstance(exception, ServiceUnavailable) and request.stream.request_body:
            exception = RequestTimeout("The body of the request did not come in time.")
            request.stream.request_body = None  # Sanic would go on waiting for it
        if isinstance(exception, PayloadTooLarge) and request.stream.request_body:
            exception = PayloadTooLarge(application.too_long(request))
            request.stream.request_max_size = request.protocol.request_max_size = DISCARDED_BYTES
        status, body, headers = describe(exception)
        if status == 500 and not isinstance(exception, asyncio.CancelledError):  # that is a client who left
            log(exception)
        if request is not None:
            body = self.shape(request.path, request.headers, body)
        if request is not None and request.id is not None:
            headers["x-request-id"] = journal.request_id(request)
            if "request_id" in body:  # a form that names the request
                body["request_id"] = headers["x-request-id"]
        return json(body, status=status, headers=headers)


def log(error: BaseException) -> None:
    """Where it happened and the error's type; not its message, which may quote a request."""
    place = "".join(traceback.format_tb(error.__traceback__))
    error_logger.error("%s while answering a request:\n%s", type(error).__name__, place)
