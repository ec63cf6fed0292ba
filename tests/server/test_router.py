"""The router in front of two servers: what a client gets is what it would get from one of them."""

import json
import socket
from pathlib import Path

import pytest

from live_router import plain, routed, wait_idle
from live_server import chat_body, stream_events, wait_until

MODEL = "verbatim-demo"
SEEDED = {"temperature": 1, "seed": 7, "max_tokens": 12}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
POSTS = [
    ("/v1/chat/completions", chat_body(**SEEDED, n=2, logprobs=True, top_logprobs=2)),
    ("/v1/chat/completions", chat_body(tools=[TOOL], tool_choice="required", max_tokens=40)),
    ("/v1/completions", {"model": MODEL, "prompt": ["Hello", "One"], "echo": True, "logprobs": 1} | SEEDED),
    ("/v1/responses", {"model": MODEL, "input": "Hello", "max_output_tokens": 16, "seed": 3}),
    ("/v1/embeddings", {"model": MODEL, "input": ["Hello", "World"]}),
    ("/tokenize", {"prompt": "Hello"}),
    ("/detokenize", {"tokens": [5, 6]}),
    ("/v1/chat/completions", {"model": MODEL, "messages": []}),
    ("/v1/chat/completions", {"model": MODEL, "banana": 1}),
    ("/v1/chat/completions", chat_body(model="nobody")),
    ("/v1/chat/completions", []),
    ("/v1/nothing", {}),
]
GETS = ["/v1/models", f"/v1/models/{MODEL}", "/v1/models/nobody", "/openapi.json", "/docs", "/", "/v1/chat/completions"]


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    with routed(tmp_path_factory.mktemp("router"), (), ()) as router:
        yield router


@pytest.mark.parametrize(("path", "body"), POSTS)
def test_answers_are_those_of_a_server(router, path, body):
    through, direct = (server.http.post(path, json=body) for server in (router, router.servers[0]))
    assert (through.status_code, plain(through.content)) == (direct.status_code, plain(direct.content))
    assert dict(through.headers) | SKIPPED == dict(direct.headers) | SKIPPED


SKIPPED = {"x-request-id": "", "content-length": ""}


