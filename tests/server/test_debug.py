"""/debug: traces, counts, resets and profiles of a running engine, for those who may."""

import threading
import time

import pytest

from live_server import chat_body, running, wait_until

KEY = {"authorization": "Bearer sk-debug"}
COMMANDS = ("dump_event_trace", "dump_engine_metrics", "reset_engine", "profiler_start", "profiler_stop")


@pytest.fixture(scope="module", params=["reference", "fastpath"])
def debugged(request, tmp_path_factory):
    arguments = ("--enable-debug", "--enable-tracing", "--api-key", "sk-debug", "--max-num-sequence", "2")
    with running(request.param, tmp_path_factory.mktemp("debug"), *arguments) as server:
        server.wait_ready()
        server.http.headers.update(KEY)
        yield server


def debug(server, command, **body):
    response = server.http.post(f"/debug/{command}", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def spans(trace, name, row):
    return [event for event in trace if (event["name"], event["tid"], event["ph"]) == (name, row, "X")]


def test_a_trace_shows_steps_and_requests(debugged):
    debug(debugged, "reset_engine")
    began = time.time()
    answer = debugged.chat(max_tokens=5, n=2).json()
    trace = debug(debugged, "dump_event_trace", model="verbatim-demo")
    assert [event["ts"] for event in trace] == sorted(event["ts"] for event in trace)
    assert all(began - 1 < event["ts"] / 1e6 < time.time() + 1 and event["pid"] == 1 for event in trace)
    steps = spans(trace, "step", "engine")
    assert len(steps) >= 5
    for name in ("schedule", "forward", "sample"):
        for event in spans(trace, name, "engine"):
            end = event["ts"] + event["dur"]
            assert any(step["ts"] <= event["ts"] and end <= step["ts"] + step["dur"] + 2 for step in steps), name
    assert len(spans(trace, "sample", "engine")) == 10
    for choice in (0, 1):
        (prefill,) = (event for event in spans(trace, "prefill", answer["id"]) if event["args"]["choice"] == choice)
        (decode,) = (event for event in spans(trace, "decode", answer["id"]) if event["args"]["choice"] == choice)
        assert prefill["ts"] + prefill["dur"] <= decode["ts"] + 1000
    marks = [event["name"] for event in trace if event["tid"] == answer["id"] and event["ph"] == "i"]
    assert marks == ["added", "length", "length"]


def test_counts(debugged):
    metrics = debug(debugged, "dump_engine_metrics")["metrics"]
    assert {"running", "waiting", "used_pages", "steps"} <= metrics.keys()
    assert metrics["uptime_seconds"] > 0 and metrics["max_rss_bytes"] > 1 << 20


def test_reset_ends_what_runs_and_forgets_what_is_known(debugged):
    debugged.chat(content="Remember this, please, word for word.", max_tokens=2)
    assert debugged.health()["cached_pages"] > 0
    failed = []
    bodies = [chat_body(max_tokens=1900), chat_body(max_tokens=1900, stream=True), chat_body(max_tokens=1900, n=3)]

    def ask(body):
        failed.append(debugged.http.post("/v1/chat/completions", json=body))

    threads = [threading.Thread(target=ask, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    wait_until(lambda: debugged.health()["running"] + debugged.health()["waiting"] >= 3)
    debug(debugged, "reset_engine")
    for thread in threads:
        thread.join(30)
    assert len(failed) == 3 and all("The engine was reset." in response.text for response in failed)
    counts = debugged.health()
    assert (counts["running"], counts["waiting"], counts["used_pages"], counts["cached_pages"]) == (0, 0, 0, 0)
    again = debugged.chat(content="Remember this, please, word for word.", max_tokens=2).json()
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


def test_a_profile_of_the_engine(debugged):
    assert debug(debugged, "profiler_start") is None
    refused = debugged.http.post("/debug/profiler_start", json={})
    assert refused.status_code == 400 and "running already" in refused.json()["error"]["message"]
    debugged.chat(max_tokens=5)
    profile = debug(debugged, "profiler_stop")["profile"]
    assert "cumulative" in profile and "(step)" in profile and "(deliver)" in profile
    assert debugged.http.post("/debug/profiler_stop", json={}).status_code == 400


def test_only_for_those_who_may(debugged, server):
    for command in COMMANDS:
        assert debugged.http.post(f"/debug/{command}", json={}, headers={"authorization": ""}).status_code == 401
        assert server.http.post(f"/debug/{command}", json={}).status_code == 404
    assert debugged.http.get("/debug/reset_engine").status_code == 405


@pytest.mark.parametrize("body", [b"", b"[]", b'{"banana": 1}', b'{"model": 3}'])
def test_bodies_are_strict(debugged, body):
    """An empty one too: a web page could send that without being asked what it may do."""
    response = debugged.http.post("/debug/reset_engine", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    page = {"content-type": "text/plain"}
    assert debugged.http.post("/debug/reset_engine", content=b"{}", headers=page).status_code == 400
    assert debugged.http.post("/debug/reset_engine", json={"model": "other"}).status_code == 404


def test_without_tracing_there_is_no_trace(start):
    server = start("reference", "--enable-debug").wait_ready()
    refused = server.http.post("/debug/dump_event_trace", json={})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_parameter")
    assert "--enable-tracing" in refused.json()["error"]["message"]
    assert debug(server, "reset_engine") is None
