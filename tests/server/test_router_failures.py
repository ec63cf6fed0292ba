"""Servers that die behind the router: the client gets its answer all the same, word for word."""

import json
import os
import re
import signal
import threading
import time

import httpx
import pytest

from live_router import (
    COMMAND,
    LIMITS,
    Miniature,
    Router,
    frozen,
    kill,
    kill_busy,
    plain,
    routed,
    start_again,
    wait_idle,
)
from live_server import chat_body, running, stream_events, wait_until

MODEL = "verbatim-demo"
LONG = {"temperature": 1, "seed": 11, "ignore_eos": True}
CHAT = chat_body(**LONG, n=3, max_tokens=1000)
SCORED = chat_body(**LONG, n=2, max_tokens=1000, logprobs=True, top_logprobs=1, stream_options={"include_usage": True})
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
        moved = read_stream(router, path, body, at=60, act=lambda: dead.append(kill_busy(router)))
        assert by_choice(moved) == by_choice(undisturbed)
        ids = {re.search(rb'"(?:id|item_id)":"(?:chatcmpl|cmpl|msg|resp)[-_](\w+)"', event)[1] for event in moved[:-1]}
        assert len(ids) == (2 if name == "response" else 1)
        assert router.metric("verbatim_router_failovers_total", outcome="resumed") == 1
        assert router.metric("verbatim_router_endpoint_ejected", endpoint=dead[0].url) == 1
        wait_idle(router)


def test_a_stream_moves_between_servers_that_cut_it_differently(tmp_path):
    """One speculates and so sends several tokens at once, the other never does; their texts are equal."""
    messages = [{"role": "user", "content": "Count from 1 to 30: 1 2 3 4 5 6 7 8 9 10 11 12"}]
    body = chat_body(messages=messages, temperature=0, max_tokens=600, logprobs=True)
    with routed(tmp_path, ("--speculative-mode", "ngram"), ()) as router:
        cut, even = (
            server.http.post("/v1/chat/completions", json=body | {"stream": True}) for server in router.servers
        )
        assert cut.text.count("\n\n") < even.text.count("\n\n")
        router.chat(max_tokens=1)  # it is the turn of the server that speculates
        if router.metric("verbatim_router_requests_total", endpoint=router.servers[0].url):
            router.chat(max_tokens=1)
        moved = read_stream(router, "/v1/chat/completions", body, at=40, act=lambda: kill(router.servers[0]))
        assert router.metric("verbatim_router_failovers_total", outcome="resumed") == 1
        assert said(moved) == said([line[6:].encode() for line in even.text.splitlines() if line])


def test_another_engine_resumes(tmp_path):
    """NumPy begins, dies, and C goes on: an answer does not depend on who computes it."""
    same = LIMITS[2:]
    with running("reference", tmp_path, *same) as numpy, running("fastpath", tmp_path, *same) as fast:
        for server in (numpy, fast):
            server.wait_ready()
        urls = f"{fast.url},{numpy.url}"
        made = Router("", tmp_path / "router.log", "--endpoint-urls", urls, command=COMMAND)
        try:
            made.wait_ready()  # the second in turn is asked first
            path, body = "/v1/chat/completions", chat_body(**LONG, max_tokens=300, logprobs=True, top_logprobs=2)
            moved = read_stream(made, path, body, at=15, act=lambda: kill(numpy))
            assert made.metric("verbatim_router_requests_total", endpoint=numpy.url) == 1
            assert made.metric("verbatim_router_failovers_total", outcome="resumed") == 1
            assert list(map(plain, moved)) == list(map(plain, read_stream(fast, path, body)))
        finally:
            made.close()


def said(events: list[bytes]) -> tuple:
    """Text, log-probabilities and end of a stream with one choice."""
    choices = [json.loads(event)["choices"][0] for event in events if event != b"[DONE]"]
    text = "".join(choice["delta"].get("content", "") for choice in choices)
    scores = [entry for choice in choices for entry in (choice["logprobs"] or {}).get("content", ())]
    return text, scores, choices[-1]["finish_reason"]


def test_a_response_that_has_moved_is_found_by_the_id_that_the_client_knows(tmp_path):
    with routed(tmp_path, (), ()) as router:
        events = read_stream(router, "/v1/responses", RESPONSE, at=60, act=lambda: kill_busy(router, seconds=1.1))
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
        events = read_stream(router, "/v1/chat/completions", body, at=60, act=lambda: kill_busy(router))
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
        body = chat_body(**LONG, n=4, max_tokens=1500)
        answers = []
        thread = threading.Thread(target=lambda: answers.append(router.http.post("/v1/chat/completions", json=body)))
        thread.start()
        wait_until(lambda: router.num_running() == 1)
        kill_busy(router)
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


def test_a_server_that_is_told_to_end_keeps_its_streams(tmp_path):
    with routed(tmp_path, (), ()) as router:
        path, body = BODIES["chat"]
        undisturbed, told = read_stream(router, path, body), []

        def end():
            with frozen(router) as busy:
                told.append(busy)
                busy.process.terminate()
            wait_until(lambda: router.metric("verbatim_router_endpoint_ejected") == 1, 10)
            assert router.chat(max_tokens=1).status_code == 200

        assert by_choice(read_stream(router, path, body, at=60, act=end)) == by_choice(undisturbed)
        assert told[0].process.wait(30) == 0