@pytest.mark.parametrize("path", GETS)
def test_pages_are_those_of_a_server(router, path):
    through, direct = (server.http.get(path) for server in (router, router.servers[0]))
    assert (through.status_code, through.content) == (direct.status_code, direct.content)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"model": 1e999}', b'{"a":' * 5000, b'{"seed":null}'])
def test_what_is_no_request_is_refused_as_a_server_refuses_it(router, content):
    headers = {"content-type": "application/json"}
    through, direct = (
        server.http.post("/v1/completions", content=content, headers=headers) for server in (router, router.servers[0])
    )
    assert (through.status_code, through.content) == (direct.status_code, direct.content) and direct.status_code == 400


STREAMS = [(path, body) for path, body in POSTS[:4]]


@pytest.mark.parametrize(("path", "body"), STREAMS)
def test_streams_are_those_of_a_server_chunk_by_chunk(router, path, body):
    body = body | {"stream": True}
    through, direct = (http_chunks(server.port, path, body) for server in (router, router.servers[0]))
    assert list(map(plain, through)) == list(map(plain, direct))
    assert len(through) > 5 and all(chunk.endswith(b"\n\n") for chunk in through)


def http_chunks(port: int, path: str, body: dict) -> list[bytes]:
    """The chunks of an answer as HTTP frames them."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    chunks = []
    with socket.create_connection(("127.0.0.1", port), 60) as sock, sock.makefile("rb") as file:
        sock.sendall(head.encode() + data)
        while file.readline() != b"\r\n":
            pass
        while size := int(file.readline(), 16):
            chunks.append(file.read(size))
            file.readline()
    return chunks


def test_a_request_without_a_seed_gets_another_one_each_time(router):
    body = chat_body(temperature=2, max_tokens=30)
    answers = [router.http.post("/v1/chat/completions", json=body).json() for _ in range(8)]
    texts = {answer["choices"][0]["message"]["content"] for answer in answers}
    assert len(texts) > 1
    assert router.http.post("/v1/chat/completions", json=chat_body() | {"seed": None}).status_code == 200


def test_a_request_keeps_its_id(router):
    answer = router.http.post("/v1/chat/completions", json=chat_body(), headers={"x-request-id": "mine-17"})
    assert answer.headers["x-request-id"] == "mine-17"
    assert any("request mine-17" in server.log for server in router.servers)
    assert len(router.chat().headers["x-request-id"]) == 36


def test_work_is_shared_out(router):
    before = [router.metric("verbatim_router_requests_total", endpoint=server.url) for server in router.servers]
    for _ in range(6):
        assert router.chat(max_tokens=1).status_code == 200
    after = [router.metric("verbatim_router_requests_total", endpoint=server.url) for server in router.servers]
    assert [b - a for a, b in zip(before, after, strict=True)] == [3, 3]
    assert router.metric("verbatim_router_errors_total") == 0


def test_the_busy_one_is_spared(router):
    with router.http.stream("POST", "/v1/chat/completions", json=chat_body(n=16, max_tokens=1900, stream=True)):
        busy = router.busy()
        before = router.metric("verbatim_router_requests_total", endpoint=busy.url)
        for _ in range(3):
            assert router.chat(max_tokens=1).status_code == 200
        assert router.metric("verbatim_router_requests_total", endpoint=busy.url) == before
    wait_idle(router)


@pytest.mark.parametrize("stream", [True, False])
def test_clients_that_leave_are_forgotten_everywhere(router, stream):
    data = json.dumps(chat_body(stream=stream, n=16, max_tokens=1900)).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
    for padding in (b"", b" " * 100_000):
        steps = sum(server.health()["steps"] for server in router.servers)
        sock = socket.create_connection(("127.0.0.1", router.port))
        sock.sendall(f"{head}{len(data) + len(padding)}\r\n\r\n".encode() + data + padding)
        wait_until(lambda steps=steps: sum(server.health()["steps"] for server in router.servers) > steps)
        assert router.metric("verbatim_router_requests_running") == 1
        sock.close()
        wait_idle(router)
        assert sum(server.health()["steps"] for server in router.servers) - steps < 1900
    assert router.metric("verbatim_router_requests_running") == 0


def test_kept_responses_are_found_where_they_are(router):
    with router.client() as client:
        for _ in range(3):  # whichever endpoint has the turn
            first = client.responses.create(model=MODEL, input="Hello", max_output_tokens=16)
            second = client.responses.create(
                model=MODEL, input="And?", previous_response_id=first.id, max_output_tokens=16
            )
            assert second.previous_response_id == first.id
            assert client.responses.retrieve(first.id).output_text == first.output_text
            assert len(client.responses.input_items.list(second.id).data) == 3
            client.responses.delete(first.id)
            assert router.http.get(f"/v1/responses/{first.id}").status_code == 404
    for server in router.servers:  # made without the router, which has to look for it
        made = server.http.post(
            "/v1/responses", json={"model": MODEL, "input": "Hello", "max_output_tokens": 16}
        ).json()
        assert router.http.get(f"/v1/responses/{made['id']}").json()["output"] == made["output"]
        body = {"model": MODEL, "input": "And?", "previous_response_id": made["id"], "max_output_tokens": 16}
        assert router.http.post("/v1/responses", json=body).status_code == 200
    missing = router.http.post("/v1/responses", json=body | {"previous_response_id": "resp_none"})
    assert missing.json()["error"]["code"] == "previous_response_not_found"


def test_openai_python_streams_through_it(router):
    with router.client() as client:
        messages = [{"role": "user", "content": "Reverse the words: green lamp river"}]
        whole = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=30)
        stream = client.chat.completions.create(
            model=MODEL, messages=messages, temperature=0, max_tokens=30, stream=True
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert text == whole.choices[0].message.content
        assert [model.id for model in client.models.list()] == [MODEL]


def test_connections_to_the_servers_are_kept(router):
    """Also after a stream, of which the last bytes come when the client has all that it wants."""
    for _ in router.servers:
        assert router.chat(max_tokens=1).status_code == 200
    before = [established(server.port) for server in router.servers]
    for _ in range(6):
        with router.http.stream("POST", "/v1/chat/completions", json=chat_body(stream=True)) as stream:
            assert list(stream_events(stream))[-1] == "[DONE]"
    assert [established(server.port) for server in router.servers] == before


def established(port: int) -> set[str]:
    """The connections to a port, by their other ends."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[2].endswith(f":{port:04X}") and row[3] == "01"}


def test_its_own_pages(router):
    assert router.http.get("/ready").json() == {"status": "ready"}
    health = router.http.get("/health").json()
    assert [endpoint["url"] for endpoint in health["endpoints"]] == [server.url for server in router.servers]
    answer = router.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    for name in ("requests_total", "errors_total", "retries_total", "failovers_total", "requests_running"):
        assert f"\nverbatim_router_{name}{{" in answer.text
    assert router.metric("verbatim_router_endpoint_ejected") == 0


def test_too_much_is_refused_by_the_router_itself(router):
    answer = router.http.post("/v1/completions", content=b" " * ((32 << 20) + 1))
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "request_too_large"


def test_models_of_all_and_keys(tmp_path):
    """Two servers with a model each, behind a key: the list is the union, and each is asked for its own only."""
    rows = (("--served-model-name", "one"), ("--served-model-name", "two"))
    with routed(tmp_path, *rows, VERBATIM_API_KEY="sk-1") as router:
        assert router.http.get("/v1/models").status_code == 401
        assert router.chat(model="one").json()["error"]["code"] == "invalid_api_key"
        router.http.headers["authorization"] = "Bearer sk-1"
        assert [model["id"] for model in router.http.get("/v1/models").json()["data"]] == ["one", "two"]
        for name in ("one", "two", "one", "two", "two"):
            assert router.chat(model=name, max_tokens=1).json()["model"] == name
            assert router.http.get(f"/v1/models/{name}").json()["id"] == name
        unknown = router.chat(model="three")
        assert unknown.status_code == 404 and unknown.json()["error"]["code"] == "model_not_found"
        body = chat_body(model="two", stream=True, max_tokens=3)
        with router.http.stream("POST", "/v1/chat/completions", json=body) as stream:
            assert list(stream_events(stream))[-1] == "[DONE]"


def test_headers_that_cannot_be_passed_on(router):
    with socket.create_connection(("127.0.0.1", router.port), 60) as sock, sock.makefile("rb") as file:
        sock.sendall(b"GET /v1/models/x HTTP/1.1\r\nHost: x\r\nX-Odd: \xff\r\n\r\n")
        assert b" 400 " in file.readline()
    assert router.metric("verbatim_router_errors_total") == 0


def test_a_foreign_name_that_leads_here_is_turned_away(router):
    """The endpoints would not see it: the router asks them by its own names."""
    page = {"sec-fetch-site": "same-origin"}
    for host, status in (("evil.example", 403), ("localhost:1", 200)):
        assert router.http.get("/v1/models", headers=page | {"host": host}).status_code == status
    assert router.http.get("/v1/models", headers={"host": "evil.example"}).status_code == 200
