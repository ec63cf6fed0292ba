"""The suite without its cases: the command, its reports, judging again, event streams, and the pytest plugin."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from mini_server import KEY, MODEL, MiniServer

from verbatim.conformance.__main__ import main
from verbatim.conformance.catalogue import all_cases, chosen, costs, plan
from verbatim.conformance.clients import CHAT_CLIENTS
from verbatim.conformance.sse import read_events

ROOT = Path(__file__).parents[2]
SOME = ["chat.schema", "chat.id_unique", "stream.usage_once", "stop.excluded", "errors.shape", "auth.scheme_case"]


@pytest.fixture(scope="module")
def server():
    with MiniServer() as running:
        yield running


def command(server, *more: str) -> list[str]:
    return ["--base-url", server.base_url, "--model", MODEL, "--api-key", KEY, "--quiet", *more]


def test_the_plan_has_every_case():
    assert len(all_cases()) >= 300
    assert set(costs()) == set(all_cases())
    num_requests, num_tokens = plan(chosen(profile="chat-core"))
    assert num_requests > 300 and num_tokens > 1000


def test_every_case_has_a_requirement_a_source_and_a_fault():
    for case in all_cases().values():
        assert case.requirement.endswith(".") and case.source and case.fault, case.id


def test_reports_are_consistent(server, tmp_path, capsys):
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
    assert main(["--rejudge", str(tmp_path / "a.json"), "--json", str(tmp_path / "b.json"), "--name", "again"]) == 0
    again = json.loads((tmp_path / "b.json").read_text())
    assert [r["verdict"] for r in again["results"]] == [r["verdict"] for r in report["results"]]
    pages = [str(tmp_path / f"{name}.json") for name in "aba"]  # two reports of the same server make a single column
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
    for words, expected in (
        (["--id", "no.such"], "no.such"),
        (["--section", "soup"], "soup"),
        (["--base-url", "ftp://x", "--model", "m"], "ftp://x"),
        (["--base-url", "http://x", "--model", "m", "--budget", "0"], "--budget 0"),
        (["--model", "m"], "--base-url"),
    ):
        with pytest.raises(SystemExit):
            main(words)
        assert expected in capsys.readouterr().err


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_event_streams_are_parsed_by_the_whatwg_rules(ending):
    lines = [b"\xef\xbb\xbf: hello", b"event: x", b"data:  a", b"data:b", b"id: 7", b"", b"data", b"", b"data: late"]
    stream = read_events(ending.join(lines) + ending)
    assert [(event.name, event.data, event.last_id) for event in stream.events] == [
        ("x", " a\nb", "7"),
        ("message", "", "7"),
    ]
    assert {name for name, _ in stream.flaws} == {"line", "empty", "unfinished"}


def test_clients_report_what_breaks_them():
    head = b'data: {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}\n\n'
    end = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    assert [read(head + end) for read in CHAT_CLIENTS.values()] == [None] * 4
    assert "JSONDecodeError" in CHAT_CLIENTS["openai_python"](b"id: 1\n\n" + head + end)
    assert "finish_reason" in CHAT_CLIENTS["openai_node"](head)
    call = b'data: {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "%s"}]}}]}\n\n' % (b"c" * 50)
    assert CHAT_CLIENTS["openai_python"](head + call + end) is None  # long, but it occurs once
    assert "repeated id" in CHAT_CLIENTS["openai_python"](head + call + call + end)
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
