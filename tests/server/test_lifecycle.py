"""Processes that come and go: engines that die, workers that die, clients that leave, signals."""

import json
import os
import signal
import socket
import time

import httpx
import pytest

from live_server import Reader, chat_body, command_line, family, wait_until
from verbatim.server.engine.manager import WORKER_RESTARTS


def test_engine_killed_is_seen_and_healed(start):
    server = start().wait_ready()
    reader = Reader(server, max_tokens=1500).wait_for(3)
    engine = server.engine_pid()
    os.kill(engine, signal.SIGKILL)
    last = json.loads(reader.finish()[-1])
    assert last["error"]["code"] == "engine_unavailable"
    wait_until(server.is_ready)
    assert server.engine_pid() != engine
    assert server.chat().status_code == 200


def test_503_with_retry_after_while_the_engine_is_away(start):
    server = start().wait_ready()
    os.kill(server.engine_pid(), signal.SIGKILL)
    answers = [wait_until(lambda path=path: away(server, path)) for path in ("/health", "/v1/chat/completions")]
    for answer in answers:
        assert answer.headers["retry-after"]
        assert answer.json()["error"]["type"] == "server_error"
    assert server.http.get("/v1/models").status_code == 200


def away(server, path):
    """A 503, if one can be seen before the engine is back; else the engine is killed again."""
    answer = server.http.get(path) if path == "/health" else server.chat(max_tokens=1)
    if answer.status_code == 503:
        return answer
    if pid := server.engine_pid():
        os.kill(pid, signal.SIGKILL)
    return None


def test_sigterm_lets_running_streams_end(start):
    server = start().wait_ready()
    reader = Reader(server, max_tokens=150).wait_for(3)
    server.process.terminate()
    events = reader.finish()
    assert reader.error is None
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["choices"][0]["finish_reason"] == "length"
    assert server.process.wait(60) == 0


def test_streams_that_outlast_the_drain_are_told(start):
    server = start(SANIC_GRACEFUL_SHUTDOWN_TIMEOUT="4").wait_ready()
    reader = Reader(server, n=8, max_tokens=1900).wait_for(3)
    server.process.terminate()
    last = json.loads(reader.finish()[-1])
    assert reader.error is None
    assert last["error"]["message"] == "The server is shutting down."
    assert server.process.wait(60) == 0


def test_second_sigterm_ends_at_once_and_spares_strangers(start):
    server = start().wait_ready()
    reader = Reader(server, max_tokens=2000).wait_for(3)
    server.process.terminate()
    wait_until(lambda: "Shutting down" in server.log)
    server.process.terminate()
    server.process.wait(60)
    reader.finish()
    assert reader.error is not None or reader.events[-1] != "[DONE]"


def test_sigterm_during_start_up_ends_the_server(start):
    server = start()
    wait_until(lambda: "docs" in server.log or server.is_ready())
    server.process.terminate()
    server.process.wait(30)


@pytest.mark.parametrize("seconds", [0.4, 0.8, 1.2, 1.6, None])
def test_killed_main_process_leaves_nothing_running(start, seconds):
    """Also when it is killed in the middle of starting; None waits until it is ready."""
    server = start()
    if seconds:
        time.sleep(seconds)
    else:
        assert len(family(server.wait_ready().process.pid)) >= 4
    server.process.kill()
    server.process.wait()
    deadline = time.monotonic() + 30
    while left := {pid: command_line(pid) for pid in family(server.process.pid)}:
        assert time.monotonic() < deadline, f"{left}\n{server.log}"
        time.sleep(0.05)


def test_killed_worker_frees_its_pages_and_is_replaced(start):
    server = start().wait_ready()
    Reader(server, max_tokens=2000).wait_for(3)
    worker = server.worker_pid()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: server.worker_pid() != worker)
    wait_until(lambda: server.is_ready() and server.health()["running"] == 0)
    assert server.chat().status_code == 200


@pytest.mark.slow
def test_workers_that_keep_dying_end_the_server_with_an_error(start):
    server = start("reference").wait_ready()
    for _ in range(WORKER_RESTARTS + 1):
        worker = server.worker_pid()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda old=worker: server.process.poll() is not None or {*server.worker_pids()} - {old})
    assert server.process.wait(60) == 1
    assert "Workers die too often" in server.log


