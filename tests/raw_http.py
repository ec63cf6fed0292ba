"""HTTP over plain sockets, for what client libraries do not do: partial requests, pipelining, slow or no reading."""

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from live_server import Server, chat_body

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST
TIMEOUT_SECONDS = 60  # for every operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict:
        return json.loads(self.body)["error"]

    @property
    def events(self) -> list:
        """The choices of each event of a stream, or the error, without ids and times."""
        lines = [line.removeprefix("data: ") for line in self.body.decode().split("\n\n") if line.startswith("data: ")]
        values = [line if line == "[DONE]" else json.loads(line) for line in lines]
        return [value if value == "[DONE]" else value.get("error") or value["choices"] for value in values]


def connect(server: Server, receive_buffer: int | None = None) -> socket.socket:
    """A connection; with a small receive buffer the server soon notices that the client does not read."""
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(TIMEOUT_SECONDS)
    sock.connect(("127.0.0.1", server.port))
    return sock


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def post(body: dict | bytes, path: str = "/v1/chat/completions", length: int | None = None, headers: str = "") -> bytes:
    """A POST as bytes; `length` replaces the true Content-Length."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(data) if length is None else length}\r\n\r\n".encode() + data


def chat(**fields) -> bytes:
    """A greedy chat of eight tokens; `fields` replace its fields."""
    return post(chat_body(**fields))


def read_answer(file: BinaryIO) -> Answer:
    """The next answer on a connection; ConnectionError if it breaks off or does not arrive."""
    status_line = file.readline()
    headers = {}
    while line := file.readline().decode().strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    is_chunked = headers.get("transfer-encoding") == "chunked"
    body = b"".join(read_chunks(file)) if is_chunked else _read_plain(file, headers)
    if not status_line.startswith(b"HTTP/1.1 "):
        raise ConnectionError(f"no answer, but {status_line[:100]!r}")
    return Answer(status=int(status_line.split()[1]), headers=headers, body=body)


def ask(server: Server, data: bytes) -> Answer:
    """Send bytes on a new connection and read an answer, which may arrive before all bytes are sent."""
    with connect(server) as sock, sock.makefile("rb") as file:
        with suppress(ConnectionError):
            sock.sendall(data)
        return read_answer(file)


def _read_plain(file: BinaryIO, headers: dict[str, str]) -> bytes:
    size = int(headers.get("content-length", 0))
    body = file.read(size)
    if len(body) < size:
        raise ConnectionError(f"the body broke off after {len(body)} of {size} bytes")
    return body


def read_chunks(file: BinaryIO) -> Iterator[bytes]:
    """The chunks of a body; ConnectionError if it breaks off."""
    chunk = b""
    while line := file.readline().strip():
        size = int(line, 16)
        chunk = file.read(size)
        file.readline()
        if size == 0:
            return
        yield chunk
    raise ConnectionError(f"the stream broke off after {chunk[-200:]!r}")
