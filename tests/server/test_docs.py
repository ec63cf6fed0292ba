"""/openapi.json and /docs: they say what the server does, all of it and nothing else, and load nothing."""

import re
from html.parser import HTMLParser

import pytest
from jsonschema import Draft202012Validator

from live_server import chat_body
from verbatim.server.api.policy import reading
from verbatim.server.app import create_app
from verbatim.server.docs.openapi import document

with reading("refuse"):  # as the shared server reads
    DOCUMENT = document("test")
SCHEMAS = DOCUMENT["components"]["schemas"]
MODEL = "verbatim-demo"
USER = {"role": "user", "content": "Hello"}
POSTS = [path for path, methods in DOCUMENT["paths"].items() if "post" in methods and "/debug/" not in path]
SMALL = {  # a body that each path answers at once
    "/v1/chat/completions": {"model": MODEL, "messages": [USER], "max_tokens": 2},
    "/v1/completions": {"model": MODEL, "prompt": "Hello", "max_tokens": 2},
    "/v1/responses": {"model": MODEL, "input": "Hello", "max_output_tokens": 16},
    "/v1/embeddings": {"model": MODEL, "input": "Hello"},
    "/tokenize": {"prompt": "Hello"},
    "/detokenize": {"tokens": [5, 6]},
}
CLASHES = {  # fields that exclude one of a small body, which then has to go
    "max_completion_tokens": "max_tokens",
    "messages": "prompt",
    "add_generation_prompt": "prompt",
    "continue_final_message": "prompt",
    "tools": "prompt",
    "tool_choice": "prompt",
    "parallel_tool_calls": "prompt",
}


def validate(value, schema: dict) -> None:
    Draft202012Validator(schema | {"components": {"schemas": SCHEMAS}}).validate(value)


def body_schema(path: str) -> dict:
    return DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]


def sample(schema: dict):
    """The plainest value that a schema allows."""
    if "anyOf" in schema:
        return sample(schema["anyOf"][0])
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    return {
        "integer": schema.get("minimum"),
        "number": schema.get("minimum"),
        "string": "a",
        "boolean": False,
        "array": [sample(schema["items"])] if schema.get("minItems") and "type" in schema.get("items", {}) else [],
        "object": {name: sample(schema["properties"][name]) for name in schema.get("required", ())},
    }[schema["type"]]


def test_every_route_is_there_and_no_other(monkeypatch):
    monkeypatch.setenv("VERBATIM_ENABLE_DEBUG", "true")
    app = create_app(name="docs")
    routes = {(method, "/" + route.path) for route in app.router.routes for method in route.methods}
    named = {(method, re.sub(r"<(\w+):\w+>", r"{\1}", path)) for method, path in routes}
    written = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert named == written and len(written) > 15


def test_the_document_is_sound(server):
    served = server.http.get("/openapi.json").json()
    assert served["openapi"] == "3.1.0" and served["paths"] == DOCUMENT["paths"]
    names = set(re.findall(r"#/components/schemas/(\w+)", str(DOCUMENT)))
    assert names == set(SCHEMAS)
    for path in POSTS:
        Draft202012Validator.check_schema(body_schema(path))
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("path", POSTS)
def test_every_field_is_one_that_the_server_knows(server, path):
    schema = body_schema(path)
    for name, of_field in schema["properties"].items():
        if name in SMALL[path]:
            continue
        body = SMALL[path] | {name: [USER] if name == "messages" else sample(of_field)}
        body.pop(CLASHES.get(name), None)
        if path == "/tokenize" and "prompt" not in body:
            body["messages"] = [USER]
        answer = server.http.post(path, json=body)
        code = answer.json()["error"]["code"] if answer.status_code != 200 and "error" in answer.text else None
        assert code not in ("unknown_parameter", "invalid_type", "unsupported_parameter"), (name, answer.text)
        validate(body, schema)
    assert server.http.post(path, json=SMALL[path] | {"banana": 1}).json()["error"]["code"] == "unknown_parameter"


@pytest.mark.parametrize("path", POSTS)
def test_answers_are_what_is_written(server, path):
    answers = DOCUMENT["paths"][path]["post"]["responses"]
    whole = server.http.post(path, json=SMALL[path])
    validate(whole.json(), answers["200"]["content"]["application/json"]["schema"])
    for body, status in (({}, 400), (SMALL[path] | {"model": "other"}, 404)):
        answer = server.http.post(path, json=body)
        assert answer.status_code == status
        validate(answer.json(), answers[str(status)]["content"]["application/json"]["schema"])


@pytest.mark.parametrize("path", ["/health", "/ready", "/v1/models", f"/v1/models/{MODEL}", "/metrics", "/", "/docs"])
def test_pages_that_are_asked_for(server, path):
    answer = server.http.get(path)
    written = DOCUMENT["paths"][path.replace(MODEL, "{model_id}")]["get"]["responses"]["200"]["content"]
    (media_type,) = written
    assert answer.status_code == 200 and answer.headers["content-type"].startswith(media_type)
    if media_type == "application/json":
        validate(answer.json(), written[media_type]["schema"])


class Page(HTMLParser):
    """Counts tags, and keeps what points elsewhere."""

    def __init__(self):
        super().__init__()
        self.tags, self.links = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("href", "src", "action")]


def test_the_page_shows_everything_and_loads_nothing(server):
    answer = server.http.get("/docs")
    page = Page()
    page.feed(answer.text)
    assert page.links == ["openapi.json"] and "script" not in page.tags
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for path, methods in DOCUMENT["paths"].items():
        for method in methods:
            assert f"<b>{method.upper()}</b> <code>{path}</code>" in answer.text
    for name in body_schema("/v1/chat/completions")["properties"]:
        assert f"<code>{name}</code>" in answer.text


def test_a_stream_is_what_is_written(server):
    with server.http.stream("POST", "/v1/chat/completions", json=chat_body(stream=True)) as stream:
        media_types = DOCUMENT["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["content"]
        assert any(stream.headers["content-type"].startswith(media_type) for media_type in media_types)
