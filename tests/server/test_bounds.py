"""Bounds before work: bodies, their values and their nesting, and what waits for clients who do not read."""

import asyncio
import gc
import json
import sys
import time
from types import SimpleNamespace

import pytest

from live_server import chat_body, running, wait_until
from raw_http import chat, connect, post
from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.request import Output
from verbatim.server.api.chat.request import ChatAdapter
from verbatim.server.api.completions.request import CompletionAdapter
from verbatim.server.engine.inbox import Inbox, Unread
from verbatim.server.errors import SlowReaderError
from verbatim.server.http import application, json_body
from verbatim.server.http.json_body import MAX_CONTAINERS, MAX_DEPTH, MAX_VALUES, parse_json
from verbatim.server.models.served import load_served_model
from verbatim.server.settings.options import Options

LONGEST_GAP_SECONDS = 0.05


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    limits = ("--reader-timeout", "3", "--max-num-sequence", "32", "--max-total-seq-length", "32768")
    with running("fastpath", tmp_path_factory.mktemp("bounds"), *limits) as server:
        yield server.wait_ready()


@pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH])
@pytest.mark.parametrize("text", ["[]", '{"a":}'])
def test_nesting_is_bounded_and_the_error_says_where(depth, text):
    middle = len(text) - 1
    body = text[:middle] * depth + "1" + text[middle:] * depth
    assert parse_json(body.encode())
    for count in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(RequestError, match=f"at most {MAX_DEPTH} deep") as caught:
            parse_json((text[:middle] * count).encode())
        assert caught.value.code == "nested_too_deep"
    assert parse_json(json.dumps("[" * 1000 + ',"{' * 1000).encode()), "what is in a string does not count"


def test_values_are_counted_before_they_are_made():
    most = 1000
    assert len(parse_json(b"[" + b"1," * (most - 1) + b"1]", most)) == most
    with pytest.raises(RequestError, match="at most 1000 values"):
        parse_json(b"[" + b"1," * most + b"1]", most)
    with pytest.raises(RequestError, match=f"at most {MAX_CONTAINERS} arrays"):
        parse_json(b"[" + b"[]," * MAX_CONTAINERS + b"1]")
    assert parse_json(json.dumps(["a,b" * 10_000, 1]).encode(), most)
    assert parse_json(rb'["\",\"' + rb",\\" * 5000 + b'",1]', most), "escaped quotes do not end a string"
    with pytest.raises(RequestError, match="valid JSON"):
        parse_json(b'"' + rb"\"," * 100_000, most)  # never ends


@pytest.mark.parametrize(
    "body",
    [
        b"[1e999]",
        b"[" + b"9" * 30 + b"]",
        b'["\\u00e9"]',
        b'{"a":1,"a":2}',
        '["é€😀"]'.encode(),
        b"[1.0, 1, -0.0, 1e5]",
    ],
)
def test_long_bodies_mean_what_short_ones_mean(body):
    """They are read by another parser."""
    long = body + b" " * json_body.LONG_BYTES
    try:
        expected = parse_json(body)
    except RequestError:
        expected = None
    if expected == [float("inf")]:
        return  # refused when it is long, and no field takes it
    assert repr(parse_json(long)) == repr(expected)


@pytest.mark.parametrize("body", [b'["\\ud800"]', b"[NaN]", b"[1", b"\xff", b"[01]"])
def test_long_bodies_are_refused_as_short_ones_are(body):
    for text in (body, body + b" " * json_body.LONG_BYTES):
        with pytest.raises(RequestError, match="valid JSON"):
            parse_json(text)


def test_a_body_is_bounded_by_the_context():
    assert application.body_limit(2048) == 4 << 20
    assert application.body_limit(1 << 20) == 64 << 20


def test_a_body_that_is_too_long_is_refused_while_it_comes(server):
    """By its length before anything is read; in chunks when they have become too many."""
    most = 4 << 20
    with connect(server) as sock, sock.makefile("rb") as file:
        sock.sendall(post(b"", length=most + 1))
        assert b" 413 " in file.readline()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connect(server) as sock, sock.makefile("rb") as file:
        sock.sendall(head + b"100000\r\n" + b" " * (1 << 20) + b"\r\n" + b"%x\r\n" % most)
        assert b" 413 " in file.readline()
    refused = server.http.post("/v1/chat/completions", content=b" " * (most + 1))
    assert refused.json()["error"]["code"] == "request_too_large"
    assert str(most) in refused.json()["error"]["message"]


