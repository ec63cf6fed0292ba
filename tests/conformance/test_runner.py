"""A run handles servers that hang, crash, flood or send nonsense, reports it, and fails the case that caused it."""

import socket
import threading
import time
from contextlib import contextmanager

import pytest
from mini_server import KEY, MODEL, MiniServer

from verbatim.conformance.catalogue import all_cases, chosen
from verbatim.conformance.client import Client, Settings
from verbatim.conformance.exchange import Exchange
from verbatim.conformance.runner import Run

SOME = ["chat.schema", "chat.id_unique", "stream.usage_once", "stop.excluded", "errors.shape", "tools.named"]


@pytest.fixture(scope="module")
def server():
    with MiniServer() as running:
        yield running


def test_a_budget_is_never_exceeded(server):
    run = Run(Settings(server.base_url, MODEL, KEY), budget=5)
    results = list(run.results(chosen(sections=["usage"])))
    assert sum(len(result.exchanges) for result in results) == 5
    assert any(result.verdict == "skipped" and "budget" in result.actual for result in results)


@contextmanager
def talker(talk):
    """A server that does `talk(connection)` for every connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection):
            try:
                connection.recv(65536)
                talk(connection)
            except OSError:
                pass
            finally:
                connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        listener.close()


def hang(connection):
    time.sleep(30)


def dribble(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    while True:
        connection.sendall(b":")
        time.sleep(0.05)


def flood(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    for _ in range(1000):
        connection.sendall(b"x" * (1 << 20))


def page(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>")


def nonsense(connection):
    connection.sendall(b"\x00\xff\xfe nothing of the kind\r\n\r\n" * 10)


def half(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{")


def lists(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 6\r\n\r\n[[[]]]")


def die(connection):
    connection.close()


def garbage(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + bytes(range(256)) * 40)


def broken_off(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ndata: {\n")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


MISBEHAVIOUR = {
    hang: "no complete answer within 0.5 seconds",
    dribble: "no complete answer within 0.5 seconds",
    flood: "more than 1048576 bytes came",
    page: "html",
    nonsense: "not a complete HTTP answer: BadStatusLine",
    half: "not a complete HTTP answer: IncompleteRead",
    garbage: "status 200",
    broken_off: "the connection failed: ConnectionResetError",
    lists: "[[[]]]",
    die: "not a complete HTTP answer: RemoteDisconnected",
}


@pytest.mark.parametrize(("talk", "reason"), MISBEHAVIOUR.items(), ids=[talk.__name__ for talk in MISBEHAVIOUR])
def test_misbehaving_servers_are_reported_and_never_break_the_suite(talk, reason):
    cases = [all_cases()[name] for name in (*SOME, "transport.sse_done", "models.list_shape")]
    with talker(talk) as url:
        settings = Settings(url, "m", timeout=0.5, max_bytes=1 << 20)
        results = list(Run(settings, concurrency=2).results(cases))
    assert len(results) == len(cases)
    failed = [result for result in results if result.verdict == "fail"]
    assert failed and all(result.actual and result.exchanges for result in failed)
    for result in results:
        if result.verdict != "fail":
            assert result.verdict == "skipped" and any(end.case.id in result.actual for end in failed)
    assert any(reason in result.actual for result in failed), [result.actual for result in failed]


def fail_first_requests(run: Run, times: int) -> None:
    """Make the first requests of the run get no answer."""
    send, failures = run.client.send, iter(range(times))

    def sometimes(method, path, body=None, **options):
        if next(failures, None) is not None:
            return Exchange(method, path, {}, b"", trouble="no complete answer within 1 seconds")
        return send(method, path, body, **options)

    run.client.send = sometimes


def test_a_case_does_not_fail_when_another_case_stopped_the_server(server):
    run = Run(Settings(server.base_url, MODEL, KEY), concurrency=2)
    fail_first_requests(run, 2)
    results = list(run.results([all_cases()[name] for name in SOME]))
    assert sorted(result.case.id for result in results) == sorted(SOME)
    assert {result.verdict for result in results} == {"pass"}


@pytest.mark.parametrize("times", [1, 4])  # a server that recovers immediately, and a server that is restarted
def test_a_case_that_gets_no_answer_alone_fails_and_the_run_continues(server, times):
    run = Run(Settings(server.base_url, MODEL, KEY, timeout=10), concurrency=1)
    fail_first_requests(run, times)
    verdicts = {result.case.id: result.verdict for result in run.results(chosen(sections=["limits"]))}
    assert list(verdicts.values()).count("fail") == 1 and set(verdicts.values()) == {"fail", "pass"}


def test_harsh_cases_run_last_and_the_remaining_cases_are_skipped(server):
    run = Run(Settings(server.base_url, MODEL, KEY, timeout=5))
    send = run.client.send
    killed = []

    def killed_by_long_prompts(method, path, body=None, **options):
        if killed or len(str(body)) > 100_000:
            killed.append(path)
            return Exchange(method, path, {}, b"", trouble="the connection failed: ConnectionRefusedError: gone")
        return send(method, path, body, **options)

    run.client.send = killed_by_long_prompts
    results = list(run.results([all_cases()[name] for name in ("limits.context", "limits.large_body", *SOME)]))
    verdicts = {result.case.id: result.verdict for result in results}
    assert [verdicts.pop("limits.context"), verdicts.pop("limits.large_body")] == ["fail", "skipped"]
    assert set(verdicts.values()) == {"pass"} and "limits.context" in results[-1].actual


def test_an_exchange_ends_when_its_time_is_up():
    with talker(dribble) as url:
        exchange = Client(Settings(url, "m", timeout=0.5)).send("GET", "/models")
    assert exchange.seconds < 3 and "0.5 seconds" in exchange.trouble
