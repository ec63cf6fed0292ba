"""API keys and web pages of other origins: who may ask, who is turned away, and that no key is ever written down."""

import socket

import httpx
import openai
import pytest

from live_server import chat_body, running, wait_until

KEY, SECOND, FILED = "sk-one-5f2a", "sk-two-99be", "sk-filed-77c1"
PATHS = (
    ("GET", "/v1/models"),
    ("GET", "/v1/models/verbatim-demo"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("GET", "/no/such/url"),
    ("OPTIONS", "/v1/models"),
)
PAGE = {"origin": "https://page.example"}
WANTED = "authorization, content-type"
ASKING = PAGE | {"access-control-request-method": "POST", "access-control-request-headers": WANTED}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A server with keys from everywhere that they can come from."""
    directory = tmp_path_factory.mktemp("locked")
    path = directory / "keys.txt"
    path.write_text(f"# comment\n\n  {FILED}  \n")
    arguments = ("--api-key", KEY, "--api-key", f"{SECOND},sk-three", "--api-key-file", str(path))
    arguments += ("--allow-origins", '["https://page.example"]')
    with running("reference", directory, *arguments) as server:
        yield server.wait_ready()


def test_without_a_known_key_nothing_but_health_answers(locked):
    for headers in ({}, bearer("sk-wrong"), bearer(KEY[:-1]), {"authorization": KEY}, bearer("schlüssel")):
        encoded = {name: value.encode() for name, value in headers.items()}
        for method, path in PATHS:
            answer = locked.http.request(method, path, headers=encoded)
            assert answer.status_code == 401, (method, path)
            schemes = answer.headers.get_list("www-authenticate")  # on a line each: Chromium reads the first of a line
            assert schemes == ["Bearer", 'Basic realm="API key as password"'] and answer.headers["x-request-id"]
            error = answer.json()["error"]
            assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
            assert "sk-" not in error["message"]
    assert locked.http.get("/health").status_code == 200
    assert locked.http.head("/health/../v1/models").status_code in (401, 404, 405)


def test_every_key_opens(locked):
    for key in (KEY, SECOND, "sk-three", FILED):
        assert locked.http.get("/v1/models", headers=bearer(key)).status_code == 200
        assert locked.http.get("/v1/models", headers={"authorization": f"bearer  {key}"}).status_code == 200
    assert locked.http.get("/no/such/url", headers=bearer(KEY)).status_code == 404
    assert locked.http.get("/v1/models", auth=("anybody", KEY)).status_code == 200
    assert locked.http.get("/v1/models", auth=(KEY, "anything")).status_code == 401
    assert locked.http.get("/v1/models", headers={"authorization": "Basic !"}).status_code == 401
    client = openai.OpenAI(base_url=locked.url + "/v1", api_key=FILED, max_retries=0)
    assert client.chat.completions.create(**chat_body_of_openai()).choices[0].message.content
    with pytest.raises(openai.AuthenticationError) as caught:
        client.with_options(api_key="sk-wrong").models.list()
    assert caught.value.code == "invalid_api_key"


def chat_body_of_openai() -> dict:
    return {name: value for name, value in chat_body().items() if name != "ignore_eos"}


def test_a_body_without_a_key_is_not_read(locked):
    """The answer is there before the body has come."""
    head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", locked.port), timeout=20) as sock:
        sock.sendall(head.encode())
        assert sock.recv(100).startswith(b"HTTP/1.1 401 ")


def test_keys_stay_out_of_logs_and_answers(locked):
    for key in (KEY, "sk-wrong-1"):
        locked.http.get("/v1/models", headers=bearer(key))
        locked.http.post("/v1/completions", headers=bearer(key), json={"model": "verbatim-demo", "prompt": 3})
    assert "sk-" not in locked.log


def test_keys_from_the_environment(start):
    server = start("reference", VERBATIM_API_KEY=f"{KEY},{SECOND}").wait_ready()
    for key, status in ((KEY, 200), (SECOND, 200), ("x", 401)):
        assert server.http.get("/v1/models", headers=bearer(key)).status_code == status


@pytest.mark.parametrize("content", [None, b"", b"# nothing\n", b"\xff"])
def test_a_key_file_without_a_key_opens_no_server(start, tmp_path, content):
    path = tmp_path / "keys.txt"
    if content is not None:
        path.write_bytes(content)
    server = start("reference", "--api-key-file", str(path))
    wait_until(lambda: server.process.poll() is not None)
    assert server.process.returncode and "--api-key-file" in server.log and str(path) in server.log


def test_an_empty_variable_opens_no_server(start):
    server = start("reference", VERBATIM_API_KEY="")
    wait_until(lambda: server.process.poll() is not None)
    assert server.process.returncode and "VERBATIM_API_KEY" in server.log


def ask(server, key, **fields):
    body = {"model": "verbatim-demo", "max_output_tokens": 4, "temperature": 0} | fields
    return server.http.post("/v1/responses", json=body, headers=bearer(key))


def test_what_one_key_keeps_is_not_there_for_another(locked):
    """Nor does an answer say whether it exists."""
    kept = ask(locked, KEY, input="My name is Ada.").json()["id"]
    path = f"/v1/responses/{kept}"
    for key, status in ((SECOND, 404), (KEY, 200)):
        assert locked.http.get(path, headers=bearer(key)).status_code == status
        assert locked.http.get(f"{path}/input_items", headers=bearer(key)).status_code == status
        continued = ask(locked, key, input="What is it?", previous_response_id=kept)
        unknown = ask(locked, key, input="What is it?", previous_response_id=f"resp_{'0' * 32}")
        assert (continued.status_code == 200) == (key == KEY) and unknown.status_code != 200
        if key == SECOND:
            assert continued.json()["error"]["code"] == unknown.json()["error"]["code"]
    assert locked.http.delete(path, headers=bearer(SECOND)).status_code == 404
    assert locked.http.delete(path, headers=bearer(KEY)).status_code == 200


LONG = "Repeat these words: lamp river bird stone green blue old new house tree wind rain moon star " * 3
BEGINNING = 30  # tokens


def cached(server, key):
    """How many tokens of the same prompt this key's request finds in the cache."""
    answer = server.http.post("/v1/chat/completions", json=chat_body(LONG, max_tokens=1), headers=bearer(key)).json()
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_cached_beginnings_are_a_key_s_own(locked):
    """All that other prompts of the same key share with this one is the template's beginning."""
    assert [cached(locked, key) > BEGINNING for key in (KEY, SECOND, KEY, SECOND)] == [False, False, True, True]


def test_keys_may_share_cached_beginnings(start):
    server = start("reference", "--api-key", f"{KEY},{SECOND}", "--share-prefix-cache").wait_ready()
    assert [cached(server, key) > BEGINNING for key in (KEY, SECOND)] == [False, True]


def test_pages_of_a_named_origin(locked):
    preflight = locked.http.options("/v1/chat/completions", headers=ASKING)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == PAGE["origin"]
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["access-control-allow-headers"] == WANTED
    assert preflight.headers["vary"] == "Origin"
    actual = locked.http.get("/v1/models", headers=PAGE | bearer(KEY))
    assert actual.headers["access-control-allow-origin"] == PAGE["origin"]
    refused = locked.http.get("/v1/models", headers=PAGE)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE["origin"])
    stranger = {"origin": "https://stranger.example"}
    assert locked.http.options("/v1/models", headers=ASKING | stranger).status_code == 400
    answer = locked.http.get("/v1/models", headers=stranger | bearer(KEY))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin_not_allowed")
    assert "access-control-allow-origin" not in answer.headers and answer.headers["vary"] == "Origin"


