"""Crowds, and clients that misbehave: each gets a defined answer, nothing hangs, and nobody else's stream changes.

A witness asks for the same seeded stream again and again beside every abuse; each must equal, log-probabilities
included, what it was before the abuse began.
"""

import asyncio
import os
import random
import signal
import socket
import threading
from contextlib import contextmanager, suppress

import pytest

from live_server import running, wait_until
from raw_http import TIMEOUT_SECONDS, ask, chat, connect, post, read_answer, reset

LIMITS = ("--max-num-sequence", "32", "--max-total-seq-length", "32768", "--max-queue", "1024", "--enable-debug")
WITNESS = {"temperature": 1, "seed": 7, "max_tokens": 100, "logprobs": True, "top_logprobs": 3, "stream": True}
REQUEST_SECONDS = 2  # without a byte in the middle of a request


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server for all of them: what an abuse leaves behind, the next one meets."""
    directory = tmp_path_factory.mktemp("abuse")
    with running("fastpath", directory, *LIMITS, SANIC_REQUEST_TIMEOUT=str(REQUEST_SECONDS)) as server:
        yield server.wait_ready()


def witness(server) -> list:
    answer = ask(server, chat(content="Tell me of rivers", **WITNESS))
    assert answer.status == 200
    return answer.events


@pytest.fixture(scope="module")
def alone(server):
    events = witness(server)
    assert events[-1] == "[DONE]" and len(events) > 50
    return events


@contextmanager
def witnessed(server, alone):
    """Around an abuse: the witness says the same as ever, and afterwards every page is back in its place."""
    engine, is_over, seen = server.engine_pid(), threading.Event(), []

    def watch():
        while not is_over.is_set():
            seen.append(witness(server))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(TIMEOUT_SECONDS)
    assert not thread.is_alive()
    assert seen and all(events == alone for events in seen)
    check_clean(server)
    assert server.engine_pid() == engine, "an invariant that does not hold ends the engine"


def check_clean(server):
    """Nothing runs, nothing waits, no page is in use; resetting runs the engine's own check()."""
    counts = ("running", "waiting", "used_pages")
    wait_until(lambda: not any(server.health()[name] for name in counts), message="something is left")
    assert server.http.post("/debug/reset_engine", json={}).status_code == 200
    assert {name: server.health()[name] for name in (*counts, "cached_pages")} == dict.fromkeys(
        (*counts, "cached_pages"), 0
    )


async def visit(port: int, generator: random.Random) -> str:
    """One client of a crowd: it stays, closes or resets after some bytes; says how it ended."""
    leaves_after = generator.choice([None, 0, 1, generator.randrange(200, 4000), generator.randrange(4000, 12000)])
    data = chat(content=generator.choice("abcde") * 9, stream=True, max_tokens=generator.randrange(1, 40))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        writer.write(data)
        while leaves_after is None or len(received) < leaves_after:
            part = await reader.read(leaves_after or 1 << 16)
            received += part
            if not part or received.endswith(b"0\r\n\r\n"):
                is_whole = received.startswith(b"HTTP/1.1 200") and b"data: [DONE]" in received
                return "whole" if is_whole else repr(received[-300:])
        if generator.random() < 0.5:
            writer.transport.abort()
        return "left"
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def crowd(server, count: int) -> None:
    async def everybody():
        generators = [random.Random(index) for index in range(count)]
        visits = asyncio.gather(*(visit(server.port, generator) for generator in generators))
        return await asyncio.wait_for(visits, TIMEOUT_SECONDS)

    ends = asyncio.run(everybody())
    assert set(ends) == {"whole", "left"}, {end for end in ends if end not in ("whole", "left")}
    assert ends.count("whole") > count / 5 and ends.count("left") > count / 3


def test_a_crowd_of_whom_many_leave(server, alone):
    with witnessed(server, alone):
        crowd(server, 500)


def test_slow_readers_get_everything_and_hold_up_nobody(server, alone):
    """One reads in drops, one late, one never; what they are not sent yet holds no page of the engine."""
    body = {"max_tokens": 400, "logprobs": True, "top_logprobs": 20, "stream": True}  # far more than buffers hold
    expected = ask(server, chat(**body)).events
    with witnessed(server, alone):
        slow, late, never = (connect(server, receive_buffer=size) for size in (16384, 16384, 4096))
        for sock in (slow, late, never):
            sock.sendall(chat(**body))
        with slow.makefile("rb", buffering=512) as file:
            assert read_answer(file).events == expected
        wait_until(lambda: server.health()["used_pages"] <= 16, message="somebody who does not read keeps pages")
        with late.makefile("rb") as file:
            assert read_answer(file).events == expected
        reset(never)


def test_requests_that_stop_half_way(server, alone):
    """Nothing at all, half a head, half a body: an answer in time, or a closed connection where nothing was asked."""
    whole = chat()
    with witnessed(server, alone):
        silent = connect(server)
        halves = {"head": whole[:60], "body": whole[:-10], "no body": whole[: whole.index(b"\r\n\r\n") + 4]}
        socks = [(name, connect(server)) for name in halves for _ in range(5)]
        for name, sock in socks:
            sock.sendall(halves[name])
        for name, sock in socks:
            with sock, sock.makefile("rb") as file:
                answer = read_answer(file)
                assert (answer.status, answer.error["code"]) == (408, "request_timeout"), name
                assert answer.headers["connection"] == "close" and file.read() == b""
        silent.sendall(whole)  # it has asked for nothing yet, so it is an idle connection
        with silent.makefile("rb") as file:
            assert read_answer(file).status == 200


