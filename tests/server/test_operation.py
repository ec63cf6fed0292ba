"""What operators look at: numbers for Prometheus, readiness, logs, and comments that keep silent streams alive."""

import json
import os
import signal
import uuid

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from live_server import chat_body, wait_until

METRICS = {
    "verbatim_engine_up": "gauge",
    "verbatim_sequences_running": "gauge",
    "verbatim_sequences_waiting": "gauge",
    "verbatim_cache_pages": "gauge",
    "verbatim_cache_used_pages": "gauge",
    "verbatim_cache_idle_pages": "gauge",
    "verbatim_cache_usage_ratio": "gauge",
    "verbatim_prefix_cache_hit_ratio": "gauge",
    "verbatim_acceptance_ratio": "gauge",
    "verbatim_steps": "counter",
    "verbatim_drafted_tokens": "counter",
    "verbatim_accepted_tokens": "counter",
    "verbatim_http_requests": "counter",
    "verbatim_choices": "counter",
    "verbatim_prompt_tokens": "counter",
    "verbatim_prompt_cached_tokens": "counter",
    "verbatim_completion_tokens": "counter",
    "verbatim_time_to_first_token_seconds": "histogram",
    "verbatim_inter_token_seconds": "histogram",
}


def scrape(server) -> dict:
    """Each sample by its name and labels, but for the main model's name."""
    response = server.http.get("/metrics").raise_for_status()
    assert response.headers["content-type"].startswith("text/plain; version=")
    families = list(text_string_to_metric_families(response.text))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation for family in families)
    samples = {}
    for family in families:
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items() - {("model", "verbatim-demo")}))
            assert key not in samples
            samples[key] = sample.value
    return samples | {"types": {family.name: family.type for family in families}}


def count(samples: dict, name: str, **labels: str) -> float:
    return samples.get((name, *sorted(labels.items())), 0)


@pytest.fixture
def busy(start):
    """A server of two workers with speculative decoding and JSON logs."""
    arguments = ("--workers", "2", "--speculative-mode", "ngram", "--log-format", "json")
    return start("reference", *arguments, "--keep-alive-seconds", "0.1").wait_ready()


def test_metrics_of_two_workers(busy):
    """Every worker tells the sum; each request goes over a connection of its own, to whichever worker takes it."""
    before = scrape(busy)
    bodies = [{"content": "Say it again, again, again, again, again", "max_tokens": 24, "n": 2}] * 2
    usages = [
        httpx.post(busy.url + "/v1/chat/completions", json=chat_body(**body), timeout=60).json() for body in bodies
    ]
    usages = [answer["usage"] for answer in usages]
    with httpx.Client(base_url=busy.url, timeout=60) as client:
        assert [client.get("/no/such/url").status_code for _ in range(3)] == [404] * 3
        assert client.request("BANANA", "/v1/models").status_code == 405
        with client.stream("POST", "/v1/chat/completions", json=chat_body(stream=True, n=3, max_tokens=1900)) as stream:
            next(line for line in stream.iter_lines() if "content" in line)
    wait_until(lambda: count(scrape(busy), "verbatim_choices_total", end="abort") == 3)
    after = scrape(busy)
    assert {name: after["types"].get(name) for name in METRICS} == METRICS

    def grew(name, **labels):
        return count(after, name, **labels) - count(before, name, **labels)

    assert grew("verbatim_choices_total", end="length") == 4
    chat = {"method": "POST", "path": "/v1/chat/completions", "code": "200"}
    assert grew("verbatim_http_requests_total", **chat) == 2
    assert grew("verbatim_http_requests_total", method="GET", path="unknown", code="404") == 3
    assert grew("verbatim_http_requests_total", method="other", path="unknown", code="405") == 1
    assert grew("verbatim_prompt_tokens_total") == sum(usage["prompt_tokens"] for usage in usages)
    cached = [usage["prompt_tokens_details"]["cached_tokens"] for usage in usages]
    assert grew("verbatim_prompt_cached_tokens_total") == sum(cached) > 0
    assert after[("verbatim_prefix_cache_hit_ratio",)] == pytest.approx(
        count(after, "verbatim_prompt_cached_tokens_total") / count(after, "verbatim_prompt_tokens_total")
    )
    said = sum(usage["completion_tokens"] for usage in usages)
    assert grew("verbatim_completion_tokens_total") >= said
    assert grew("verbatim_time_to_first_token_seconds_count") == 3
    assert grew("verbatim_inter_token_seconds_count") >= said - 4
    assert 0 < grew("verbatim_inter_token_seconds_sum") < 60
    drafted, accepted = grew("verbatim_drafted_tokens_total"), grew("verbatim_accepted_tokens_total")
    assert drafted > 0 and after[("verbatim_acceptance_ratio",)] == pytest.approx(accepted / drafted)
    wait_until(lambda: count(scrape(busy), "verbatim_sequences_running") == 0)
    assert count(scrape(busy), "verbatim_cache_pages") == busy.health()["total_pages"]


