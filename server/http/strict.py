"""HTTP/1 as RFC 9112 writes it, where Sanic's parser takes more: what two parsers read differently is refused.

A head is held to the grammar before its body is read, and its connection is closed if it does not fit. Chunks must have
plain hexadecimal sizes and end where they say; trailers are read and dropped. Anything else would let somebody behind a
proxy hide a request in another one's body.
"""

import re
from typing import Any, NoReturn

from sanic import Request
from sanic.exceptions import BadRequest
from sanic.http import Http
from sanic.server.protocols.http_protocol import HttpProtocol

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
LINE = re.compile(rb"(?:%b) [\x21-\x7e]+ HTTP/1\.[01]" % TOKEN)
FIELD = re.compile(rb"(%b):[ \t]*([^\0\r\n]*)" % TOKEN)
HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~%!$&'()*+,;=-]*)(?::[0-9]{0,5})?[ \t]*")
LENGTH = re.compile(rb"[0-9]{1,15}[ \t]*")
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\0\r\n]*)?")
TARGET = re.compile(r"/[\x21-\x7e]*")
MAX_SIZE_LINE = 256
MAX_TRAILER_BYTES = 8 << 10


async def check_head(request: Request) -> None:
    """Refuse a head that is not exactly HTTP, or that leaves open where its body ends."""
    line, *fields = request.head.split(b"\r\n")
    if not LINE.fullmatch(line):
        raise BadRequest("The request line is no HTTP/1.1.")
    hosts = lengths = codings = 0
    for field in fields:
        found = FIELD.fullmatch(field)
        if not found:
            raise BadRequest("A header is not written as NAME: VALUE, or holds a line break or a zero byte.")
        name, value = found[1].lower(), found[2]
        if name == b"host":
            hosts += 1
            _require(HOST.fullmatch(value), "The header Host is no host name.")
        elif name == b"content-length":
            lengths += 1
            _require(LENGTH.fullmatch(value), "The header Content-Length must be a number of bytes.")
        elif name == b"transfer-encoding":
            codings += 1
            _require(value.rstrip() == b"chunked", "The only transfer encoding is chunked.")
    _require(hosts == 1 or (hosts == 0 and line.endswith(b"HTTP/1.0")), "A request must have one header Host.")
    _require(lengths + codings <= 1, "A body has either one length, or chunks.")
    _require(not codings or line.endswith(b"HTTP/1.1"), "Chunks need HTTP/1.1.")


def _require(condition: object, message: str) -> None:
    if not condition:
        raise BadRequest(message)


class StrictHttp(Http):
    """Sanic's side of a connection, with chunks as they must be. Slots and names are its own."""

    request_body: Any  # True, "chunked", or None
    request_bytes: Any  # a number once there is a head

    def create_empty_request(self) -> None:
        """Called for an error in a head; a URL that cannot be read must not be another error."""
        if self.url and not TARGET.fullmatch(self.url):
            self.url = None
        super().create_empty_request()

    async def read(self) -> bytes | None:
        """The next bytes of the body, None at its end."""
        if self.request_body != "chunked" or self.request_bytes_left:
            return await super().read()
        if self.expecting_continue:
            self.expecting_continue = False
            await self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if await self._chunk_size():
            return await super().read()
        await self._drop_trailers()
        self.request_body = None
        return None

    async def _chunk_size(self) -> int:
        """Take the line with the size of the next chunk, and what ends the one before it, off the buffer."""
        line = await self._line(2, MAX_SIZE_LINE)
        found = CHUNK_SIZE.fullmatch(line)
        if not found or self.recv_buffer[:2] != b"\r\n":
            self._refuse()
        size = int(found[1], 16)
        del self.recv_buffer[: 2 + len(line) + 2]
        self.request_bytes_left = size
        self.request_bytes += size
        return size

    async def _drop_trailers(self) -> None:
        """Take fields behind the last chunk off the buffer, and the empty line after them."""
        num_bytes = 0
        while line := await self._line(0, MAX_TRAILER_BYTES):
            num_bytes += len(line)
            if num_bytes > MAX_TRAILER_BYTES or not FIELD.fullmatch(line):
                self._refuse()
            del self.recv_buffer[: len(line) + 2]
        del self.recv_buffer[:2]

    async def _line(self, start: int, most: int) -> bytes:
        """The line that begins at `start` of the buffer, without its end; it stays there."""
        buffer: Any = self.recv_buffer
        while (end := buffer.find(b"\r\n", start)) < 0:
            if len(buffer) > start + most:
                self._refuse()
            await self._receive_more()
        return bytes(buffer[start:end])

    def _refuse(self) -> NoReturn:
        self.keep_alive = False
        self.request_body = None
        raise BadRequest("Bad chunked encoding")


def install() -> None:
    """Let Sanic's connections be strict ones, for all its applications in this process."""
    HttpProtocol.HTTP_CLASS = StrictHttp
