"""The items of `POST /v1/responses`, made into the plain messages that a chat template expects.

An item is a message, a function's call or its output. Calls that follow one another, or an assistant's text, belong to
one turn. What a client left out of an item is filled in, so that it can be listed later.
"""

import uuid

from verbatim.reference.records.errors import RequestError, UnsupportedError
from verbatim.server.api.fields import Fields, of_type, type_error
from verbatim.server.api.messages import check_tool_turns, parse_arguments

ROLES = ("user", "assistant", "system", "developer")
STATUSES = ("in_progress", "completed", "incomplete")
TEXTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}  # part: where its text is


def new_item_id(prefix: str) -> str:
    """An id that no other item has."""
    return f"{prefix}_{uuid.uuid4().hex}"


def take_input(fields: Fields) -> list[dict]:
    """The field `input` as items with everything in them; a string is a user's message."""
    value = fields.required("input")
    if type(value) is str:
        value = [{"role": "user", "content": value}]
    if type(value) is not list:
        raise type_error("input", value, "a string or an array of items")
    return [_read_item(item, f"input[{index}]") for index, item in enumerate(value)]


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


def _read_item(value, path: str) -> dict:
    fields = Fields(value, path)
    kind = of_type(f"{path}.type", fields.take("type", "message"), str)
    if kind not in READERS:
        message = f"{path}.type must be one of {', '.join(READERS)} on this server"
        raise UnsupportedError(message, field=f"{path}.type")
    status = fields.one_of("status", STATUSES) or "completed"
    item_id = fields.string("id")
    prefix, read = READERS[kind]
    item = {"id": item_id or new_item_id(prefix), "status": status, "type": kind} | read(fields, path)
    fields.done()
    return item


def _read_message(fields: Fields, path: str) -> dict:
    role = fields.one_of("role", ROLES) or fields.required("role")
    fields.string("phase")  # a mark of the client's own, which comes back with what it answers
    kind = "output_text" if role == "assistant" else "input_text"
    return {"role": role, "content": _read_parts(fields.required("content"), f"{path}.content", kind)}


def _read_parts(value, path: str, kind: str) -> list[dict]:
    """Text parts; a string is one of this kind."""
    if type(value) is str:
        return [_part(kind, value)]
    if type(value) is not list:
        raise type_error(path, value, "a string or an array of text parts")
    return [_read_part(part, f"{path}[{index}]") for index, part in enumerate(value)]


def _read_part(value, path: str) -> dict:
    fields = Fields(value, path)
    kind = of_type(f"{path}.type", fields.required("type"), str)
    if kind not in TEXTS:
        raise UnsupportedError(f"{path}.type must be one of {', '.join(TEXTS)} on this server", field=f"{path}.type")
    name = TEXTS[kind]
    part = _part(kind, of_type(f"{path}.{name}", fields.required(name), str))
    for ignored in ("annotations", "logprobs", "prompt_cache_breakpoint"):  # an answer that comes back has them
        fields.take(ignored)
    fields.done()
    return part


def _part(kind: str, text: str) -> dict:
    return {"type": kind, TEXTS[kind]: text} | ({"annotations": []} if kind == "output_text" else {})


def _read_call(fields: Fields, path: str) -> dict:
    names = ("call_id", "name", "arguments")
    return {name: of_type(f"{path}.{name}", fields.required(name), str) for name in names}


def _read_output(fields: Fields, path: str) -> dict:
    call_id = of_type(f"{path}.call_id", fields.required("call_id"), str)
    parts = _read_parts(fields.required("output"), f"{path}.output", "input_text")
    return {"call_id": call_id, "output": "".join(part[TEXTS[part["type"]]] for part in parts)}


READERS = {  # kind: how ids of such items begin, and what reads the rest of one
    "message": ("msg", _read_message),
    "function_call": ("fc", _read_call),
    "function_call_output": ("fco", _read_output),
}