def test_single_process(start):
    server = start("reference", "--single-process").wait_ready()
    reader = Reader(server, max_tokens=100).wait_for(3)
    server.process.terminate()
    assert reader.finish()[-1] == "[DONE]"
    assert server.process.wait(60) == 0


def test_a_stream_is_not_changed_by_malformed_neighbours(server):
    body = {"max_tokens": 120, "temperature": 1, "seed": 5}
    alone = [without_id(event) for event in Reader(server, **body).finish()]
    reader = Reader(server, **body)
    bad = [b"", b"{", b"[]", b'{"model":1}', b'{"model":"verbatim-demo","messages":[]}', b"\xff\xfe", b'{"a":NaN}']
    headers = {"content-type": "application/json"}
    deadline = time.monotonic() + 60
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
        for index in range(200):
            path = ("/v1/chat/completions", "/v1/completions")[index % 2]
            assert client.post(path, content=bad[index % len(bad)]).status_code == 400
            assert time.monotonic() < deadline
    assert [without_id(event) for event in reader.finish()] == alone


def without_id(event: str):
    return event if event == "[DONE]" else json.loads(event) | {"id": None, "created": None}


def test_a_full_queue_refuses_at_once_and_loses_nothing(server):
    body = {
        "model": "verbatim-demo",
        "prompt": ["Hello"] * 128,
        "max_tokens": 400,
        "temperature": 0,
        "ignore_eos": True,
    }
    sockets = [send_and_leave_open(server, "/v1/completions", body) for _ in range(2)]
    wait_until(lambda: server.health()["waiting"] > 128)
    refused = [server.complete(**body | {"stream": stream}) for stream in (True, False)]
    assert [answer.status_code for answer in refused] == [429, 429]
    assert refused[0].headers["retry-after"] and refused[0].json()["error"]["code"] == "rate_limit_exceeded"
    assert server.health()["waiting"] > 128
    for sock in sockets:
        sock.close()
    wait_until(lambda: server.health()["running"] + server.health()["waiting"] == 0)
    assert server.chat().status_code == 200


def send_and_leave_open(server, path: str, body: dict, padding: str = "") -> socket.socket:
    """Send a request over a bare socket, to be closed at will; white space pads its JSON."""
    data = (json.dumps(body) + padding).encode()
    sock = socket.create_connection(("127.0.0.1", server.port))
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    sock.sendall(head.encode() + data)
    return sock


def test_answers_that_take_too_long_are_given_up(start):
    server = start("reference", "--request-timeout", "2", "--prefill-mode", "chunked").wait_ready()
    body = chat_body(max_tokens=1900)
    refused = server.chat(**body | {"stream": False})
    assert (refused.status_code, refused.json()["error"]["code"]) == (504, "timeout")
    assert "longer than the 2.0 seconds" in refused.json()["error"]["message"]
    last = Reader(server, **body).finish()[-1]
    assert json.loads(last)["error"]["code"] == "timeout"
    assert server.health()["running"] == 0
    assert server.chat(max_tokens=2).status_code == 200


def test_clients_that_leave_free_their_pages(server):
    """Whether they stream or wait, in one packet or with a body over 64 KiB, after which Sanic forgets to read."""
    for stream in (True, False):
        for padding in ("", " " * 100_000):
            before = server.health()["steps"]
            body = chat_body(stream=stream, n=16, max_tokens=1900)
            sock = send_and_leave_open(server, "/v1/chat/completions", body, padding)
            wait_until(lambda before=before: server.health()["steps"] > before)
            sock.close()
            wait_until(lambda: server.health()["running"] + server.health()["waiting"] == 0)
            assert server.health()["steps"] - before < 1900


def test_a_client_that_leaves_is_noticed_within_a_step(start):
    server = start("reference", "--mode", "server").wait_ready()
    sock = send_and_leave_open(server, "/v1/chat/completions", chat_body(n=16, max_tokens=1900))
    wait_until(lambda: server.health()["running"] == 16)
    sock.close()
    closed_at = server.health()["steps"]
    wait_until(lambda: server.health()["running"] == 0)
    assert server.health()["steps"] - closed_at < 20