def test_metrics_outlive_the_engine(busy):
    busy.chat(max_tokens=2)
    os.kill(busy.engine_pid(), signal.SIGKILL)
    samples = wait_until(lambda: (found := scrape(busy))[("verbatim_engine_up",)] == 0 and found)
    assert count(samples, "verbatim_choices_total", end="length") == 1
    assert ("verbatim_sequences_running",) not in samples
    wait_until(lambda: scrape(busy)[("verbatim_engine_up",)] == 1)


def test_ready_means_that_a_request_would_be_taken(start):
    server = start("reference", "--single-process")
    answers = []

    def is_ready():
        try:
            answers.append(server.http.get("/ready"))
        except httpx.TransportError:
            return False
        return answers[-1].status_code == 200

    wait_until(is_ready)
    fingerprint = server.chat(max_tokens=1).json()["system_fingerprint"]
    ready = answers[-1].json()
    assert ready.pop("engines")["verbatim-demo"].keys() == {"steps", "seconds_ago"}
    assert ready == {"status": "ready", "models": {"verbatim-demo": fingerprint}}
    os.kill(server.engine_pid(), signal.SIGKILL)
    wait_until(lambda: not is_ready())
    assert answers[-1].status_code == 503 and answers[-1].headers["retry-after"]
    wait_until(is_ready)
    assert scrape(server)[("verbatim_engine_up",)] == 1


def lines_of(server) -> list[dict]:
    return [json.loads(line) for line in server.log.splitlines()]


def test_the_log_is_json_with_request_ids(busy):
    name = uuid.uuid4().hex
    busy.http.get("/docs?secret=xyzzy", headers={"x-request-id": name})
    chosen = busy.chat(content="xyzzy plugh", max_tokens=2).headers["x-request-id"]
    busy.chat(content="xyzzy", n=0)
    with busy.http.stream("POST", "/v1/chat/completions", json=chat_body(stream=True, max_tokens=1900)) as stream:
        left = stream.headers["x-request-id"]
        next(stream.iter_lines())
    os.kill(busy.engine_pid(), signal.SIGKILL)
    wait_until(lambda: any("engine ended" in line["message"] for line in lines_of(busy)))
    wait_until(lambda: any(line.get("status") == 499 for line in lines_of(busy)))
    lines = {line["request_id"]: line for line in lines_of(busy) if "request_id" in line}
    assert {key: lines[name][key] for key in ("method", "path", "status", "level")} == {
        "method": "GET", "path": "/docs", "status": 200, "level": "info",
    }  # fmt: skip
    assert lines[chosen]["path"] == "/v1/chat/completions" and 0 < lines[chosen]["seconds"] < 60
    assert lines[left]["status"] == 499
    assert {"time", "pid", "logger"} <= lines[name].keys()
    assert "xyzzy" not in busy.log


def test_the_log_is_text_by_default(server):
    name = uuid.uuid4().hex
    server.http.get("/docs", headers={"x-request-id": name})
    (line,) = wait_until(lambda: [line for line in server.log.splitlines() if name in line])
    assert "GET /docs 200" in line


def test_probes_have_no_line_in_the_log(server):
    probe, after = uuid.uuid4().hex, uuid.uuid4().hex
    for path in ("/health", "/ready", "/metrics", "/v1/models"):
        assert server.http.get(path, headers={"x-request-id": probe}).status_code == 200
    server.http.get("/docs", headers={"x-request-id": after})
    wait_until(lambda: after in server.log)
    assert probe not in server.log


def test_what_strangers_send_cannot_break_a_line(server):
    answer = server.http.get("/docs", headers={"x-request-id": b"\xff\x1b[31m-marked"})
    assert answer.status_code == 200
    (line,) = wait_until(lambda: [line for line in server.log.splitlines() if "-marked" in line])
    assert r"\udcff\x1b[31m-marked" in line


def test_comments_keep_a_long_prompt_alive(busy):
    with busy.http.stream("POST", "/v1/completions", json=long_prompt()) as stream:
        assert stream.status_code == 200
        lines = [line for line in stream.iter_lines() if line]
    first = next(i for i, line in enumerate(lines) if line.startswith("data: "))
    assert first > 0 and set(lines[:first]) == {": still here"}
    events = [line for line in lines if line.startswith("data: ")]
    assert events[-1] == "data: [DONE]" and json.loads(events[0].removeprefix("data: "))["choices"]
    chunks = list(busy.client().completions.create(**long_prompt("words ")))
    assert chunks[-1].choices[0].finish_reason == "length"


def long_prompt(word: str = "word ") -> dict:
    return {"model": "verbatim-demo", "prompt": word * 600, "max_tokens": 2, "stream": True}


def test_an_error_after_a_comment_is_an_event(start):
    arguments = ("--keep-alive-seconds", "0.01", "--request-timeout", "0.2", "--prefill-chunk-size", "64")
    server = start("reference", *arguments).wait_ready()
    with server.http.stream("POST", "/v1/completions", json=long_prompt()) as stream:
        assert stream.status_code == 200
        lines = [line for line in stream.iter_lines() if line]
    assert lines[0] == ": still here"
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "timeout"
    assert server.complete(n=0, stream=True).status_code == 400