def test_no_page_of_another_origin_by_default(server):
    preflight = server.http.options("/v1/chat/completions", headers=ASKING)
    assert preflight.status_code == 400 and "--allow-origins" in preflight.json()["error"]["message"]
    refused = server.http.get("/v1/models", headers=PAGE)
    assert (refused.status_code, "access-control-allow-origin" in refused.headers) == (403, False)
    assert "https://page.example" in refused.json()["error"]["message"]


LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ("POST", {"sec-fetch-site": "same-site", "origin": "http://localhost:1"}, 403),
        ("POST", {"origin": "null"}, 403),
        ("POST", LINK, 403),
        ("GET", LINK, 200),
        ("GET", {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}, 200),
        ("POST", {"sec-fetch-site": "same-origin", "origin": "http://{here}"}, 200),
        ("POST", {"origin": "http://{here}"}, 200),
        ("POST", {"sec-fetch-site": "same-origin", "host": "evil.example"}, 403),
        ("POST", {"sec-fetch-site": "same-origin", "host": "127.0.0.1.evil.example:8000"}, 403),
        ("POST", {"sec-fetch-site": "same-origin", "host": "app.localhost:8000"}, 200),
        ("POST", {"sec-fetch-site": "same-origin", "host": "[::1"}, 400),
        ("POST", {"sec-fetch-site": "same-origin", "host": "[::1]:8000"}, 200),
        ("POST", {"origin": "http://[::1"}, 403),
        ("POST", {"host": "evil.example"}, 200),
    ],
)
def test_what_a_browser_sends_for_a_page(server, method, headers, status):
    """A page of others may not ask, nor one whose name leads to this machine; links and programs may."""
    headers = {name: value.format(here=f"127.0.0.1:{server.port}") for name, value in headers.items()}
    path, body = ("/v1/models", None) if method == "GET" else ("/v1/chat/completions", chat_body(max_tokens=1))
    assert server.http.request(method, path, json=body, headers=headers).status_code == status


