"""The items of `POST /v1/responses`, made into the plain messages that a chat template expects.

An item is a message, a function's call or its output. Consecutive calls, or an assistant's text, belong to the
same message. What a client left out of an item is filled in, so that it can be listed later.
"""

import uuid
from collections.abc import Callable
from typing import Any

from verbatim.reference.records.errors import RequestError, UnsupportedError
from verbatim.server.api.fields import Field, Fields, Object, required
from verbatim.server.api.foreign_fields import ITEM, PART
from verbatim.server.api.messages import check_tool_turns, parse_arguments
from verbatim.server.api.value_types import OBJECT, STRING, ValueType, array, of_type, one_of, type_error

STATUSES = ("in_progress", "completed", "incomplete")
TEXTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}  # part: where its text is


def new_item_id(prefix: str) -> str:
    """An id that no other item has."""
    return f"{prefix}_{uuid.uuid4().hex}"


def _part(type_: str, text: str) -> dict:
    return {"type": type_, TEXTS[type_]: text} | ({"annotations": []} if type_ == "output_text" else {})


def _read_parts(value: Any, path: str, type_: str) -> list[dict]:
    """Text parts; a string is one of this type_."""
    if type(value) is str:
        return [_part(type_, value)]
    if type(value) is not list:
        raise type_error(path, value, "a string or an array of text parts")
    return [_read_part(part, f"{path}[{index}]") for index, part in enumerate(value)]


def _of_part(type_: str, text: str) -> Object:
    known = (required("type", one_of(type_), "The type of the part."), required(text, STRING, "The text."))
    return Object(*known, foreign=PART)


PARTS = {type_: _of_part(type_, text) for type_, text in TEXTS.items()}


def _read_part(value: Any, path: str) -> dict:
    type_ = of_type(path, value, dict).get("type")
    if type_ is not None and of_type(f"{path}.type", type_, str) not in TEXTS:
        raise UnsupportedError(f"{path}.type must be one of {', '.join(TEXTS)} on this server", field=f"{path}.type")
    fields = PARTS[type_ or "text"].read(value, path)
    type_ = fields["type"]
    part = _part(type_, fields[TEXTS[type_]])
    fields.done()
    return part


CONTENT = ValueType(lambda value, _: value, {
    "anyOf": [STRING.schema, {"type": "array", "items": {"anyOf": [part.schema for part in PARTS.values()]}}],
})  # fmt: skip
COMMON = (
    Field("status", one_of(*STATUSES), "How far the item is.", default="completed"),
    Field("id", STRING, "Its id; made if absent."),
)
CALL_ID = required("call_id", STRING, "What the call and its output have in common.")
MESSAGE = Object(
    Field("type", one_of("message"), "The type of the item.", default="message"),
    *COMMON,
    required("role", one_of("user", "assistant", "system", "developer"), "The speaker.", "user"),
    required("content", CONTENT, "The text.", "Hello"),
    foreign=ITEM,
)
CALL = Object(
    required("type", one_of("function_call"), "The type of the item."),
    *COMMON,
    CALL_ID,
    required("name", STRING, "The function that was called."),
    required("arguments", STRING, "Its arguments as the text of a JSON object."),
    foreign=ITEM,
)
OUTPUT = Object(
    required("type", one_of("function_call_output"), "The type of the item."),
    *COMMON,
    CALL_ID,
    Field("output", CONTENT, "What the function gave; nothing if it is absent or empty.", default=""),
    foreign=ITEM,
)


def _read_message(fields: Fields) -> dict:
    role = fields["role"]
    type_ = "output_text" if role == "assistant" else "input_text"
    return {"role": role, "content": _read_parts(fields["content"], fields.where("content"), type_)}


def _read_call(fields: Fields) -> dict:
    return {name: fields[name] for name in ("call_id", "name", "arguments")}


def _read_output(fields: Fields) -> dict:
    call_id = fields["call_id"]
    parts = _read_parts(fields["output"], fields.where("output"), "input_text")
    return {"call_id": call_id, "output": "".join(part[TEXTS[part["type"]]] for part in parts)}


READERS: dict[str, tuple[str, Object, Callable[[Fields], dict]]] = {  # how its ids begin, its fields, its reader
    "message": ("msg", MESSAGE, _read_message),
    "function_call": ("fc", CALL, _read_call),
    "function_call_output": ("fco", OUTPUT, _read_output),
}


def read_input(value: Any, path: str) -> list[dict]:
    """Items with everything in them; a string is a user's message."""
    if type(value) is str:
        value = [{"role": "user", "content": value}]
    if type(value) is not list:
        raise type_error(path, value, "a string or an array of items")
    return [_read_item(item, f"{path}[{index}]") for index, item in enumerate(value)]


INPUT = required(
    "input",
    ValueType(read_input, {"anyOf": [STRING.schema, array(OBJECT).schema]}),
    "What is to be answered: a text, or items.",
    "Hello",
)


def _read_item(value: Any, path: str) -> dict:
    type_ = of_type(path, value, dict).get("type")
    type_ = "message" if type_ is None else of_type(f"{path}.type", type_, str)
    if type_ not in READERS:
        message = f"{path}.type must be one of {', '.join(READERS)} on this server"
        raise UnsupportedError(message, field=f"{path}.type")
    prefix, declared, read = READERS[type_]
    fields = declared.read(value, path)
    fields["type"]
    status, item_id = fields["status"], fields["id"]
    item = {"id": item_id or new_item_id(prefix), "status": status, "type": type_} | read(fields)
    fields.done()
    return item


def to_messages(instructions: str | None, items: list[dict]) -> list[dict]:
    """The conversation that the items are; the instructions come first."""
    messages = [] if instructions is None else [{"role": "system", "content": instructions}]
    for item in items:
        if item["type"] == "function_call":
            _add_call(messages, item)
        elif item["type"] == "function_call_output":
            messages.append({"role": "tool", "content": item["output"], "tool_call_id": item["call_id"]})
        else:
            role = "system" if item["role"] == "developer" else item["role"]
            text = "".join(part[TEXTS[part["type"]]] for part in item["content"])
            messages.append({"role": role, "content": text})
    if not messages:
        raise RequestError("input must have at least one item", field="input", code="empty_array")
    check_tool_turns(messages, "input")
    return messages


def _add_call(messages: list[dict], item: dict) -> None:
    function = {"name": item["name"], "arguments": parse_arguments(item["arguments"])}
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    calls = messages[-1].setdefault("tool_calls", [])
    calls.append({"id": item["call_id"], "type": "function", "function": function})
