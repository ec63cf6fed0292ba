"""Our endpoints as OpenAPI 3.1 has them: what each takes, what it answers, and with which codes.

Paths of APIs come from their adapters, bodies from the declarations of their fields. `/openapi.json` gives the page to
programs, `/docs` shows it to people.
"""

from collections.abc import Mapping
from typing import Any

from verbatim.server.api import lora, registry
from verbatim.server.api.adapter import Adapter, Page
from verbatim.server.api.fields import Field, Object, answer, required
from verbatim.server.api.tokens import DETOKENIZE, EXAMPLES, MODEL, TOKENIZE
from verbatim.server.api.tokens import SCHEMAS as TOKEN_SCHEMAS
from verbatim.server.api.value_types import (
    ANYTHING,
    NULLABLE_STRING,
    OBJECT,
    STRING,
    ValueType,
    integer,
    one_of,
    reference,
)
from verbatim.server.docs.page import MEDIA_TYPES
from verbatim.server.engine.debugging import COMMANDS

JSON = "application/json"
EXAMPLE_ID = "verbatim-demo"
ABOUT = """The same words on every engine: OpenAI's API over a model of your own.

Open an operation, press **Try it out**, choose an example and press **Execute**: the answer comes from this server,
with a `curl` line above it. If the server asks for a key, press **Authorize** first."""
PARAMETERS = {
    "model_id": "The id of a model.", "response_id": "The id of a kept response.", "name": "The name of the file.",
}  # fmt: skip
TITLES = {
    "400": "The request cannot be done; `param` names the field.",
    "401": "No API key, or none of this server's.",
    "403": "A web page of another origin asks, or by a name that is none of the server's.",
    "404": "There is no such model, or no such response.",
    "408": "The body stopped half way, for as long as the server waits.",
    "413": "The body is above 32 MiB.",
    "429": "The queue is full; try again after `Retry-After` seconds.",
    "500": "The server failed on this request.",
    "503": "There is no engine just now; try again after `Retry-After` seconds.",
    "504": "The answer took longer than `--request-timeout`.",
}
ERROR = answer(
    required("message", STRING, "What is wrong: the field, the value and the bound.", "n must be at least 1, not 0"),
    required("type", STRING, "The class of the error.", "invalid_request_error"),
    required("param", NULLABLE_STRING, "The field at fault.", "n"),
    required("code", NULLABLE_STRING, "The error in a word, for programs.", "integer_below_min_value"),
)
MODELS = ValueType(ANYTHING.read, {"type": "array", "items": reference("Model")})
EXAMPLE_MODEL = {"id": EXAMPLE_ID, "object": "model", "created": 1764460800, "owned_by": "verbatim"}
OWN_SCHEMAS = {  # of what belongs to no API
    "Model": answer(
        required("id", STRING, "What requests give as `model`.", EXAMPLE_ID),
        required("object", one_of("model"), "The type of the object."),
        required("created", integer(0), "When its files were last changed, in seconds since 1970.", 1764460800),
        required("owned_by", STRING, "Always the same.", "verbatim"),
        required("max_model_len", integer(1), "Tokens of an answer with its prompt, at most.", 2048),
    ),
    "Models": answer(
        required("object", one_of("list"), "The type of the answer."),
        required("data", MODELS, "The models, the main one first.", [EXAMPLE_MODEL | {"max_model_len": 2048}]),
    ),
    "Health": answer(required("status", STRING, "`ready` if a request would be taken now.", "ready")),
    "Load": answer(
        required("server_load", integer(0), "The sum of both.", 3),
        required("running", integer(0), "Sequences that run.", 2),
        required("waiting", integer(0), "Sequences that wait.", 1),
    ),
    "Version": answer(required("version", STRING, "The version of verbatim.", "0.1.0")),
    "Error": answer(required("error", ValueType(ANYTHING.read, ERROR), "What went wrong.")),
}
EVENTS = {
    "description": "A stream: server-sent events or lines, each with one JSON object."
}  # of no type that a schema has
READING = ("400", "401", "404", "408", "413")
GENERATING = (*READING, "429", "500", "503", "504")