def test_answers_that_outlast_the_drain_are_told(tmp_path):
    with routed(tmp_path, ()) as servers:
        urls, limit = servers.servers[0].url, {"SANIC_GRACEFUL_SHUTDOWN_TIMEOUT": "3"}
        made = Router("", tmp_path / "second.log", "--endpoint-urls", urls, command=COMMAND, **limit)
        try:
            made.wait_ready().servers = servers.servers
            body = chat_body(**LONG, n=16, max_tokens=1900)
            events = read_stream(made, "/v1/chat/completions", body, at=20, act=made.process.terminate)
            assert json.loads(events[-1])["error"]["message"] == "The router is shutting down."
            assert made.process.wait(30) == 0
            wait_until(lambda: servers.servers[0].health()["running"] == 0)
        finally:
            made.close()


@pytest.mark.slow
def test_a_server_that_falls_silent_is_given_up(tmp_path):
    with routed(tmp_path, (), ()) as router:
        path, body = BODIES["chat"]
        undisturbed, silent = read_stream(router, path, body), []

        def stop():
            with frozen(router) as busy:
                silent.append(busy.process.pid)
            os.killpg(silent[0], signal.SIGSTOP)

        try:
            assert by_choice(read_stream(router, path, body, at=60, act=stop)) == by_choice(undisturbed)
        finally:
            os.killpg(silent[0], signal.SIGCONT)
        assert router.metric("verbatim_router_failovers_total", outcome="resumed") == 1


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """What a server says of itself, a request, and the events of its answer."""
    body = chat_body(**LONG, max_tokens=60)
    with running("fastpath", tmp_path_factory.mktemp("recorded"), *LIMITS) as server:
        events = read_stream(server.wait_ready(), "/v1/chat/completions", body)
        return server.http.get("/ready").content, body, events


LIES = {
    "nothing but the truth": lambda event: event,
    "another word": lambda event: event.replace(b'"content":"', b'"content":"x'),
    "an early end": lambda event: event.replace(b'"finish_reason":null', b'"finish_reason":"stop"'),
    "nonsense": lambda event: b"{nonsense",
    "another form": lambda event: b'{"choices":[[]]}',
    "another model": lambda event: event.replace(b"verbatim-0", b"verbatim-1"),
}


@pytest.mark.parametrize("lie", LIES)
def test_not_one_wrong_word_is_passed_on(tmp_path, recorded, lie):
    """Two servers show one fingerprint. One dies after 40 events; the other's twentieth is not what the first said."""
    ready, body, events = recorded
    with Miniature() as first, Miniature() as second:
        first.pages["/ready"] = second.pages["/ready"] = ready
        first.events, first.is_cut = events[:40], True
        second.events = [*events[:20], LIES[lie](events[20]), *events[21:]]
        urls = f"{first.url},{second.url}"
        made = Router("", tmp_path / "router.log", "--endpoint-urls", urls, command=COMMAND)
        try:
            made.wait_ready().chat(max_tokens=1)  # the second in turn is asked first
            assert (len(first.bodies), len(second.bodies)) == (0, 1)
            seen = read_stream(made, "/v1/chat/completions", body)
            assert (len(first.bodies), len(second.bodies)) == (1, 2)
        finally:
            made.close()
        if lie == "nothing but the truth":
            assert seen == events
        else:
            assert json.loads(seen.pop())["error"]["code"] == "engine_failed" and seen == events[:40]


def test_another_model_never_resumes(tmp_path):
    """Keys and values kept narrower give other bits, so the fingerprints differ."""
    rows = ((), ("--kv-cache-dtype", "bfloat16"))
    with routed(tmp_path, *rows, router=("--failover-seconds", "1")) as router:
        path, body = BODIES["chat"]
        events = read_stream(router, path, body, at=60, act=lambda: kill_busy(router))
        assert json.loads(events[-1])["error"]["code"] == "engine_unavailable"
        assert 60 <= len(events) < 3000
        assert router.metric("verbatim_router_failovers_total", outcome="failed") == 1
        assert router.chat().status_code == 200
        wait_idle(router)


def test_a_response_that_cannot_resume_ends_with_an_event_of_its_api(tmp_path):
    with routed(tmp_path, (), router=("--failover-seconds", "0")) as router:
        events = read_stream(router, "/v1/responses", RESPONSE, at=60, act=lambda: kill(router.servers[0]))
        last = json.loads(events[-1])
        assert last["type"] == "error" and last["code"] == "engine_unavailable"
        assert last["sequence_number"] == json.loads(events[-2])["sequence_number"] + 1


@pytest.mark.parametrize("is_cut", [False, True])
def test_servers_of_another_make(tmp_path, is_cut):
    """They are asked word for word, without a seed; nobody can resume their streams, and the client is told."""
    events = [b'{"choices":[{"delta":{"content":"%d"}}]}' % number for number in range(5)]
    with Miniature() as other:
        other.pages["/v1/models"] = b'{"object":"list","data":[{"id":"theirs","object":"model"}]}'
        other.events, other.is_cut = events, is_cut
        if is_cut:  # a page that says nothing to us
            other.pages["/ready"] = b"<html>Welcome</html>"
        made = Router("", tmp_path / "router.log", "--endpoint-urls", other.url, command=COMMAND)
        try:
            made.wait_ready()
            assert made.http.get("/v1/models").json()["data"][0]["id"] == "theirs"
            body = b' { "model" : "theirs", "stream" : true, "seed" : null } '
            answer = made.http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
            assert other.bodies == [body]
            lines = answer.text.split("\n\n")[:-1]
            assert [line.encode() for line in lines[:5]] == [b"data: " + event for event in events]
            assert len(lines) == (6 if is_cut else 5)
            if is_cut:
                assert json.loads(lines[5][6:])["error"]["code"] == "engine_unavailable"
            made.wait_ready()
            assert made.http.get("/nothing").status_code == 404
        finally:
            made.close()
