"""/openapi.json and /docs: they say what the server does, all of it and nothing else, and load nothing."""

import gzip
import re
from hashlib import sha256

import pytest
from jsonschema import Draft202012Validator

from browser import browse
from live_server import chat_body
from verbatim.server.api.policy import reading
from verbatim.server.api.registry import ADAPTERS
from verbatim.server.app import create_app
from verbatim.server.docs.openapi import document
from verbatim.server.docs.page import VENDOR

with reading("refuse"):  # as the shared server reads
    DOCUMENT = document("test")
SCHEMAS = DOCUMENT["components"]["schemas"]
MODEL = "verbatim-demo"
CHAT_PATH = "[data-path='/v1/chat/completions']"
USER = {"role": "user", "content": "Hello"}
OF_DEBUGGING = ("/debug/", "/v1/load_lora_adapter", "/v1/unload_lora_adapter")  # test_debug.py, test_lora.py
# The demo model refuses /infill, test_infill.py has another one; /v1/verify needs a receipt: test_receipts.py.
OTHERS = (*OF_DEBUGGING, "/infill", "/v1/verify")
POSTS = [path for path, ways in DOCUMENT["paths"].items() if "post" in ways and not path.startswith(OTHERS)]
SMALL = {  # a body that each path answers at once
    "/v1/chat/completions": {"model": MODEL, "messages": [USER], "max_tokens": 2},
    "/v1/completions": {"model": MODEL, "prompt": "Hello", "max_tokens": 2},
    "/v1/responses": {"model": MODEL, "input": "Hello", "max_output_tokens": 16},
    "/v1/responses/input_tokens": {"model": MODEL, "input": "Hello"},
    "/v1/embeddings": {"model": MODEL, "input": "Hello"},
    "/v1/messages": {"model": MODEL, "messages": [USER], "max_tokens": 2},
    "/v1/messages/count_tokens": {"model": MODEL, "messages": [USER]},
    "/v1/rerank": {"model": MODEL, "query": "Hello", "documents": ["Hi", "No"]},
    "/rerank": {"model": MODEL, "query": "Hello", "documents": ["Hi", "No"]},
    "/v1/score": {"model": MODEL, "text_1": "Hello", "text_2": ["Hi", "No"]},
    "/score": {"model": MODEL, "text_1": "Hello", "text_2": ["Hi", "No"]},
    "/api/chat": {"model": MODEL, "messages": [USER], "stream": False, "options": {"num_predict": 2}},
    "/api/generate": {"model": MODEL, "prompt": "Hello", "stream": False, "options": {"num_predict": 2}},
    "/api/embed": {"model": MODEL, "input": "Hello"},
    "/api/embeddings": {"model": MODEL, "prompt": "Hello"},
    "/api/show": {"model": MODEL},
    "/api/pull": {"model": MODEL},
    "/tokenize": {"prompt": "Hello"},
    "/detokenize": {"tokens": [5, 6]},
}
OF_SOME_MODELS = ("suffix",)  # which the demo model refuses by name
CLASHES = {  # fields that exclude one of a small body, which then has to go
    "max_completion_tokens": "max_tokens",
    "messages": "prompt",
    "add_generation_prompt": "prompt",
    "continue_final_message": "prompt",
    "chat_template_kwargs": "prompt",
    "documents": "prompt",
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
    type_ = schema["type"][0] if isinstance(schema["type"], list) else schema["type"]
    return {
        "null": None,
        "integer": schema.get("minimum"),
        "number": schema.get("minimum"),
        "string": "a",
        "boolean": False,
        "array": [sample(schema["items"])] if schema.get("minItems") and "type" in schema.get("items", {}) else [],
        "object": {name: sample(schema["properties"][name]) for name in schema.get("required", ())},
    }[type_]


def test_every_route_is_there_and_no_other(monkeypatch):
    monkeypatch.setenv("VERBATIM_ENABLE_DEBUG", "true")
    app = create_app(name="docs")
    routes = {(method, "/" + route.path) for route in app.router.routes for method in route.methods}
    pages = {path for method, path in routes if method == "GET"}
    assert pages == {path for method, path in routes if method == "HEAD"}
    routes -= {("HEAD", path) for path in pages}
    named = {(method, re.sub(r"<(\w+):\w+>", r"{\1}", path)) for method, path in routes}
    written = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    refused = {(page.method, page.path) for adapter in ADAPTERS for page in adapter.pages if not page.answer}
    assert named == written | refused and len(written) > 15


def test_the_document_is_sound(server):
    served = server.http.get("/openapi.json").json()
    assert served["openapi"] == "3.1.0" and served["paths"] == DOCUMENT["paths"]
    names = set(re.findall(r"#/components/schemas/(\w+)", str(DOCUMENT)))
    assert names == set(SCHEMAS)
    for path in POSTS:
        Draft202012Validator.check_schema(body_schema(path))
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)


def error_code(answer) -> str | None:
    """Ollama's errors are a text, beside which the code stands."""
    body = answer.json()
    return (body["error"] if isinstance(body["error"], dict) else body)["code"]