def operation(
    tag: str, summary: str, content: dict, *codes: str, body: dict | None = None, error: str = "Error", **more: Any
) -> dict:
    """One method of a path: `content` maps types of the answer to schemas, `body` is that of `body_of`.

    What needs a key is closed to web pages of others too: "401" stands for 403 as well.
    `error` is the name of the schema of errors.
    """
    codes = tuple(dict.fromkeys(every for code in codes for every in ((code, "403") if code == "401" else (code,))))
    failures = {code: {"description": TITLES[code], "content": {JSON: {"schema": reference(error)}}} for code in codes}
    contents = {media_type: {"schema": schema} for media_type, schema in content.items()}
    responses = {"200": {"description": "Done.", "content": contents}} | failures
    return {"tags": [tag], "summary": summary, "responses": responses} | more | ({"requestBody": body} if body else {})


def body_of(declared: Object, examples: Mapping[str, dict], model_id: str) -> dict:
    """A body by its fields, with bodies to try: each for the model of this server."""
    tried = {title: {"summary": title, "value": {"model": model_id} | body} for title, body in examples.items()}
    return {"required": True, "content": {JSON: {"schema": declared.schema, "examples": tried}}}


def schemas() -> dict[str, dict]:
    """All schemas that others refer to by name."""
    found = OWN_SCHEMAS | TOKEN_SCHEMAS
    for adapter in registry.ADAPTERS:
        found |= adapter.schemas
    return found


def of_api(adapter: Adapter, model_id: str) -> dict[str, dict]:
    """The paths of one API."""
    stream_type = adapter.media_type.partition(";")[0]
    content = {JSON: reference(adapter.answer)} | ({stream_type: EVENTS} if adapter.streams else {})
    body, tag = body_of(adapter.body, adapter.examples, model_id), adapter.name.partition("_")[0].capitalize()
    paths = {
        adapter.path: {"post": operation(tag, adapter.summary, content, *GENERATING, body=body, error=adapter.error)}
    }
    for page in filter(lambda page: page.answer, adapter.pages):
        paths.setdefault(page.path, {})[page.method.lower()] = of_page(tag, page, model_id, adapter.error)
    return paths


def of_page(tag: str, page: Page, model_id: str, error: str) -> dict:
    """A page of an API: its path has one parameter and its query those that it declares, or it has a body."""
    content = {JSON: reference(page.answer)}
    if page.body is not None:
        body = body_of(page.body, page.examples, model_id)
        return operation(tag, page.summary, content, *page.codes, body=body, error=error)
    query = [{"name": field.name, "in": "query", "schema": field.type.schema} | about(field) for field in page.query]
    parameters = [*place(page.path, "resp_0123456789abcdef"), *query]
    return operation(tag, page.summary, content, *page.codes, parameters=parameters, error=error)


def about(field: Field) -> dict:
    """What a parameter says beside its schema."""
    return {"description": field.description, "example": field.schema["examples"][0]}


def place(path: str, example: str) -> list[dict]:
    """The parameter of a path."""
    name = path.partition("{")[2].partition("}")[0]
    described = {"description": PARAMETERS[name], "example": example}
    return [{"name": name, "in": "path", "required": True, "schema": STRING.schema} | described]