def test_a_slow_body_is_read_to_its_end(server):
    data = chat()
    with connect(server) as sock, sock.makefile("rb") as file:
        for start in range(0, len(data), 60):
            sock.sendall(data[start : start + 60])
            threading.Event().wait(0.4)
        assert read_answer(file).status == 200


def test_half_closed_and_vanished_clients_free_their_pages(server, alone):
    """A client that will send no more counts as gone, as one that resets does: it cannot say otherwise."""
    with witnessed(server, alone):
        socks = [connect(server) for _ in range(20)]
        for sock in socks:
            sock.sendall(chat(stream=True, max_tokens=1500))
            assert sock.recv(15) == b"HTTP/1.1 200 OK"
        for sock in socks[::2]:
            sock.shutdown(socket.SHUT_WR)
        for sock in socks[1::2]:
            reset(sock)


WORDS = b"a " * 2_000_000
CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
HUGE = {  # a body of four megabytes or more: where it goes, what it is, the status and code of its answer
    "a long message": (
        CHAT, b'{"model":"verbatim-demo","messages":[{"role":"user","content":"%b"}]}' % WORDS, 400,
        "context_length_exceeded",
    ),
    "a long prompt": (
        COMPLETION, b'{"model":"verbatim-demo","prompt":"%b"}' % WORDS, 400, "context_length_exceeded",
    ),
    "no JSON": (CHAT, b"a" * 4_000_000, 400, None),
    "deep": (CHAT, b"[" * 4_000_000, 400, "nested_too_deep"),
    "wide": (COMPLETION, b"[" + b"1," * 2_000_000 + b"1]", 400, "too_many_values"),
    "above the limit": (CHAT, b" " * ((4 << 20) + 1), 413, "request_too_large"),
    "far above the limit": (CHAT, b" " * (33 << 20), 413, "request_too_large"),
}  # fmt: skip


def test_huge_bodies(server, alone):
    with witnessed(server, alone):
        for name, (path, body, status, code) in HUGE.items():
            answer = ask(server, post(body, path))
            assert (answer.status, answer.error["code"]) == (status, code), (name, answer.error)
            assert len(answer.body) < 1000, name


HEADS = {  # what is between the request line and the body, and the status of the answer
    "a thousand headers": ("".join(f"X-{i}: 1\r\n" for i in range(1000)), 413),
    "one huge header": (f"X-Long: {'a' * 200_000}\r\n", 413),
    "as many as fit": ("".join(f"X-{i}: 1\r\n" for i in range(400)), 200),
    "two lengths": ("Content-Length: 3\r\n", 400),
    "length and chunks": ("Transfer-Encoding: chunked\r\n", 400),
    "no colon": ("banana\r\n", 400),
    "an unknown expectation": ("Expect: banana\r\n", 417),
}


def test_floods_of_headers(server, alone):
    with witnessed(server, alone):
        for name, (headers, status) in HEADS.items():
            answer = ask(server, post(b'{"prompt":"Hello"}', "/tokenize", headers=headers))
            assert answer.status == status, (name, answer.body)
            assert status == 200 or answer.error["message"], name
        with suppress(ConnectionError):  # a head of megabytes may be cut off before its answer can be read
            assert ask(server, b"GET / HTTP/1.1\r\nX-Long: " + b"a" * 3_000_000).status == 413
        for junk in (b"\r\n" * 5000, b"\0" * 20_000, b"\x16\x03\x01" + bytes(range(256)) * 99, b"GET\r\n\r\n"):
            assert ask(server, junk).status in (400, 413)


def test_pipelined_requests_are_answered_in_order(server, alone):
    questions = [chat(max_tokens=1 + index, stream=index % 3 == 0) for index in range(24)]
    expected = [ask(server, question) for question in questions]
    with witnessed(server, alone), connect(server) as sock, sock.makefile("rb") as file:
        sock.sendall(b"".join(questions) + b"banana\r\n\r\n")
        for before in expected:
            answer = read_answer(file)
            assert answer.status == before.status == 200
            if answer.headers["content-type"].startswith("text/event-stream"):
                assert answer.events == before.events and answer.events[-1] == "[DONE]"
            else:
                assert strip(answer.body) == strip(before.body)
        assert read_answer(file).status == 400
        assert file.read() == b""


def strip(body: bytes) -> bytes:
    """Without id and time, which come before the model's name; cached tokens differ once it has been asked."""
    return body.partition(b'"choices":')[2].partition(b'"usage":')[0]


def test_killing_the_engine_in_mid_stream(server, alone):
    """Running streams end with an error event and waiting ones with 503; what was said is a part of the right thing."""
    streams, others = ([connect(server) for _ in range(30)] for _ in range(2))
    for sock in streams:
        sock.sendall(chat(content="Tell me of rivers", **WITNESS | {"max_tokens": 1500}))
    for sock in streams:
        assert sock.recv(4, socket.MSG_PEEK) == b"HTTP"
    for sock in others:
        sock.sendall(chat(max_tokens=1500))
    os.kill(server.engine_pid(), signal.SIGKILL)
    for sock in streams:
        with sock, sock.makefile("rb") as file:
            answer = read_answer(file)
        *said, error = answer.events
        count = min(len(said), len(alone) - 2)  # the last two say that it has ended
        assert answer.status == 200 and error["code"] == "engine_unavailable"
        assert count and said[:count] == alone[:count]
    for sock in others:
        with sock, sock.makefile("rb") as file:
            answer = read_answer(file)
        assert (answer.status, answer.error["code"]) == (503, "engine_unavailable")
        assert answer.headers["retry-after"]
    wait_until(server.is_ready)
    assert witness(server) == alone
    check_clean(server)