def test_a_name_behind_a_proxy(start):
    server = start("reference", "--allow-hosts", "chat.example,other.example").wait_ready()
    page = {"sec-fetch-site": "same-origin"}
    assert server.http.get("/v1/models", headers=page | {"host": "chat.example"}).status_code == 200
    refused = server.http.get("/v1/models", headers=page | {"host": "evil.example"})
    assert refused.status_code == 403 and "--allow-hosts" in refused.json()["error"]["message"]


def test_pages_of_any_origin(start):
    server = start("reference", "--allow-origins", "*").wait_ready()
    preflight = server.http.options("/v1/chat/completions", headers=ASKING)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, "*")
    with httpx.stream("POST", server.url + "/v1/chat/completions", json=chat_body(stream=True), headers=PAGE) as stream:
        assert stream.headers["access-control-allow-origin"] == "*"
        assert "x-request-id" in stream.headers["access-control-expose-headers"]
    assert server.http.get("/no/such/url", headers=PAGE).headers["access-control-allow-origin"] == "*"
    image = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}  # without an origin
    assert server.http.get("/v1/models", headers=image).status_code == 200
    assert "access-control-allow-origin" not in server.http.get("/v1/models").headers
    assert "access-control-allow-credentials" not in preflight.headers


def test_methods_headers_and_credentials(start):
    arguments = ("--allow-origins", PAGE["origin"], "--allow-credentials", "--allow-methods", "GET,POST")
    arguments += ("--allow-headers", "content-type")
    server = start("reference", *arguments).wait_ready()
    asking = ASKING | {"access-control-request-headers": "Content-Type"}
    allowed = server.http.options("/v1/models", headers=asking)
    assert allowed.status_code == 204
    assert allowed.headers["access-control-allow-credentials"] == "true"
    assert allowed.headers["access-control-allow-origin"] == PAGE["origin"]
    for other in (ASKING, asking | {"access-control-request-method": "PUT"}):
        assert server.http.options("/v1/models", headers=other).status_code == 400
