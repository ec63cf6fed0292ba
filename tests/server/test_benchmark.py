"""The benchmark of the HTTP path measures what it says: the same bytes from both sides, and every token counted."""

import json
import os
from argparse import Namespace

import pytest
from benchmarks.http.__main__ import ages, medians, record, summarize
from benchmarks.http.bare_events import EVENTS
from benchmarks.http.client import load, request
from benchmarks.http.servers import COMMANDS, started

CORES = os.sched_getaffinity(0)


def content(body: bytes) -> list:
    events = [event.removeprefix(b"data: ") for event in body.split(b"\n\n")[:-1]]
    assert events.pop() == b"[DONE]"
    return [json.loads(event)["choices"] for event in events]


@pytest.mark.slow
def test_both_sides_stream_the_same(tmp_path):
    body = request(20).partition(b"\r\n\r\n")[2]
    with started("verbatim", CORES, CORES) as ours:
        first, again = record(ours, 20), record(ours, 20)
        assert content(first) == content(again) and len(content(first)) == 22
        before = ours.cpu_seconds()
        assert load(ours.port, 3, 20).num_events == 3 * 23
        assert ours.cpu_seconds() > before
    (tmp_path / "events").write_bytes(first)
    with started("bare Sanic", CORES, CORES, **{EVENTS: str(tmp_path / "events")}) as bare:
        assert bare.ask("POST", "/v1/chat/completions", body) == (200, first)
        assert load(bare.port, 3, 20).num_events == 3 * 23


def test_ages_are_those_of_tokens():
    settings = Namespace(server_core=min(CORES), client_core=max(CORES), step_seconds=0.002)
    (row,) = ages(settings, (1,))
    assert row["tokens"] == 300 and 0 < row["median_ms"] <= row["p99_ms"] < 10_000


def test_a_ratio_above_one_is_better_than_bare_sanic():
    speeds = {"verbatim": (50, 20), "bare Sanic": (100, 10), "FastAPI": (200, 5)}
    rows = [
        {"server": name, "streams": count, "tokens_per_second": speed + odd, "cpu_us_per_token": cpu}
        for name, (speed, cpu) in speeds.items() for count in (1, 16, 64) for odd in (-7, 0, 9)
    ]  # fmt: skip
    assert medians(rows)["verbatim", 16] == (50, 20)
    ratios = {row["server"]: (row["ratio"], row["cpu_ratio"]) for row in summarize(rows)}
    assert ratios == {"verbatim": (0.5, 0.5), "bare Sanic": (1, 1), "FastAPI": (2, 2)}
    assert set(speeds) == set(COMMANDS)


def test_what_is_unknown_does_not_start():
    with pytest.raises(KeyError):
        started("banana", CORES, CORES).__enter__()
