"""Ollama's messages as OpenAI's: arguments of calls are objects there, and calls need no ids.

A tool's answer belongs to the first call that has none yet, of the function that it names if it names one.
"""

import json
from typing import Any

from verbatim.reference.records.errors import RequestError
from verbatim.server.api.fields import Field, Fields, Object, required
from verbatim.server.api.foreign_fields import CALL, MESSAGE
from verbatim.server.api.value_types import OBJECT, STRING, array, neutral, one_of

FUNCTION = Object(
    required("name", STRING, "The function that was called.", "get_time"),
    Field("arguments", OBJECT, "Its arguments.", default={}, example={"city": "Paris"}),
    foreign=CALL,
)
TOOL_CALL = Object(
    required("function", FUNCTION, "What was called, and with what."),
    Field("id", STRING, "What the tool's message may name as `tool_call_id`.", example="call_1"),
    foreign=CALL | {"type": CALL["index"]},
)
MESSAGE_BODY = Object(
    required("role", one_of("system", "user", "assistant", "tool"), "The speaker.", "user"),
    Field("content", STRING, "The text.", default="", example="Hello"),
    Field("images", neutral([]), "Only empty: models read text.", example=[]),
    Field("tool_calls", array(TOOL_CALL), "The functions that the assistant called.", default=(), example=[]),
    Field("thinking", STRING, "Its reasoning, for templates that show it.", example="17 + 25 = 42"),
    Field("tool_name", STRING, "The function of which a tool gives the answer.", example="get_time"),
    Field("tool_call_id", STRING, "The call that a tool answers.", example="call_1"),
    foreign=MESSAGE,
)


def to_openai(messages: list[Fields]) -> list[dict]:
    """The same conversation in OpenAI's form. RequestError for an answer of a tool without a call."""
    unanswered: dict[str, str] = {}  # ids of calls with their functions
    made = []
    for index, fields in enumerate(messages):
        role = fields["role"]
        message: dict[str, Any] = {"role": role, "content": fields["content"]}
        fields["images"]
        if calls := fields["tool_calls"]:
            message["tool_calls"] = [_read_call(call, f"call_{index}_{i}") for i, call in enumerate(calls)]
            unanswered = {call["id"]: call["function"]["name"] for call in message["tool_calls"]}
        if role == "assistant" and (thinking := fields["thinking"]):
            message["reasoning_content"] = thinking
        name, call_id = fields["tool_name"], fields["tool_call_id"]
        if role == "tool":
            message["tool_call_id"] = _find_call(unanswered, name, call_id, fields.path)
        fields.done()
        made.append(message)
    return made


def _read_call(call: Fields, default_id: str) -> dict:
    function, call_id = call["function"], call["id"] or default_id
    call.done()
    name, arguments = function["name"], function["arguments"]
    function.done()
    text = json.dumps(arguments, ensure_ascii=False)
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}


def _find_call(unanswered: dict[str, str], name: str | None, call_id: str | None, path: str) -> str:
    for known_id, function in unanswered.items():
        if call_id in (None, known_id) and name in (None, function):
            del unanswered[known_id]
            return known_id
    raise RequestError(f"{path} answers no call of the assistant's", field=path, code="invalid_value")
