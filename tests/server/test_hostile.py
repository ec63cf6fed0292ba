"""Schemas, expressions and tools that mean harm: a clear error for who sent them, and nobody else notices."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from live_server import chat_body

TOOL = {"type": "function", "function": {"name": "f"}}
LONG = 60  # seconds: what is refused is refused before


def nested(depth):
    schema = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def wide(count):
    return {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(count)}}


def schema(value):
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": value}}}


def tools(parameters, **more):
    return {"tools": [{"type": "function", "function": {"name": "f", "parameters": parameters}}]} | more


CIRCLE = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
AT_SCHEMA = "response_format.json_schema.schema"
AT_TOOL = "tools[0].function.parameters"
HOSTILE = {  # fields, the param that the error names, a part of its message
    "deep schema": (schema(nested(100)), AT_SCHEMA, "nested deeper than 64 levels"),
    "a megabyte": (schema({"description": "x" * 1_000_000}), AT_SCHEMA, "at most 262144"),
    "wide schema": (schema(wide(20_000)), AT_SCHEMA, "20000 optional properties; at most 1000"),
    "circle": (schema(CIRCLE), AT_SCHEMA, "no text fits it"),
    "reference outside": (schema({"$ref": "http://127.0.0.1:9/schema"}), AT_SCHEMA, "cannot be compiled"),
    "file reference": (schema({"$ref": "file:///etc/passwd"}), AT_SCHEMA, "cannot be compiled"),
    "no such reference": (schema({"$ref": "#/$defs/gone"}), AT_SCHEMA, "cannot be compiled"),
    "bad pattern": (schema({"type": "string", "pattern": "("}), AT_SCHEMA, "cannot be compiled"),
    "nothing fits": (schema({"type": "integer", "minimum": 5, "maximum": 1}), AT_SCHEMA, "cannot be compiled"),
    "deep tool": (tools({"properties": {"a": nested(100)}}), AT_TOOL, "nested deeper than 64 levels"),
    "wide tool": (tools(wide(20_000)), AT_TOOL, "20000 optional properties; at most 1000"),
    "a megabyte of tool": (tools({"description": "x" * 1_000_000}), AT_TOOL, "at most 204800"),
    "circular tool": (tools({"properties": {"a": CIRCLE}, "required": ["a"]}), AT_TOOL, "cannot be compiled"),
    "unknown tool": (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice", "not among",
    ),
    "unknown allowed tool": (
        {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {
            "mode": "auto", "tools": [{"type": "function", "function": {"name": "g"}}]}}}, "tool_choice", "not among",
    ),
}  # fmt: skip
COSTLY = [  # allowed, or found too costly on the way
    schema({"type": "string", "pattern": "^(([a-z])+.)+[A-Z]([a-z])+$"}),
    schema({"type": "string", "pattern": "^(a|b)*a(a|b){60}$"}),
    schema({"type": "string", "pattern": "^(.{1,1000}){1,1000}$"}),
    schema(wide(900)),
    schema({"type": "array", "items": {"type": "integer"}, "minItems": 10**9}),
    tools({"properties": {"a": {"type": "string", "pattern": "^(a|b)*a(a|b){60}$"}}}, tool_choice="required"),
]


def post(server, **fields):
    return server.http.post("/v1/chat/completions", json=chat_body("Say JSON", **fields), timeout=LONG)


def check_refused(response, param, message):
    assert response.status_code == 400, response.text[:500]
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert message in error["message"]
    assert len(error["message"]) < 500, "an error does not send the schema back"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
def test_what_means_harm_is_refused_by_name(server, name, stream):
    fields, param, message = HOSTILE[name]
    check_refused(post(server, stream=stream, **fields), param, message)


def stream(server, seed):
    """All that a stream says, but for its id and time."""
    body = {"temperature": 1, "seed": seed, "max_tokens": 40, "logprobs": True, "top_logprobs": 2, "stream": True}
    answer = server.http.post("/v1/chat/completions", json=chat_body("Tell me of rivers", **body))
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events.pop() == "[DONE]"
    return [event["choices"] for event in map(json.loads, events)]


def test_streams_among_hostile_requests_are_equal_to_the_bit(server):
    alone = [stream(server, seed) for seed in range(3)]
    with ThreadPoolExecutor(12) as pool:
        streams = [pool.submit(stream, server, seed) for seed in range(3)]
        refused = {name: pool.submit(post, server, **fields) for name, (fields, _, _) in HOSTILE.items()}
        costly = [pool.submit(post, server, **fields) for fields in COSTLY]
        again = [pool.submit(stream, server, seed) for seed in range(3)]
        assert [stream.result() for stream in streams] == alone
        assert [stream.result() for stream in again] == alone
        for name, future in refused.items():
            check_refused(future.result(), *HOSTILE[name][1:])
        for response in (future.result() for future in costly):
            assert response.status_code == 200 or "the grammar cannot go on" in response.json()["error"]["message"]
    assert server.health()["running"] == server.health()["waiting"] == 0
