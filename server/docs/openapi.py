"""Our endpoints as OpenAPI 3.1 has them: what each takes, what it answers, and with which codes.

Paths of APIs come from their adapters, bodies from the declarations of their fields. `/openapi.json` gives the page to
programs, `/docs` shows it to people.
"""

from typing import Any

from verbatim.server.api import registry
from verbatim.server.api.adapter import Adapter, Page
from verbatim.server.api.fields import Object
from verbatim.server.api.tokens import DETOKENIZE, MODEL, TOKENIZE
from verbatim.server.api.tokens import SCHEMAS as TOKEN_SCHEMAS
from verbatim.server.api.value_types import OBJECT, STRING, integer, reference
from verbatim.server.engine.debugging import COMMANDS

JSON = "application/json"
TITLES = {
    "400": "The request cannot be done; `param` names the field.",
    "401": "No API key, or none of this server's.",
    "404": "There is no such model, or no such response.",
    "408": "The body stopped half way, for as long as the server waits.",
    "413": "The body is above 32 MiB.",
    "429": "The queue is full; try again after `Retry-After` seconds.",
    "500": "The server failed on this request.",
    "503": "There is no engine just now; try again after `Retry-After` seconds.",
    "504": "The answer took longer than `--request-timeout`.",
}
MAYBE = {"anyOf": [STRING.schema, {"type": "null"}]}
ERROR = {
    "type": "object",
    "required": ["message", "type", "param", "code"],
    "properties": {"message": STRING.schema, "type": STRING.schema, "param": MAYBE, "code": MAYBE},
}
OF_MODEL = {"id": STRING.schema, "object": {"const": "model"}, "created": integer(0).schema}
OWN_SCHEMAS = {  # of what belongs to no API
    "Model": {
        "type": "object",
        "required": ["id", "object", "created", "owned_by", "max_model_len"],
        "properties": OF_MODEL | {"max_model_len": integer(1).schema},
    },
    "Models": {
        "type": "object",
        "required": ["object", "data"],
        "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": reference("Model")}},
    },
    "Health": {"type": "object", "required": ["status"], "properties": {"status": STRING.schema}},
    "Error": {"type": "object", "required": ["error"], "properties": {"error": ERROR}},
}
EVENTS = {"description": "Server-sent events, each with one JSON object as its data."}  # of no type that a schema has
READING = ("400", "401", "404", "408", "413")
GENERATING = (*READING, "429", "500", "503", "504")


def operation(summary: str, answer: dict, *codes: str, body: Object | None = None, **more: Any) -> dict:
    """One method of a path: `answer` maps types of content to schemas."""
    failures = {
        code: {"description": TITLES[code], "content": {JSON: {"schema": reference("Error")}}} for code in codes
    }
    contents = {media_type: {"schema": schema} for media_type, schema in answer.items()}
    made = {"summary": summary, "responses": {"200": {"description": "Done.", "content": contents}} | failures} | more
    return made | ({"requestBody": {"required": True, "content": {JSON: {"schema": body.schema}}}} if body else {})


def schemas() -> dict[str, dict]:
    """All schemas that others refer to by name."""
    found = OWN_SCHEMAS | TOKEN_SCHEMAS
    for adapter in registry.ADAPTERS:
        found |= adapter.schemas
    return found


def of_api(adapter: Adapter) -> dict[str, dict]:
    """The paths of one API."""
    answer = {JSON: reference(adapter.answer)} | ({"text/event-stream": EVENTS} if adapter.is_resumable else {})
    paths = {adapter.path: {"post": operation(adapter.summary, answer, *GENERATING, body=adapter.body)}}
    for page in adapter.pages:
        paths.setdefault(page.path, {})[page.method.lower()] = of_page(page)
    return paths


def of_page(page: Page) -> dict:
    """A page of an API; its path has one parameter."""
    return operation(page.summary, {JSON: reference(page.answer)}, *page.codes, **place(page.path))


def place(path: str) -> dict:
    """The parameter of a path."""
    name = path.partition("{")[2].partition("}")[0]
    return {"parameters": [{"name": name, "in": "path", "required": True, "schema": STRING.schema}]}


def document(version: str) -> dict:
    """The whole page for this server's version."""
    html, text = {"text/html; charset=utf-8": STRING.schema}, {"text/plain": STRING.schema}
    model = "/v1/models/{model_id}"
    health = {JSON: reference("Health")}
    paths = {
        "/health": {"get": operation("The engine's counts", health, "503", security=[])},
        "/ready": {"get": operation("Would a request be taken now?", health, "503", security=[])},
        "/metrics": {"get": operation("Numbers for Prometheus", text, "401")},
        "/v1/models": {"get": operation("The models", {JSON: reference("Models")}, "401")},
        model: {"get": operation("One model", {JSON: reference("Model")}, "401", "404", **place(model))},
    }
    for adapter in registry.ADAPTERS:
        paths |= of_api(adapter)
    paths |= {
        "/tokenize": {"post": operation("Text to ids", {JSON: reference("Tokens")}, *READING, body=TOKENIZE)},
        "/detokenize": {"post": operation("Ids to text", {JSON: reference("Text")}, *READING, body=DETOKENIZE)},
        "/": {"get": operation("The playground", html, "401")},
        "/docs": {"get": operation("This, for people", html, "401")},
        "/openapi.json": {"get": operation("This, for programs", {JSON: OBJECT.schema}, "401")},
    }
    for command in COMMANDS:
        summary = f"{command.replace('_', ' ').capitalize()} (with --enable-debug)"
        paths[f"/debug/{command}"] = {"post": operation(summary, {JSON: {}}, *READING, "503", body=Object(MODEL))}
    return {
        "openapi": "3.1.0",
        "info": {"title": "verbatim", "version": version, "description": "The same words on every engine."},
        "paths": paths,
        "components": {"schemas": schemas(), "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{"key": []}],
    }