def of_server(model_id: str) -> dict[str, dict]:
    """The paths that belong to no API, those of pages for people left out."""
    models, model, health = reference("Models"), "/v1/models/{model_id}", {JSON: reference("Health")}
    by_id, load = place(model, model_id), {JSON: reference("Load")}
    return {
        "/v1/models": {"get": operation("Models", "The models", {JSON: models}, "401")},
        model: {"get": operation("Models", "One model", {JSON: reference("Model")}, "401", "404", parameters=by_id)},
        "/health": {"get": operation("Health", "The engine's counts", health, "503", security=[])},
        "/ready": {"get": operation("Health", "Would a request be taken now?", health, "503", security=[])},
        "/ping": {"get": operation("Health", "The same without a body", {}, "503", security=[])},
        "/load": {"get": operation("Health", "Sequences that run and wait", load, "503", security=[])},
        "/version": {"get": operation("Health", "The server's version", {JSON: reference("Version")}, security=[])},
        "/tokenizer_info": {"get": operation("Tokens", "The tokenizer", {JSON: OBJECT.schema}, "401", "404")},
        "/metrics": {"get": operation("Health", "Numbers for Prometheus", {"text/plain": STRING.schema}, "401")},
    }


def of_tokens(model_id: str) -> dict[str, dict]:
    """Text to ids and back."""
    texts, ids = body_of(TOKENIZE, EXAMPLES, model_id), body_of(DETOKENIZE, {"Two ids": {"tokens": [5, 6]}}, model_id)
    return {
        "/tokenize": {"post": operation("Tokens", "Text to ids", {JSON: reference("Tokens")}, *READING, body=texts)},
        "/detokenize": {"post": operation("Tokens", "Ids to text", {JSON: reference("Text")}, *READING, body=ids)},
    }


def of_ollama() -> dict[str, dict]:
    """What Ollama's clients ask first."""
    models, version = {JSON: reference("OllamaModels")}, {JSON: reference("OllamaVersion")}
    return {
        "/api/tags": {"get": operation("Ollama", "The models, in Ollama's form", models, "401")},
        "/api/ps": {"get": operation("Ollama", "The models that are loaded, which are all", models, "401")},
        "/api/version": {"get": operation("Ollama", "The version of Ollama's API", version, "401")},
    }


def of_pages() -> dict[str, dict]:
    """The pages for people, and this one for programs."""
    page = {"text/html; charset=utf-8": STRING.schema}
    file = dict.fromkeys(MEDIA_TYPES.values(), STRING.schema)
    by_name = place("/docs/{name}", "start.js")
    return {
        "/": {"get": operation("Pages", "The page to chat with the model", page, "401")},
        "/docs": {"get": operation("Pages", "This, for people", page, "401")},
        "/docs/{name}": {"get": operation("Pages", "A file of that page", file, "401", "404", parameters=by_name)},
        "/openapi.json": {"get": operation("Pages", "This, for programs", {JSON: OBJECT.schema}, "401")},
    }


def of_debugging(model_id: str) -> dict[str, dict]:
    """What --enable-debug offers."""
    body, paths = body_of(Object(MODEL), {"The main model": {}}, model_id), {}
    for command in COMMANDS:
        summary = f"{command.replace('_', ' ').capitalize()} (with --enable-debug)"
        made = operation("Debugging", summary, {JSON: {}}, *READING, "503", body=body)
        paths[f"/debug/{command}"] = {"post": made}
    for command, wanted in lora.COMMANDS.items():
        summary, body = f"{command.replace('_', ' ').capitalize()} (with --enable-debug)", body_of(wanted, {}, model_id)
        paths[f"/v1/{command}"] = {"post": operation("Debugging", summary, {JSON: {}}, *READING, "503", body=body)}
    return paths


def document(version: str, model_id: str = EXAMPLE_ID) -> dict:
    """The whole page for this server's version; its examples name the model `model_id`."""
    paths: dict[str, dict] = {}
    for adapter in registry.ADAPTERS:
        paths |= of_api(adapter, model_id)
    paths |= of_tokens(model_id) | of_server(model_id) | of_ollama() | of_pages() | of_debugging(model_id)
    key = {"type": "http", "scheme": "bearer", "description": "One of the server's keys, if it asks for one."}
    return {
        "openapi": "3.1.0",
        "info": {"title": "verbatim", "version": version, "description": ABOUT},
        "paths": paths,
        "components": {"schemas": schemas(), "securitySchemes": {"key": key}},
        "security": [{"key": []}],
    }
