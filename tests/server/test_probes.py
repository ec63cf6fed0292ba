"""What programs ask before they ask for answers: versions, loads, HEAD, and paths with a slash at the end."""

import pytest

from verbatim.demo import MODEL

PAGES = ("/", "/health", "/ready", "/ping", "/version", "/load", "/metrics", "/v1/models", "/v1/models/verbatim-demo",
         "/tokenizer_info", "/docs", "/openapi.json")  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_head_is_get_without_a_body(server, path):
    head, whole = server.http.head(path), server.http.get(path)
    assert (head.status_code, whole.status_code) == (200, 200)
    assert head.content == b"" and head.headers.get("content-type") == whole.headers.get("content-type")


def test_a_head_of_what_is_not_there(server):
    assert server.http.head("/v1/models/other").status_code == 404
    assert server.http.head("/v1/chat/completions").status_code == 405


def test_slashes_at_the_end(server):
    assert server.http.get("/v1/models/").json() == server.http.get("/v1/models").json()
    assert server.http.get("/health/").status_code == 200
    body = {"model": "verbatim-demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
    assert server.http.post("/v1/chat/completions/", json=body).status_code == 200


def test_numbers(server):
    assert server.http.get("/ping").content == b""
    load = server.http.get("/load").json()
    assert load["server_load"] == load["running"] + load["waiting"] >= 0
    assert server.http.get("/version").json()["version"] in server.http.get("/openapi.json").json()["info"]["version"]


def test_the_tokenizer(server):
    info = server.http.get("/tokenizer_info").json()
    assert (info["bos_token"], info["eos_token"]) == ("<s>", "<|im_end|>")
    assert info["chat_template"] == (MODEL / "chat_template.jinja").read_text(encoding="utf-8")
    assert server.http.get("/tokenizer_info", params={"model": "verbatim-demo"}).json() == info
    assert server.http.get("/tokenizer_info", params={"model": "other"}).status_code == 404