HEAVY = {
    "numbers": b"[" + b"1," * (MAX_VALUES - 9) + b"1]",
    "arrays": b"[" + b"[]," * (MAX_CONTAINERS - 9) + b"[]]",
    "objects": b"[" + b'{"a":1},' * (MAX_CONTAINERS - 9) + b"1]",
    "too many": b"[" + b"1," * (3 << 19) + b"1]",
    "strings": b"[" + b'"' * (3 << 20),
    "escapes": json.dumps({"model": "verbatim-demo", "prompt": "é" * 600_000}).encode(),
    "messages": json.dumps(chat_body() | {"messages": [{"role": "user", "content": "a"}] * 60_000}).encode(),
    "a text": json.dumps({"model": "verbatim-demo", "prompt": "a b " * 900_000}).encode(),
}


@pytest.fixture(scope="module")
def model():
    return load_served_model(Options.from_environment({}))


@pytest.mark.parametrize("name", HEAVY)
def test_no_body_holds_up_the_streams_beside_it(name, model):
    """Two such bodies are read, as a worker does it, while its loop ticks; time is what the process computes."""
    adapter = ChatAdapter() if name == "messages" else CompletionAdapter()

    def read():
        with pytest.raises(RequestError):
            adapter.read(parse_json(HEAVY[name]), model)

    async def run() -> list[float]:
        app = SimpleNamespace(config=SimpleNamespace(), ctx=SimpleNamespace())
        application.prepare(app, 1 << 30)
        work = asyncio.gather(*(application.beside(SimpleNamespace(app=app), read) for _ in range(2)))
        gaps, before = [], time.process_time()
        while not work.done():
            await asyncio.sleep(0.001)
            now = time.process_time()
            gaps.append(now - before)
            before = now
        await work
        return gaps

    interval = sys.getswitchinterval()
    gc.collect()
    gc.freeze()  # as a worker has done
    try:
        gaps = asyncio.run(run())
    finally:
        gc.unfreeze()
        sys.setswitchinterval(interval)
    assert max(gaps) < LONGEST_GAP_SECONDS, sorted(gaps)[-5:]


def wide_grammar(width: int = 3000) -> str:
    """After "x" the parser must follow so many rules at once, which is more than it does."""
    rules = "\n".join(f'r{index}: "b" "c{index}"' for index in range(width))
    return f'start: "x" rest\nrest: {" | ".join(f"r{index}" for index in range(width))}\n{rules}'


@pytest.mark.parametrize("stream", [False, True])
def test_a_grammar_that_is_too_wide_is_the_request_s_fault(server, stream):
    """It compiles, and fails in the middle of the answer."""
    answer = server.complete(guided_grammar=wide_grammar(), max_tokens=20, stream=stream)
    error = json.loads(answer.text.split("data: ")[-1])["error"] if stream else answer.json()["error"]
    assert answer.status_code == (200 if stream and "data: " in answer.text else 400), answer.text
    assert error["code"] == "invalid_grammar" and error["type"] == "invalid_request_error"


def output(text: str) -> Output:
    return Output(request_id="a", choice=0, text=text)


def test_what_waits_for_a_client_is_bounded():
    async def run():
        unread, abandoned = Unread(most=100, most_together=150), []
        slow, other, third = (Inbox(unread, lambda name=name: abandoned.append(name)) for name in "abc")
        for inbox, size in ((slow, 60), (other, 40), (slow, 40)):
            inbox.put(output("x"), size)
        unread.check()
        assert (unread.num_bytes, abandoned) == (140, [])
        third.put(output("y"), 20)  # all together are too much: who has the most waiting gives way
        assert abandoned == ["a"] and unread.num_bytes == 60
        [error] = await slow.take()
        assert isinstance(error, SlowReaderError) and "150 bytes" in str(error)
        other.put(output("x"), 70)
        assert abandoned == ["a", "b"]
        other.put(output("x"), 70)
        assert len(await other.take()) == 1, "nothing more comes for it"
        assert await third.take() == [output("y")]
        unread.check()
        for inbox in (slow, other, third):
            inbox.close()
        assert unread.num_bytes == 0 and not unread.inboxes

    asyncio.run(run())


def test_a_client_that_reads_nothing_is_cut_off(server):
    """Its stream ends, and its sequences are free, without anybody's help."""
    with connect(server, receive_buffer=4096) as sock:
        sock.sendall(chat(stream=True, n=16, max_tokens=1900, logprobs=True, top_logprobs=20))
        wait_until(lambda: "has read nothing for 3 s" in server.log, 30)
        wait_until(lambda: server.health()["running"] == 0, 10)
