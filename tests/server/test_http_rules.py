"""HTTP as RFC 9112 writes it, over bare sockets: what two parsers might read differently is refused, and ends there."""

import pytest

from live_router import COMMAND, Router
from raw_http import connect, read_answer

BODY = b'{"prompt":"Hello"}'
PATH = "/tokenize"
HIDDEN = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"  # a request that a lax parser would find in a body
CHUNKED = "Transfer-Encoding: chunked\r\n"


@pytest.fixture(scope="module", params=["server", "router"])
def target(request, server, tmp_path_factory):
    """A server, and a router in front of it: both have the same rules."""
    if request.param == "server":
        yield server
        return
    log = tmp_path_factory.mktemp("rules") / "router.log"
    router = Router("", log, "--endpoint-urls", server.url, command=COMMAND)
    try:
        yield router.wait_ready()
    finally:
        router.close()


def head(fields: str, line: str = f"POST {PATH} HTTP/1.1", host: str = "Host: x\r\n") -> bytes:
    return f"{line}\r\n{host}Content-Type: application/json\r\n{fields}\r\n".encode("latin-1")


def chunks(*sizes_and_data: bytes) -> bytes:
    return head(CHUNKED) + b"".join(sizes_and_data)


LENGTH = f"Content-Length: {len(BODY)}\r\n"
WHOLE = b"%x\r\n%b\r\n" % (len(BODY), BODY)
REFUSED = {
    "space before the colon": head(f"Content-Length : {len(HIDDEN)}\r\n") + HIDDEN,
    "tab before the colon": head(f"Content-Length\t: {len(HIDDEN)}\r\n") + HIDDEN,
    "space before a name": head(f"X-A: 1\r\n {LENGTH}") + BODY,
    "folded value": head(f"X-A: 1\r\n\t2\r\n{LENGTH}") + BODY,
    "bare CR in a value": head(f"X-A: 1\rX-B: 2\r\n{LENGTH}") + BODY,
    "bare LF in a value": head(f"X-A: 1\nContent-Length: 0\r\n{LENGTH}") + BODY,
    "zero byte in a value": head(f"X-A: 1\0\r\n{LENGTH}") + BODY,
    "CR in a name": head(f"X-A\rX-B: 2\r\n{LENGTH}") + BODY,
    "empty name": head(f": 1\r\n{LENGTH}") + BODY,
    "name with a quote": head(f'X"A: 1\r\n{LENGTH}') + BODY,
    "no Host": head(LENGTH, host="") + BODY,
    "two Hosts": head(LENGTH, host="Host: x\r\nHost: y\r\n") + BODY,
    "Host with a path": head(LENGTH, host="Host: x/y\r\n") + BODY,
    "Host with a user": head(LENGTH, host="Host: a@x\r\n") + BODY,
    "length with a sign": head(f"Content-Length: +{len(BODY)}\r\n") + BODY,
    "length in words": head("Content-Length: banana\r\n") + BODY,
    "length with an underscore": head("Content-Length: 1_8\r\n") + BODY,
    "a list of lengths": head(f"Content-Length: {len(BODY)}, {len(BODY)}\r\n") + BODY,
    "an empty length": head("Content-Length:\r\n") + BODY,
    "a negative length": head("Content-Length: -1\r\n") + BODY,
    "two lengths": head(LENGTH * 2) + BODY,
    "length and chunks": head(LENGTH + CHUNKED) + b"0\r\n\r\n" + HIDDEN,
    "chunks in HTTP/1.0": head(CHUNKED, line=f"POST {PATH} HTTP/1.0") + WHOLE + b"0\r\n\r\n",
    "another coding": head("Transfer-Encoding: gzip, chunked\r\n") + WHOLE + b"0\r\n\r\n",
    "coding with a vertical tab": head("Transfer-Encoding: \x0bchunked\r\n") + WHOLE + b"0\r\n\r\n",
    "size with 0x": chunks(b"0x%x\r\n%b\r\n" % (len(BODY), BODY), b"0\r\n\r\n"),
    "size with a sign": chunks(b"+%x\r\n%b\r\n" % (len(BODY), BODY), b"0\r\n\r\n"),
    "size with an underscore": chunks(b"1_2\r\n%b\r\n" % BODY, b"0\r\n\r\n"),
    "no size": chunks(b"\r\n%b\r\n" % BODY, b"0\r\n\r\n"),
    "size in other digits": chunks("١٢\r\n".encode() + BODY + b"\r\n0\r\n\r\n"),
    "space before a size": chunks(b" %x\r\n%b\r\n" % (len(BODY), BODY), b"0\r\n\r\n"),
    "data without an end": chunks(b"%x\r\n%bXX" % (len(BODY), BODY), b"0\r\n\r\n" + HIDDEN),
    "data longer than its size": chunks(b"2\r\n%b\r\n" % BODY, b"0\r\n\r\n"),
    "size line with a bare LF": chunks(b"%x\n%b\r\n" % (len(BODY), BODY), b"0\r\n\r\n"),
    "an endless size line": chunks(b"1;" + b"a" * 5000),
    "a huge size": chunks(b"f" * 20 + b"\r\n"),
    "a trailer that is none": chunks(WHOLE, b"0\r\nGET /v1/models HTTP/1.1\r\n\r\n"),
    "a trailer with a zero byte": chunks(WHOLE, b"0\r\nX-A: \0\r\n\r\n"),
    "no version": head(LENGTH, line=f"POST {PATH}") + BODY,
    "HTTP/2.0": head(LENGTH, line=f"POST {PATH} HTTP/2.0") + BODY,
    "two spaces in the line": head(LENGTH, line=f"POST  {PATH} HTTP/1.1") + BODY,
    "a tab in the line": head(LENGTH, line=f"POST\t{PATH} HTTP/1.1") + BODY,
    "a method that is no token": head(LENGTH, line=f"PO(ST {PATH} HTTP/1.1") + BODY,
    "a control character in the path": head(LENGTH, line=f"POST {PATH}\x01 HTTP/1.1") + BODY,
    "a fat path": head(LENGTH, line="POST /tökenize HTTP/1.1") + BODY,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_http_is_refused_and_ends_the_connection(target, name):
    with connect(target) as sock, sock.makefile("rb") as file:
        sock.sendall(REFUSED[name])
        answer = read_answer(file)
        assert (answer.status, answer.headers["connection"]) == (400, "close"), answer.body
        assert answer.error["message"]
        assert file.read() == b"", "what follows is no request"


TAKEN = {
    "a plain body": head(LENGTH) + BODY,
    "space around values": head(f"X-A: \t a b \t \r\nContent-Length:{len(BODY)} \r\n") + BODY,
    "no space after a colon": head(f"Content-Length:{len(BODY)}\r\n", host="Host:x\r\n") + BODY,
    "other bytes in a value": head(f"X-A: \xc3\xa9\r\n{LENGTH}") + BODY,
    "an address as Host": head(LENGTH, host="Host: [::1]:8000\r\n") + BODY,
    "HTTP/1.0 without Host": head(LENGTH, line=f"POST {PATH} HTTP/1.0", host="") + BODY,
    "chunks": chunks(WHOLE, b"0\r\n\r\n"),
    "many chunks": chunks(b"".join(b"1\r\n%c\r\n" % byte for byte in BODY), b"000\r\n\r\n"),
    "upper and lower case": chunks(b"0000012\r\n%b\r\n" % BODY, b"0\r\n\r\n"),
    "extensions": chunks(b'%x;a=b;c="d"\r\n%b\r\n' % (len(BODY), BODY), b"0;end\r\n\r\n"),
    "trailers": chunks(WHOLE, b"0\r\nX-Checksum: abc\r\nX-Other: 1\r\n\r\n"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_http_is_answered_and_the_next_request_too(target, name):
    """Byte by byte and at once; after it the connection serves another request."""
    data = TAKEN[name]
    with connect(target) as sock, sock.makefile("rb") as file:
        sock.sendall(data)
        answer = read_answer(file)
        assert answer.status == 200, answer.body
        if answer.headers["connection"] == "close":
            return
        for at in range(len(data)):
            sock.sendall(data[at : at + 1])
        sock.sendall(HIDDEN)
        assert [read_answer(file).status for _ in range(2)] == [200, 200]


@pytest.mark.parametrize("path", ["/", "/health", "/v1/models", "/docs", "/openapi.json", "/metrics"])
def test_head_is_get_without_a_body(server, path):
    with connect(server) as sock, sock.makefile("rb") as file:
        for method in ("HEAD", "GET"):
            sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        status, length = file.readline(), None
        while line := file.readline().strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        whole = read_answer(file)
        assert b" 200 " in status and whole.status == 200
        assert length == len(whole.body) or path == "/metrics", "whose numbers grow"


def test_a_router_passes_head_on(server, tmp_path):
    router = Router("", tmp_path / "router.log", "--endpoint-urls", server.url, command=COMMAND)
    try:
        router.wait_ready()
        head_, get = router.http.head("/docs"), router.http.get("/docs")
        assert (head_.status_code, head_.headers["content-length"]) == (200, str(len(get.content)))
    finally:
        router.close()


def test_a_body_that_will_be_refused_need_not_be_sent(server):
    """Instead of `100 Continue` comes the answer."""
    with connect(server) as sock, sock.makefile("rb") as file:
        sock.sendall(head("Content-Length: 999999999\r\nExpect: 100-continue\r\n"))
        answer = read_answer(file)
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert "--max-body-bytes" in answer.error["message"]
    with connect(server) as sock, sock.makefile("rb") as file:
        sock.sendall(head(f"{LENGTH}Expect: 100-continue\r\n"))
        assert file.readline() == b"HTTP/1.1 100 Continue\r\n" and file.readline() == b"\r\n"
        sock.sendall(BODY)
        assert read_answer(file).status == 200
