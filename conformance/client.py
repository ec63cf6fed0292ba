"""Sends a request and keeps the raw answer: no retries, no redirects, no decoding.

A server may hang, crash, send slowly, send a gigabyte or not speak HTTP. A timer per request bounds all of
that; every such end is written into the exchange as `trouble` and never raised.
"""

import http.client
import json
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from verbatim.conformance.exchange import Exchange

READ_BYTES = 1 << 16
LEFT = "the suite left"


@dataclass(frozen=True)
class Settings:
    """Where to send requests, and the bounds that hold for each."""

    base_url: str
    model: str
    api_key: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    timeout: float = 60.0
    max_bytes: int = 16 << 20
    max_tokens_field: str = "max_tokens"
    embedding_model: str | None = None
    auth_required: bool = False


@dataclass(frozen=True)
class Reading:
    """How the client reads: it may disconnect after some bytes, or stop reading for a while after the first."""

    leave_after: int | None = None
    pause: float = 0.0
    timeout: float | None = None


class Client:
    """Sends to one endpoint. Safe to use from many threads: every exchange has its own connection unless given one."""

    def __init__(self, settings: Settings):
        self.settings = settings
        parts = urlsplit(settings.base_url)
        self._host, self._path = parts.netloc, parts.path.rstrip("/")
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection

    def connect(self) -> http.client.HTTPConnection:
        """A separate connection for several exchanges, one after the other."""
        return self._kind(self._host, timeout=self.settings.timeout)

    def headers(self, extra: dict[str, str | None]) -> dict[str, str]:
        """The headers of every request; a header of None is left out."""
        key = {"Authorization": f"Bearer {self.settings.api_key}"} if self.settings.api_key else {}
        merged = {"Accept": "application/json", **key, **self.settings.headers, **extra}
        return {name: value for name, value in merged.items() if value is not None}

    def send(self, method, path, body=None, *, headers=None, reading=Reading(), connection=None, chunked=False):
        """Send a request. `body` is bytes, or a value that is sent as JSON, or None."""
        extra = dict(headers or {})
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        if body is not None:
            extra = {"Content-Type": "application/json"} | extra
        sent = self.headers(extra)
        public = {
            name: value.replace(self.settings.api_key or "\0", "$OPENAI_API_KEY")
            for name, value in sent.items()
            if name not in self.settings.headers
        }
        exchange = Exchange(method, path, public, data)
        mine = connection or self.connect()
        timer = _Watch(mine, reading.timeout or self.settings.timeout)
        start = time.monotonic()
        try:
            payload = iter([data[: len(data) // 2], data[len(data) // 2 :]]) if chunked else data or None
            mine.request(method, self._path + path, payload, sent, encode_chunked=chunked)
            timer.socket = mine.sock
            response = mine.getresponse()
            exchange.status, exchange.headers = response.status, [list(pair) for pair in response.getheaders()]
            self._read(response, exchange, reading, start)
        except TimeoutError:
            timer.has_fired = True
        except http.client.HTTPException as error:
            exchange.trouble = f"not a complete HTTP answer: {type(error).__name__} {str(error)[:100]}".strip()
        except (
            OSError,
            ValueError,
            AttributeError,
        ) as error:  # AttributeError: http.client on a socket that the timer shut
            exchange.trouble = f"the connection failed: {type(error).__name__}: {error}"
        finally:
            timer.cancel()
            exchange.seconds = time.monotonic() - start
            if timer.has_fired:
                exchange.trouble = f"no complete answer within {timer.seconds:g} seconds"
            if connection is None or exchange.trouble:
                mine.close()
        return exchange

    def _read(self, response, exchange: Exchange, reading: Reading, start: float) -> None:
        parts, size = [], 0
        try:
            while data := response.read1(READ_BYTES):
                parts.append(data)
                size += len(data)
                exchange.arrivals.append([round(time.monotonic() - start, 6), size])
                if reading.leave_after is not None and size >= reading.leave_after:
                    exchange.trouble = LEFT
                    return
                if size > self.settings.max_bytes:
                    exchange.trouble = f"more than {self.settings.max_bytes} bytes came; the suite stopped reading"
                    return
                if reading.pause and len(parts) == 1:
                    time.sleep(reading.pause)
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
        finally:
            exchange.body = b"".join(parts)
            response.close()  # the connection itself remains open for the next


class _Watch:
    """Shuts a connection down when the time is up; a blocked read then ends."""

    def __init__(self, connection, seconds: float):
        self.connection, self.seconds, self.has_fired = connection, seconds, False
        self.socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._fire)
        self._timer.daemon = True
        self._timer.start()
        self.cancel = self._timer.cancel

    def _fire(self) -> None:
        self.has_fired = True
        with suppress(OSError, AttributeError):
            (self.socket or self.connection.sock).shutdown(socket.SHUT_RDWR)
