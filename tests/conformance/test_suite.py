"""The suite around its cases: reports, judging again, budgets, and servers that hang, die or talk nonsense."""

import json
import socket
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from contextlib import contextmanager
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from mini_server import KEY, MODEL, MiniServer

from conformance.__main__ import main
from conformance.case import REGISTRY
from conformance.catalogue import all_cases, chosen, costs, plan
from conformance.client import Client, Settings
from conformance.clients import CHAT_CLIENTS
from conformance.runner import Run
from conformance.sse import read_events

ROOT = Path(__file__).parents[2]
SOME = ["chat.schema", "chat.id_unique", "stream.usage_once", "stop.excluded", "errors.shape", "tools.named"]


@pytest.fixture(scope="module")
def server():
    with MiniServer() as running:
        yield running


def command(server, *more: str) -> list[str]:
    return ["--base-url", server.base_url, "--model", MODEL, "--api-key", KEY, "--quiet", *more]


def test_there_are_the_cases_that_the_plan_knows():
    assert len(all_cases()) >= 300
    assert set(costs()) == set(all_cases())
    num_requests, num_tokens = plan(chosen(profile="chat-core"))
    assert num_requests > 300 and num_tokens > 1000


def test_every_case_says_what_it_asks_and_who_says_so():
    for case in all_cases().values():
        assert case.requirement.endswith(".") and case.source and case.fault, case.id


def test_reports_hold_together(server, tmp_path, capsys):
    names = [word for case_id in SOME for word in ("--id", case_id)]
    files = ["--json", str(tmp_path / "a.json"), "--junit", str(tmp_path / "a.xml"), "--html", str(tmp_path / "a.html")]
    assert main(command(server, *names, *files)) == 0
    report = json.loads((tmp_path / "a.json").read_text())
    schema = json.loads((ROOT / "conformance" / "report.schema.json").read_text())
    Draft202012Validator(schema).validate(report)
    assert sorted(SOME) == [record["id"] for record in report["results"]]
    assert KEY not in (tmp_path / "a.json").read_text()
    suite = ElementTree.parse(tmp_path / "a.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == (str(len(SOME)), "0")
    assert "Conformance of" in (tmp_path / "a.html").read_text()
    assert main(["--rejudge", str(tmp_path / "a.json"), "--json", str(tmp_path / "b.json")]) == 0
    again = json.loads((tmp_path / "b.json").read_text())
    assert [r["verdict"] for r in again["results"]] == [r["verdict"] for r in report["results"]]
    pages = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    assert main(["--matrix", *pages, "--html", str(tmp_path / "m.html")]) == 0
    assert (tmp_path / "m.html").read_text().count("<td class=pass>pass") == 2 * len(SOME)


def test_a_failure_is_shown_with_its_request_and_changes_the_exit_code(server, tmp_path, capsys):
    fault = ["--header", "X-Fault: body%20-usage.total_tokens"]
    page = tmp_path / "a.html"
    assert main(command(server, *fault, "--id", "usage.present", "--html", str(page))) == 1
    shown = capsys.readouterr().out
    assert "usage.present" in shown and "curl" in shown
    assert "curl -sS -i -X POST" in page.read_text() and "CompletionUsage" in page.read_text()


def test_should_counts_only_when_strict(server):
    fault = ["--header", "X-Fault: header%20-Cache-Control", "--id", "transport.sse_not_cached"]
    assert main(command(server, *fault)) == 0
    assert main(command(server, *fault, "--strict")) == 1


def test_wrong_options_are_named(capsys):
    for words, told in (
        (["--id", "no.such"], "no.such"),
        (["--section", "soup"], "soup"),
        (["--base-url", "ftp://x", "--model", "m"], "ftp://x"),
        (["--base-url", "http://x", "--model", "m", "--budget", "0"], "--budget 0"),
        (["--model", "m"], "--base-url"),
    ):
        with pytest.raises(SystemExit):
            main(words)
        assert told in capsys.readouterr().err


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
                threading.Thread(target=one, args=(connection,), daemon=True).start()

        def one(connection):
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


@pytest.mark.parametrize("talk", [hang, dribble, flood, page, nonsense, half, lists, die])
def test_servers_that_misbehave_are_told_of_and_never_break_the_suite(talk):
    cases = [REGISTRY[name] for name in (*SOME, "transport.sse_done", "models.list_shape")]
    with talker(talk) as url:
        settings = Settings(url, "m", timeout=0.5, max_bytes=1 << 20)
        results = list(Run(settings, concurrency=2).results(cases))
    assert len(results) == len(cases)
    assert {result.verdict for result in results} <= {"fail", "skipped"}
    assert results[0].verdict == "fail" and results[0].actual


def test_an_exchange_ends_when_its_time_is_up():
    with talker(dribble) as url:
        exchange = Client(Settings(url, "m", timeout=0.5)).send("GET", "/models")
    assert exchange.seconds < 3 and "0.5 seconds" in exchange.trouble


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_event_streams_are_read_by_the_book(ending):
    lines = [b"\xef\xbb\xbf: hello", b"event: x", b"data:  a", b"data:b", b"id: 7", b"", b"data", b"", b"data: late"]
    stream = read_events(ending.join(lines) + ending)
    assert [(event.name, event.data, event.last_id) for event in stream.events] == [
        ("x", " a\nb", "7"),
        ("message", "", "7"),
    ]
    assert {kind for kind, _ in stream.flaws} == {"line", "empty", "unfinished"}


def test_clients_complain_of_what_breaks_them():
    head = b'data: {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}\n\n'
    end = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    assert [read(head + end) for read in CHAT_CLIENTS.values()] == [None] * 4
    assert "JSONDecodeError" in CHAT_CLIENTS["openai_python"](b"id: 1\n\n" + head + end)
    assert "finish_reason" in CHAT_CLIENTS["openai_node"](head)
    assert "parse" in CHAT_CLIENTS["vercel_ai"](head + b"data:\n\n" + end)


def test_the_suite_runs_under_pytest(server):
    words = [
        "-p",
        "conformance.pytest_plugin",
        "--pyargs",
        "conformance",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "usage.sum",
    ]
    words += ["--base-url", server.base_url, "--model", MODEL, "--api-key", KEY, "--rootdir", str(ROOT / "conformance")]
    run = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0 and "1 passed" in run.stdout, run.stdout + run.stderr
    words[words.index(server.base_url)] = "http://127.0.0.1:9/v1"
    run = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1 and "1 failed" in run.stdout, run.stdout + run.stderr
