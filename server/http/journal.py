"""The log: a line for each event and for each request, as text or as JSON; never a prompt or an answer.

A request's line has its id, which is in the answer's `x-request-id` as well, its path without the query, its status,
its duration, the name of its API key, and the names of fields that had no effect. Keys, prompts and answers are in no
line. Probes, which come every few seconds, have a line only where `--debug` shows everything, as do Sanic's own lines
about its workers.
"""

import json
import logging
import logging.config
import sys
import time
import traceback
from datetime import UTC, datetime
from types import TracebackType

from sanic import Request
from sanic.log import LOGGING_CONFIG_DEFAULTS, error_logger, logger

CLIENT_LEFT = 499  # nobody gets to see this status: there is nobody any more
MAX_ID_LENGTH = 128
PROBES = ("/health", "/ready", "/ping", "/metrics", "/v1/models")
PROBE_ANSWERS = (200, 503)  # the usual ones; another, 401 for example, is worth a line


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON, with the facts that came with it."""

    def format(self, record: logging.LogRecord) -> str:
        """Called by logging."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": when, "level": record.levelname.lower(), "message": record.getMessage().strip()}
        line |= {"logger": record.name, "pid": record.process} | getattr(record, "facts", {})
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def logging_config(log_format: str) -> dict:
    """Sanic's configuration of logging, with our formatter for JSON."""
    defaults = LOGGING_CONFIG_DEFAULTS
    quiet = {"sanic.server": defaults["loggers"]["sanic.server"] | {"level": "WARNING"}}
    config = defaults | {"loggers": defaults["loggers"] | quiet}
    if log_format == "text":
        return config
    ours = {"()": "verbatim.server.http.journal.JsonFormatter"}
    return config | {"formatters": {"generic": ours, "access": ours}}


def request_id(request: Request) -> str:
    """The client's own id as it came (Sanic makes numbers and UUIDs of some), or a new one."""
    return (request.headers.get("x-request-id") or str(request.id))[:MAX_ID_LENGTH]


def ignored(request: Request) -> str:
    """The names of the fields that had no effect on the answer, as the header has them; "" for none."""
    return getattr(request.ctx, "ignored", "")


def begin(request: Request) -> None:
    """Note when a request came."""
    request.ctx.came = time.monotonic()


def write(request: Request, status: int) -> None:
    """The line of a request that has been answered, or given up."""
    came = getattr(request.ctx, "came", None)
    facts = {
        "request_id": _printable(request_id(request)),
        "method": request.method,
        "path": _printable(request.path),
        "status": status,
        "seconds": round(time.monotonic() - came, 6) if came else None,
    }
    if key := getattr(request.ctx, "key", None):
        facts["key"] = key.label
    level = logging.DEBUG if request.path in PROBES and status in PROBE_ANSWERS else logging.INFO
    line = "%(method)s %(path)s %(status)s in %(seconds)s s, request %(request_id)s"
    line += ", key %(key)s" if key else ""
    if names := ignored(request):
        facts["ignored"] = names
        line += ", without effect: %(ignored)s"
    logger.log(level, line, facts, extra={"facts": facts})


def _printable(text: str) -> str:
    """What a stranger sent, without control characters and broken bytes."""
    return repr(text)[1:-1]


def log_what_ends_the_process(type_: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The engine's `sys.excepthook` for JSON: where it happened and the error's type, as error_answers.py does it."""
    place = "".join(traceback.format_tb(trace))
    error_logger.error("the engine ends: %s", type_.__name__, extra={"facts": {"trace": place}})


def set_up_engine(log_format: str) -> None:
    """In the engine's process, which is not Sanic's: the same lines."""
    logging.config.dictConfig(logging_config(log_format))
    if log_format == "json":
        sys.excepthook = log_what_ends_the_process
