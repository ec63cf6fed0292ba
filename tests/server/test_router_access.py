"""What the router reads, of whom, and how much of it: strangers' bodies never, endpoints' answers within bounds."""

import asyncio
import json
import time

import aiohttp
import pytest
from aiohttp import web

from live_router import COMMAND, Miniature, MiniatureHandler, Router
from live_server import chat_body
from raw_http import connect, read_answer
from verbatim.router import bounded, stream
from verbatim.router.bounded import TooLongError

KEY = "sk-known-5f2a"
MODELS = json.dumps({"object": "list", "data": [{"id": "theirs", "object": "model"}]}).encode()


class Locked(Miniature):
    """A server that requires a key; it may redirect requests for its models. `seen` are the headers of GETs."""

    def __init__(self):
        super().__init__()
        self.RequestHandlerClass = LockedHandler
        self.elsewhere, self.seen = None, []


class LockedHandler(MiniatureHandler):
    """Its answers."""

    def do_GET(self):  # noqa: N802
        self.server.seen.append((self.path, dict(self.headers)))
        if self.server.elsewhere and self.path == "/v1/models" and "x-api-key" in self.headers:
            self.send_response(302)
            self.send_header("location", self.server.elsewhere)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        if self.path == "/ready":
            self.answer(404, "application/json", b"{}")
            return
        is_known = KEY in (self.headers.get("authorization", "").removeprefix("Bearer "), self.headers.get("x-api-key"))
        self.answer(200 if is_known else 401, "application/json", MODELS if is_known else b"{}")


@pytest.fixture
def locked():
    with Locked() as server:
        server.pages["/v1/models"] = MODELS
        server.events = [b'{"choices":[]}', b"[DONE]"]
        yield server


def routed(server, directory, *arguments):
    return Router("", directory / "router.log", "--endpoint-urls", server.url, *arguments, command=COMMAND)


def head(*fields: str, length: int = 30_000_000) -> bytes:
    lines = ["POST /v1/chat/completions HTTP/1.1", "Host: x", "Content-Type: application/json", *fields]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


@pytest.mark.parametrize("has_keys", [True, False])
def test_nobody_s_body_is_read_before_the_key_is_known(locked, tmp_path, has_keys):
    """The answer is there before the body has come: from the router's own keys, or from what an endpoint says."""
    router = routed(locked, tmp_path, *(("--api-key", KEY) if has_keys else ()))
    try:
        router.wait_ready()
        for field in ("X-A: 1", "Authorization: Bearer sk-wrong", "x-api-key: sk-wrong"):
            with connect(router) as sock, sock.makefile("rb") as file:
                sock.sendall(head(field))
                answer = read_answer(file)
                assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
        assert locked.bodies == []
        with connect(router) as sock, sock.makefile("rb") as file:
            sock.sendall(head(f"Authorization: Bearer {KEY}", length=99_000_000))
            answer = read_answer(file)
            assert (answer.status, answer.error["code"]) == (413, "request_too_large")
        for _ in range(3):
            headers = {"authorization": f"Bearer {KEY}"}
            answer = router.http.post("/v1/chat/completions", json=chat_body(stream=True), headers=headers)
            assert answer.status_code == 200 and answer.text.endswith("[DONE]\n\n")
        assert len(locked.bodies) == 3
        asked = [path for path, sent in locked.seen if sent.get("authorization") == f"Bearer {KEY}"]
        assert len(asked) == (0 if has_keys else 1), "what an endpoint has said of a key is remembered"
        assert router.http.get("/health").status_code == 200
        assert router.http.get("/metrics").status_code == (401 if has_keys else 200)
    finally:
        router.close()


def test_no_redirect_of_an_endpoint_is_followed(locked, tmp_path):
    with Locked() as thief:
        locked.elsewhere = thief.url + "/v1/models"
        router = routed(locked, tmp_path)
        try:
            router.wait_ready()
            for path in ("/v1/models", "/v1/models/theirs"):
                answer = router.http.get(path, headers={"x-api-key": KEY})
                assert answer.status_code in (302, 404, 200), path
            body = {"model": "theirs", "input": "a", "previous_response_id": "resp_1"}
            router.http.post("/v1/responses", json=body, headers={"x-api-key": KEY})
            assert thief.seen == [] and thief.bodies == []
        finally:
            router.close()


def test_long_lists_and_deep_bodies_are_refused_by_the_router_itself(locked, tmp_path):
    router = routed(locked, tmp_path, "--api-key", KEY, "--max-body-bytes", "3000000")
    try:
        router.wait_ready()
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        for body, code in ((b"[" * 1000, "nested_too_deep"), (b"[" + b"1," * 1_000_000 + b"1]", "too_many_values")):
            answer = router.http.post("/v1/chat/completions", content=body, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
        answer = router.http.post("/v1/chat/completions", content=b" " * 3_000_001, headers=headers)
        assert answer.status_code == 413 and "3000000" in answer.json()["error"]["message"]
        assert locked.bodies == []
    finally:
        router.close()


def test_what_an_endpoint_sends_is_bounded(monkeypatch):
    """A page, a whole answer, and an event that has no end; nothing is read beyond the bound."""
    monkeypatch.setattr(stream, "MAX_EVENT_BYTES", 1 << 20)

    async def endless(request):
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * (1 << 16))
        except ConnectionError:
            return response

    async def run():
        app = web.Application()
        app.router.add_get("/", endless)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        async with aiohttp.ClientSession() as session:
            async with bounded.get(session, url) as answer:
                with pytest.raises(TooLongError, match="1000 bytes"):
                    await bounded.read(answer, 1000)
            async with bounded.get(session, url) as answer:
                with pytest.raises(TooLongError, match=f"{1 << 20} bytes"):
                    async for _ in stream.events_of(answer.content, keeps_rest=True):
                        pass
                answer.close()
        await runner.shutdown()

    began = time.monotonic()
    asyncio.run(asyncio.wait_for(run(), 60))
    assert time.monotonic() - began < 30
