"""Reads many streams at once over bare sockets, with little parsing, so that it costs less than a server."""

import json
import re
import selectors
import socket
import time
from dataclasses import dataclass, field

END = b"0\r\n\r\n"  # of a chunked body
SENT_AT = re.compile(rb'"content":" (\d+)"')
TIMEOUT_SECONDS = 120


@dataclass(slots=True, kw_only=True)
class Load:
    """The result of a round: its seconds, its number of events, and each event's age."""

    seconds: float = 0.0
    num_events: int = 0
    ages: list[float] = field(default_factory=list)


def request(num_tokens: int) -> bytes:
    """A streamed chat of so many tokens, as bytes on the line."""
    body = {"model": "verbatim-demo", "messages": [{"role": "user", "content": "Hello"}]}
    data = json.dumps(body | {"stream": True, "max_tokens": num_tokens, "ignore_eos": True}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def load(port: int, num_streams: int, num_tokens: int) -> Load:
    """Open `num_streams` connections, send a request on each, read all to the end. RuntimeError for another end."""
    result, data = Load(), request(num_tokens)
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(num_streams)]
    tails = dict.fromkeys(sockets, b"")
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
        started = time.perf_counter()
        for sock in sockets:
            sock.sendall(data)
        while selector.get_map():
            if time.perf_counter() - started > TIMEOUT_SECONDS:
                raise RuntimeError(f"{len(selector.get_map())} streams did not end in {TIMEOUT_SECONDS} s")
            for key, _ in selector.select(1):
                tails[key.fileobj] = _take(key.fileobj, tails[key.fileobj], result)
                if tails[key.fileobj].endswith(END):
                    selector.unregister(key.fileobj)
        result.seconds = time.perf_counter() - started
    for sock in sockets:
        sock.close()
    return result


def _take(sock: socket.socket, tail: bytes, result: Load) -> bytes:
    """Count complete events; returns the incomplete rest."""
    received = sock.recv(1 << 18)
    if not received:
        raise RuntimeError(f"a stream broke off after {tail[-200:]!r}")
    whole, separator, rest = (tail + received).rpartition(b"\n\n")
    if separator:
        now = time.monotonic_ns()
        result.num_events += whole.count(b"\n\n") + 1
        result.ages += [(now - int(sent)) / 1e9 for sent in SENT_AT.findall(whole)]
    return rest
