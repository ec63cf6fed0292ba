"""Our endpoints as OpenAPI 3.1 has them: what each takes, what it answers, and with which codes.

Written by hand, so that it says what this server does and not what OpenAI's does. Bodies (openapi_bodies.py) are
closed: a field that is not there is refused. `/openapi.json` gives it to programs, `/docs` shows it to people.
"""

from verbatim.server.docs.bodies import (
    BOOLEAN,
    CHAT,
    COMPLETION,
    EITHER,
    EMBEDDING,
    MESSAGE,
    OBJECT,
    RESPONSE,
    STRING,
    TOKEN_ID,
    TOKENIZE,
    array,
    closed,
    integer,
    one_of,
    optional,
    reference,
)  # fmt: skip
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
SCHEMAS = {
    "Message": MESSAGE,
    "Usage": {"type": "object", "required": ["prompt_tokens", "completion_tokens", "total_tokens"]},
    "Answer": {
        "type": "object",
        "required": ["id", "object", "created", "model", "choices", "usage", "system_fingerprint"],
        "properties": {
            "id": STRING,
            "object": one_of("chat.completion", "text_completion"),
            "created": integer(0),
            "model": STRING,
            "choices": array(OBJECT | {"required": ["index", "finish_reason", "logprobs"]}),
            "usage": reference("Usage"),
        },
    },
    "Response": {
        "type": "object",
        "required": ["id", "object", "created_at", "status", "model", "output", "usage", "error", "incomplete_details"],
        "properties": {
            "id": STRING,
            "object": {"const": "response"},
            "status": one_of("in_progress", "completed", "incomplete", "failed"),
            "output": array(OBJECT | {"required": ["type", "id", "status"]}),
        },
    },
    "Deleted": {
        "type": "object",
        "required": ["id", "object", "deleted"],
        "properties": {"id": STRING, "object": {"const": "response"}, "deleted": BOOLEAN},
    },
    "Items": {
        "type": "object",
        "required": ["object", "data", "first_id", "last_id", "has_more"],
        "properties": {"object": {"const": "list"}, "data": array(OBJECT), "has_more": BOOLEAN},
    },
    "Embeddings": {
        "type": "object",
        "required": ["object", "data", "model", "usage"],
        "properties": {
            "object": {"const": "list"},
            "data": array(OBJECT | {"required": ["object", "index", "embedding"]}),
            "model": STRING,
        },
    },
    "Model": {
        "type": "object",
        "required": ["id", "object", "created", "owned_by", "max_model_len"],
        "properties": {"id": STRING, "object": {"const": "model"}, "created": integer(0), "max_model_len": integer(1)},
    },
    "Models": {
        "type": "object",
        "required": ["object", "data"],
        "properties": {"object": {"const": "list"}, "data": array(reference("Model"))},
    },
    "Tokens": {
        "type": "object",
        "required": ["count", "max_model_len", "tokens", "token_strs"],
        "properties": {"count": integer(0), "tokens": array(TOKEN_ID), "token_strs": optional(array(STRING))},
    },
    "Text": {"type": "object", "required": ["prompt"], "properties": {"prompt": STRING}},
    "Health": {"type": "object", "required": ["status"], "properties": {"status": STRING}},
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": STRING, "type": STRING, "param": optional(STRING), "code": optional(STRING),
                },
            }
        },
    },
}  # fmt: skip
EVENTS = {"description": "Server-sent events, each with one JSON object as its data."}  # of no type that a schema has
READING = ("400", "401", "404", "408", "413")
GENERATING = (*READING, "429", "500", "503", "504")


def operation(summary: str, answer: dict, *codes: str, body: dict | None = None, **more) -> dict:
    """One method of a path: `answer` maps types of content to schemas."""
    failures = {
        code: {"description": TITLES[code], "content": {JSON: {"schema": reference("Error")}}} for code in codes
    }
    contents = {kind: {"schema": schema} for kind, schema in answer.items()}
    made = {"summary": summary, "responses": {"200": {"description": "Done.", "content": contents}} | failures} | more
    return made | ({"requestBody": {"required": True, "content": {JSON: {"schema": body}}}} if body else {})


def document(version: str) -> dict:
    """The whole page for this server's version."""
    events = {JSON: reference("Answer"), "text/event-stream": EVENTS}
    responses = {JSON: reference("Response"), "text/event-stream": EVENTS}
    vectors = {JSON: reference("Embeddings")}
    page, text = {"text/html; charset=utf-8": STRING}, {"text/plain": STRING}
    model = {"parameters": [{"name": "model_id", "in": "path", "required": True, "schema": STRING}]}
    kept = {"parameters": [{"name": "response_id", "in": "path", "required": True, "schema": STRING}]}
    paths = {
        "/health": {"get": operation("The engine's counts", {JSON: reference("Health")}, "503", security=[])},
        "/ready": {"get": operation("Would a request be taken now?", {JSON: reference("Health")}, "503", security=[])},
        "/metrics": {"get": operation("Numbers for Prometheus", text, "401")},
        "/v1/models": {"get": operation("The models", {JSON: reference("Models")}, "401")},
        "/v1/models/{model_id}": {"get": operation("One model", {JSON: reference("Model")}, "401", "404", **model)},
        "/v1/chat/completions": {
            "post": operation("Answer a chat", events, *GENERATING, body=closed(("model", "messages"), **CHAT))
        },
        "/v1/completions": {
            "post": operation("Go on with a text", events, *GENERATING, body=closed(("model", "prompt"), **COMPLETION))
        },
        "/v1/responses": {
            "post": operation("Answer as items", responses, *GENERATING, body=closed(("model", "input"), **RESPONSE))
        },
        "/v1/responses/{response_id}": {
            "get": operation("A kept response", {JSON: reference("Response")}, "400", "401", "404", **kept),
            "delete": operation("Forget a response", {JSON: reference("Deleted")}, "401", "404", **kept),
        },
        "/v1/responses/{response_id}/input_items": {
            "get": operation("What a response answers", {JSON: reference("Items")}, "400", "401", "404", **kept)
        },
        "/v1/embeddings": {
            "post": operation("Texts to vectors", vectors, *GENERATING, body=closed(("model", "input"), **EMBEDDING))
        },
        "/tokenize": {"post": _tokens("Text to ids", "Tokens", closed((), **TOKENIZE) | EITHER)},
        "/detokenize": {
            "post": _tokens("Ids to text", "Text", closed(("tokens",), model=STRING, tokens=array(TOKEN_ID)))
        },
        "/": {"get": operation("The playground", page, "401")},
        "/docs": {"get": operation("This, for people", page, "401")},
        "/openapi.json": {"get": operation("This, for programs", {JSON: OBJECT}, "401")},
    }
    for command in COMMANDS:
        summary = f"{command.replace('_', ' ').capitalize()} (with --enable-debug)"
        paths[f"/debug/{command}"] = {
            "post": operation(summary, {JSON: {}}, *READING, "503", body=closed((), model=STRING))
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "verbatim", "version": version, "description": "The same words on every engine."},
        "paths": paths,
        "components": {"schemas": SCHEMAS, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{"key": []}],
    }


def _tokens(summary: str, answer: str, body: dict) -> dict:
    return operation(summary, {JSON: reference(answer)}, *READING, body=body)