@pytest.mark.parametrize("path", POSTS)
def test_every_field_is_one_that_the_server_knows(server, path):
    schema = body_schema(path)
    for name, of_field in schema["properties"].items():
        if name in SMALL[path] or name in OF_SOME_MODELS:
            continue
        body = SMALL[path] | {name: [USER] if name == "messages" else sample(of_field)}
        body.pop(CLASHES.get(name), None)
        if path == "/tokenize" and "prompt" not in body:
            body["messages"] = [USER]
        answer = server.http.post(path, json=body)
        code = error_code(answer) if answer.status_code != 200 and "error" in answer.text else None
        assert code not in ("unknown_parameter", "invalid_type", "unsupported_parameter"), (name, answer.text)
        validate(body, schema)
    assert error_code(server.http.post(path, json=SMALL[path] | {"banana": 1})) == "unknown_parameter"


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


def without_help(schema, path):
    """Paths of fields without a description or an example.

    An object's fields have examples of their own, and what is not supported can only be null.
    """
    for name, field in schema.get("properties", {}).items():
        where, variants = f"{path}.{name}", [field, *field.get("anyOf", ())]
        if not field.get("description"):
            yield f"{where}: description"
        is_known = field.get("type") == "null" or "$ref" in field or any("properties" in item for item in variants)
        if "examples" not in field and not is_known:
            yield f"{where}: example"
        yield from without_help(field, where)
    for part in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())):
        yield from without_help(part, path)


def test_every_field_is_described_and_has_an_example():
    schemas = SCHEMAS | {path: body_schema(path) for path in DOCUMENT["paths"] if "post" in DOCUMENT["paths"][path]}
    assert [hole for name, schema in schemas.items() for hole in without_help(schema, name)] == []
    parameters = [
        each for methods in DOCUMENT["paths"].values() for way in methods.values() for each in way.get("parameters", ())
    ]
    assert len(parameters) >= 6 and all(each["description"] and each["schema"] for each in parameters)


@pytest.mark.parametrize("path", POSTS)
def test_what_there_is_to_try_is_answered(server, path):
    examples = server.http.get("/openapi.json").json()["paths"][path]["post"]["requestBody"]["content"]
    bodies = [example["value"] for example in examples["application/json"]["examples"].values()]
    assert bodies and all(server.http.post(path, json=body).status_code == 200 for body in bodies)


def test_swagger_ui_is_the_file_that_its_authors_built():
    written = (VENDOR / "README.md").read_text()
    files = {path.name: gzip.decompress(path.read_bytes()) for path in VENDOR.glob("*.gz")}
    assert set(files) == {"swagger-ui-bundle.js.gz", "swagger-ui.css.gz"}
    assert all(f"| `{name}` |" in written and sha256(content).hexdigest() in written for name, content in files.items())
    assert "Apache License" in (VENDOR / "LICENSE").read_text()


def test_files_of_the_page_are_small_on_the_way_and_kept(server):
    text = server.http.get("/docs").text
    names = re.findall(r'(?:src|href)="(docs/[^"]+)"', text)
    assert len(names) == 4 and "http" not in text
    for name in names:
        packed, plain = (server.http.get(f"/{name}", headers={"accept-encoding": way}) for way in ("gzip", "identity"))
        assert packed.content == plain.content and packed.headers["content-encoding"] == "gzip"
        assert int(packed.headers["content-length"]) < 500_000 and "content-encoding" not in plain.headers
        assert "immutable" in packed.headers["cache-control"] and "accept-encoding" in packed.headers["vary"]
    assert server.http.get("/docs/start.css").status_code == 404


@pytest.mark.parametrize("server", ["fastpath"], indirect=True)
def test_the_page_in_a_browser(server, tmp_path):
    """Names are whole, nothing comes from elsewhere, and trying an operation is answered."""
    assert "default-src 'none'" in server.http.get("/docs").headers["content-security-policy"]
    with browse(tmp_path) as page:
        page.resize(1200, 800)
        page.call("Page.navigate", url=f"{server.url}/docs")
        page.wait("!!document.querySelector(PATH)".replace("PATH", repr(CHAT_PATH)))
        page.run("document.querySelector(PATH).click()".replace("PATH", repr(CHAT_PATH)))
        page.wait("document.querySelector('.try-out__btn') && document.body.innerText.includes('likeliest token')")
        shown = page.run("document.body.innerText")
        operations = [(m.upper(), path) for path, methods in DOCUMENT["paths"].items() for m in methods]
        assert all(f"{method}\n{path}\n" in shown.replace("\u200b", "") for method, path in operations)
        fields = body_schema("/v1/chat/completions")["properties"]
        assert [name for name in fields if not re.search(rf"(?m)^{name}(Expand|Collapse) all", shown)] == []
        texts = [field["description"].replace("`", "") for field in fields.values()]
        assert [text for text in texts if text not in shown] == []
        page.run("document.querySelector('.try-out__btn').click()")
        page.wait("!!document.querySelector('.execute')")
        page.run("document.querySelector('.execute').click()")
        page.wait("document.querySelector('.live-responses-table')?.innerText.includes('I am Echo')")
        assert page.run("document.querySelector('.live-responses-table tbody').innerText").startswith("200\t")
        assert page.errors == []
        assert {url.split("/")[2] for url in page.urls if not url.startswith("data:")} == {server.url.split("/")[2]}


def test_a_stream_is_what_is_written(server):
    with server.http.stream("POST", "/v1/chat/completions", json=chat_body(stream=True)) as stream:
        media_types = DOCUMENT["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["content"]
        assert any(stream.headers["content-type"].startswith(media_type) for media_type in media_types)
