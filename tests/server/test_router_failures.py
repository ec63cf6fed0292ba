"""Servers that die behind the router: whoever waits for an answer gets it all the same, word for word."""

import json
import os
import re
import signal
import threading
import time

import httpx
import pytest
from live_router import kill, plain, routed, start_again, wait_idle
from live_server import chat_body, stream_events, wait_until

MODEL = "verbatim-demo"
LONG = {"temperature": 1, "seed": 11, "ignore_eos": True}
CHAT = chat_body(**LONG, n=3, max_tokens=1000)
SCORED = chat_body(**LONG, n=2, max_tokens=400, logprobs=True, top_logprobs=1, stream_options={"include_usage": True})
COMPLETION = {"model": MODEL, "prompt": ["Hello", "One", "Two"], "max_tokens": 900, "logprobs": 0} | LONG
RESPONSE = {"model": MODEL, "input": "Hello", "max_output_tokens": 1500} | LONG
BODIES = {
    "chat": ("/v1/chat/completions", CHAT),
    "scored": ("/v1/chat/completions", SCORED),
    "completion": ("/v1/completions", COMPLETION),
    "response": ("/v1/responses", RESPONSE),
}


def read_stream(router, path: str, body: dict, *, at: int = 0, act=None) -> list[bytes]:
    """The events of a stream without comments; `act` is called when so many have come."""
    events = []
    with router.http.stream("POST", path, json=body | {"stream": True}) as response:
        assert response.status_code == 200, response.read()
        for data in stream_events(response):
            events.append(data.encode())
            if act and len(events) == at:
                act()
    return events


def by_choice(events: list[bytes]) -> dict:
    """Chunks by choice, since in which order choices speak depends on load; events without a choice under None."""
    found = {}
    for event in map(plain, events):
        number = re.search(rb'"choices":\[\{"index":(\d+)', event)
        found.setdefault(number and int(number[1]), []).append(event)
    return found


@pytest.mark.parametrize("name", BODIES)
def test_a_stream_outlives_its_server(tmp_path, name):
    path, body = BODIES[name]
    with routed(tmp_path, (), ()) as router:
        undisturbed = read_stream(router, path, body)
        dead = []
        moved = read_stream(router, path, body, at=60, act=lambda: dead.append(router.busy()) or kill(dead[0]))
        assert by_choice(moved) == by_choice(undisturbed)
        ids = {re.search(rb'"(?:id|item_id)":"(?:chatcmpl|cmpl|msg|resp)[-_](\w+)"', event)[1] for event in moved[:-1]}
        assert len(ids) == (2 if name == "response" else 1)
        assert router.metric("verbatim_router_failovers_total", outcome="resumed") == 1
        assert router.metric("verbatim_router_endpoint_ejected", endpoint=dead[0].url) == 1
        wait_idle(router)


def test_a_response_that_has_moved_is_found_by_the_id_that_the_client_knows(tmp_path):
    with routed(tmp_path, (), ()) as router:
        events = read_stream(router, "/v1/responses", RESPONSE, at=60, act=lambda: kill(router.busy()))
        numbers = [json.loads(event)["sequence_number"] for event in events[:-1]]
        assert numbers == list(range(len(numbers)))
        last = json.loads(events[-2])["response"]
        assert json.loads(events[0])["response"]["id"] == last["id"]
        assert router.http.get(f"/v1/responses/{last['id']}").json() == last
        body = {"model": MODEL, "input": "And?", "previous_response_id": last["id"], "max_output_tokens": 16}
        following = router.http.post("/v1/responses", json=body).json()
        assert following["previous_response_id"] == last["id"]
        assert router.http.get(f"/v1/responses/{following['id']}").json() == following
        assert router.http.delete(f"/v1/responses/{last['id']}").json()["id"] == last["id"]


def test_without_a_seed_it_is_one_answer_all_the_same(tmp_path):
    """The router gives the seed: what comes after the move fits what came before it, checked token by token."""
    with routed(tmp_path, (), ()) as router:
        body = chat_body(temperature=1, max_tokens=1500)
        events = read_stream(router, "/v1/chat/completions", body, at=60, act=lambda: kill(router.busy()))
        assert events[-1] == b"[DONE]" and json.loads(events[-2])["choices"][0]["finish_reason"] == "length"
        assert len(events) > 1200
        assert router.metric("verbatim_router_failovers_total", outcome="resumed") == 1


