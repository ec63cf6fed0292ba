"""Anthropic's Messages behind the router: streams are taken up where they broke, and nothing is sent twice or wrong."""

import json
import random

import pytest

from live_router import kill_busy, routed, wait_idle
from live_server import stream_events
from verbatim.server.api.registry import adapter_of
from verbatim.server.api.replay_buffer import DivergedError
from verbatim.server.http.sse import named_event, read_event

PATH = "/v1/messages"
CITY = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}}, "required": ["city"]}
TOOLS = [{"name": name, "input_schema": CITY} for name in ("weather", "time")]
SAMPLED = {
    "model": "verbatim-demo", "messages": [{"role": "user", "content": "Hello"}], "temperature": 1.5, "seed": 4,
    "stream": True,
}  # fmt: skip
BODIES = {
    "text": SAMPLED | {"max_tokens": 24},
    "calls": SAMPLED | {"max_tokens": 60, "tools": TOOLS, "tool_choice": {"type": "any"}},
}
LONG = SAMPLED | {"max_tokens": 1900, "ignore_eos": True, "temperature": 1}


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    with routed(tmp_path_factory.mktemp("messages"), (), ()) as router:
        yield router


def stream(server, body: dict) -> list[bytes]:
    """The events of a stream as bytes."""
    answer = server.http.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    return [event + b"\n\n" for event in answer.content.split(b"\n\n")[:-1]]


def resumed(emitted: list[bytes], other: list[bytes]) -> list[bytes]:
    resumption = adapter_of(PATH).resume(emitted)
    return [event for raw in other for event in resumption.take(raw)]


def plain(events: list[bytes]) -> list[dict]:
    """Events without pings, ids and usage; deltas of a block that follow each other are joined."""
    found: list[dict] = []
    for value in map(read_event, events):
        value.pop("usage", None)
        for name in ("message", "content_block"):
            value.get(name, {}).pop("id", None)
            value.get(name, {}).pop("usage", None)
        if found and value["type"] == found[-1]["type"] == "content_block_delta":
            for name in ("text", "partial_json"):
                if name in value["delta"]:
                    found[-1]["delta"][name] += value["delta"][name]
        elif value["type"] != "ping":
            found.append(value)
    return found


def merged(events: list[bytes], draw: random.Random) -> list[bytes]:
    """The same stream with some neighbouring deltas in one event, as speculation sends them."""
    result: list[bytes] = []
    for event in events:
        both = [read_event(each) for each in (*result[-1:], event)]
        if len(both) == 2 and all("partial_json" in (each.get("delta") or {}) for each in both) and draw.random() < 0.5:
            both[0]["delta"]["partial_json"] += both[1]["delta"]["partial_json"]
            result[-1] = named_event(both[0])
        elif len(both) == 2 and all("text" in (each.get("delta") or {}) for each in both) and draw.random() < 0.5:
            both[0]["delta"]["text"] += both[1]["delta"]["text"]
            result[-1] = named_event(both[0])
        else:
            result.append(event)
    return result


@pytest.mark.parametrize("name", BODIES)
def test_it_resumes_at_every_place(router, name):
    first, second = (stream(server, BODIES[name]) for server in router.servers)
    draw, whole = random.Random(1), plain(first)
    for place in range(1, len(first)):
        rest = resumed(first[:place], second)
        assert len(rest) == len([event for event in first[place:] if b'"ping"' not in event]), place
        assert plain(first[:place] + rest) == whole
        emitted = first[:place] + resumed(first[:place], merged(second, draw))
        assert plain(emitted) == whole
        usage = [value["usage"] for value in map(read_event, emitted) if value["type"] == "message_delta"]
        start = read_event(first[0])["message"]["usage"]
        assert usage[0]["input_tokens"] == start["input_tokens"] and usage[0]["output_tokens"] > 1


@pytest.mark.parametrize("name", BODIES)
def test_another_answer_is_never_taken_for_the_same(router, name):
    first, refused = stream(router.servers[0], BODIES[name]), 0
    others = (stream(router.servers[1], BODIES[name] | {"seed": seed}) for seed in range(50, 80))
    other = next(other for other in others if plain(other) != plain(first))
    for place in range(1, len(first)):
        try:
            rest = resumed(first[:place], other)
        except DivergedError:
            refused += 1
        else:
            assert plain(first[:place] + rest) == plain(other)  # so far they were the same: it is the other's stream
    assert refused > 0


def test_models_and_errors_come_in_anthropics_form(router):
    page = router.http.get("/v1/models", headers={"anthropic-version": "2023-06-01"}).json()
    assert (page["first_id"], page["has_more"], page["data"][0]["type"]) == ("verbatim-demo", False, "model")
    wrong = router.http.post(PATH, json=SAMPLED | {"max_tokens": 0})
    assert (wrong.status_code, wrong.json()["type"]) == (400, "error")
    large = router.http.post(PATH, content=b" " * ((32 << 20) + 1))
    assert (large.status_code, large.json()["error"]["type"]) == (413, "request_too_large")
    assert router.http.post(f"{PATH}/count_tokens", json=SAMPLED | {"stream": False}).json()["input_tokens"] > 1


def test_a_stream_outlives_its_server(router):
    """Last, as it kills one: the client's events are those of an undisturbed stream, with one id."""

    def read(*, at: int = 0) -> list[bytes]:
        events = []
        with router.http.stream("POST", PATH, json=LONG) as response:
            for data in stream_events(response):
                events.append(b"data: " + data.encode())
                if len(events) == at:
                    kill_busy(router)
        return events

    undisturbed, moved = read(), read(at=20)
    assert plain(moved) == plain(undisturbed) and len(moved) > 200
    assert json.loads(moved[-1][6:]) == {"type": "message_stop"}
    assert router.metric("verbatim_router_failovers_total", outcome="resumed") == 1
    wait_idle(router)