def test_a_stream_waits_for_its_only_server(tmp_path):
    """The engine dies and is started again; meanwhile the client just waits. Then the whole server does the same."""
    with routed(tmp_path, ()) as router:
        path, body = BODIES["chat"]
        undisturbed = by_choice(read_stream(router, path, body))
        kill_engine = lambda: os.kill(router.servers[0].engine_pid(), signal.SIGKILL)  # noqa: E731
        assert by_choice(read_stream(router, path, body, at=60, act=kill_engine)) == undisturbed
        again = []

        def restart():
            kill(router.servers[0])
            again.append(start_again(router.servers[0]))

        try:
            assert by_choice(read_stream(router, path, body, at=60, act=restart)) == undisturbed
        finally:
            again[0].close()


def test_a_whole_answer_is_asked_for_again(tmp_path):
    with routed(tmp_path, (), ()) as router:
        body = chat_body(**LONG, n=16, max_tokens=1900)
        answers = []
        thread = threading.Thread(target=lambda: answers.append(router.http.post("/v1/chat/completions", json=body)))
        thread.start()
        wait_until(lambda: router.num_running() == 1)
        kill(router.busy())
        thread.join(60)
        alone = next(server for server in router.servers if server.process.poll() is None)
        direct = alone.http.post("/v1/chat/completions", json=body)
        assert (answers[0].status_code, plain(answers[0].content)) == (200, plain(direct.content))
        wait_idle(router)


def test_a_dead_server_is_passed_over_and_taken_back(tmp_path):
    with routed(tmp_path, (), ()) as router:
        dead = router.servers[0]
        kill(dead)
        assert [router.chat(max_tokens=1).status_code for _ in range(6)] == [200] * 6
        assert router.metric("verbatim_router_endpoint_ejected", endpoint=dead.url) == 1
        again = start_again(dead)
        try:
            router.servers[0] = again.wait_ready()
            wait_until(lambda: router.metric("verbatim_router_endpoint_ejected") == 0, 20)
            before = router.metric("verbatim_router_requests_total", endpoint=dead.url)
            assert [router.chat(max_tokens=1).status_code for _ in range(4)] == [200] * 4
            assert router.metric("verbatim_router_requests_total", endpoint=dead.url) == before + 2
        finally:
            again.close()


def test_nobody_is_left(tmp_path):
    with routed(tmp_path, ()) as router:
        kill(router.servers[0])
        for _ in range(3):
            answer = router.chat(max_tokens=1)
            assert answer.status_code == 503 and answer.headers["retry-after"]
            assert answer.json()["error"]["type"] == "server_error"
        assert router.http.get("/ready").status_code == 503
        assert router.http.get("/v1/models").status_code == 503
        assert router.http.get("/health").json()["endpoints"][0]["ready"] is False


@pytest.mark.parametrize("stream", [True, False])
def test_a_full_server_is_passed_over(tmp_path, stream):
    """One server has a queue of one place, which is taken behind the router's back."""
    row = ("--max-queue", "1", "--max-num-sequence", "1", "--prefill-chunk-size", "256")
    with routed(tmp_path, row, ()) as router:
        full = router.servers[0]
        stop = threading.Event()

        def fill():
            with httpx.Client(base_url=full.url, timeout=60) as client:
                while not stop.is_set():
                    client.post("/v1/chat/completions", json=chat_body(max_tokens=1900))

        threads = [threading.Thread(target=fill) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: full.health()["waiting"] == 1)
            deadline = time.monotonic() + 20
            while router.metric("verbatim_router_retries_total", endpoint=full.url) < 2:
                assert router.chat(max_tokens=2, stream=stream).status_code == 200
                assert time.monotonic() < deadline
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert router.metric("verbatim_router_endpoint_ejected") == 0


def test_another_model_never_goes_on(tmp_path):
    """Keys and values kept narrower give other bits, so the fingerprints differ."""
    rows = ((), ("--kv-cache-dtype", "bfloat16"))
    with routed(tmp_path, *rows, router=("--failover-seconds", "1")) as router:
        path, body = BODIES["chat"]
        events = read_stream(router, path, body, at=60, act=lambda: kill(router.busy()))
        assert json.loads(events[-1])["error"]["code"] == "engine_unavailable"
        assert 60 <= len(events) < 3000
        assert router.metric("verbatim_router_failovers_total", outcome="failed") == 1
        assert router.chat().status_code == 200
        wait_idle(router)


def test_a_response_that_cannot_go_on_ends_with_an_event_of_its_kind(tmp_path):
    with routed(tmp_path, (), router=("--failover-seconds", "0")) as router:
        events = read_stream(router, "/v1/responses", RESPONSE, at=60, act=lambda: kill(router.servers[0]))
        last = json.loads(events[-1])
        assert last["type"] == "error" and last["code"] == "engine_unavailable"
        assert last["sequence_number"] == json.loads(events[-2])["sequence_number"] + 1
