"""The items of `POST /v1/responses`, each read into one with all of its keys, so that it can be listed later.

An item is a message, a function's call or its output, a reference to an item of a kept response, or one of those in
other_items.py. conversation.py makes messages of them.
"""

import uuid
from typing import Any

from verbatim.reference.records.errors import RequestError, UnsupportedError
from verbatim.server.api import policy
from verbatim.server.api.fields import Field, Fields, Object, required
from verbatim.server.api.foreign_fields import ITEM
from verbatim.server.api.responses.content import CONTENT, read_parts, text_of
from verbatim.server.api.responses.other_items import (
    CALLS,
    COMMON,
    OF_CALLS,
    OF_OUTPUTS,
    OF_REASONING,
    OUTPUTS,
    REFUSED,
    read_call,
    read_output,
    read_reasoning,
)
from verbatim.server.api.value_types import OBJECT, STRING, ValueType, array, items_of, of_type, one_of, type_error

REFERENCE = "item_reference"
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
    Field("call_id", STRING, "What the call has; if absent, it is the first without an output."),
    Field("output", CONTENT, "What the function gave; nothing if it is absent or empty.", default=""),
    Field("name", STRING, "Without effect: the call has it."),
    foreign=ITEM,
)
OF_REFERENCE = Object(
    Field("type", one_of(REFERENCE), "The type of the item.", default=REFERENCE),
    required("id", STRING, "The id of an item that a kept response has."),
    foreign=ITEM,
)
DECLARED = OF_CALLS | OF_OUTPUTS | {
    "message": MESSAGE, "function_call": CALL, "function_call_output": OUTPUT, "reasoning": OF_REASONING,
    REFERENCE: OF_REFERENCE,
}  # fmt: skip
PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs", REFERENCE: "ref"}
PREFIXES |= {type_: item.prefix for type_, item in (CALLS | OUTPUTS).items()}


def new_item_id(prefix: str) -> str:
    """An id that no other item has."""
    return f"{prefix}_{uuid.uuid4().hex}"


def output_item_id(prefix: str, response_id: str, index: int) -> str:
    """The id of an item of a response, which names the response."""
    return f"{prefix}_{response_id.removeprefix('resp_')}{index:04x}"


def response_of_item(item_id: str) -> str:
    """The id of the response that an item with such an id is from; of any other id it is one that nobody has."""
    return f"resp_{item_id.partition('_')[2][:-4]}"


def read_input(value: Any, path: str) -> list[dict]:
    """Items with everything in them; a string is a user's message. What says nothing to the model is left out."""
    if type(value) is str:
        value = [{"role": "user", "content": value}]
    if type(value) is not list:
        raise type_error(path, value, "a string or an array of items")
    items = [_read_item(item, f"{path}[{index}]") for index, item in enumerate(items_of(path, value))]
    return [item for item in items if item is not None]


INPUT = required(
    "input",
    ValueType(read_input, {"anyOf": [STRING.schema, array(OBJECT).schema]}),
    "What is to be answered: a text, or items.",
    "Hello",
)


def _read_item(value: Any, path: str) -> dict | None:
    type_ = of_type(path, value, dict).get("type")
    if type_ is None:
        type_ = REFERENCE if "id" in value and not value.keys() & {"role", "content"} else "message"
    if of_type(f"{path}.type", type_, str) in REFUSED:
        raise UnsupportedError(f"{path}.type: this model reads text only", field=f"{path}.type")
    if type_ not in DECLARED:
        policy.note_without_effect(f"{path}.type")
        return None
    fields = DECLARED[type_].read(value, path)
    fields["type"]
    status, item_id = fields["status"] if type_ != REFERENCE else "completed", fields["id"]
    item_id = item_id or new_item_id(PREFIXES[type_])
    own = _read_own(fields, type_, item_id)
    fields.done()
    if own is None:
        policy.note_without_effect(f"{path}.type")
        return None
    return {"id": item_id, "status": status, "type": type_} | own


def _read_own(fields: Fields, type_: str, item_id: str) -> dict | None:
    """The keys that items of this type have and others do not; None for an item without text."""
    match type_:
        case "message":
            role = fields["role"]
            part = "output_text" if role == "assistant" else "input_text"
            return {"role": role, "content": read_parts(fields["content"], fields.where("content"), part)}
        case "function_call":
            return {name: fields[name] for name in ("call_id", "name", "arguments")}
        case "function_call_output":
            return _read_function_output(fields)
        case "reasoning":
            return read_reasoning(fields)
        case _ if type_ in CALLS:
            return read_call(fields, type_, item_id)
        case _ if type_ in OUTPUTS:
            return read_output(fields, type_)
    return {}


def _read_function_output(fields: Fields) -> dict:
    call_id = fields["call_id"]
    if call_id is None and policy.is_strict():
        path = fields.where("call_id")
        raise RequestError(f"Missing required parameter: {path}", field=path, code="missing_required_parameter")
    return {"call_id": call_id, "output": text_of(read_parts(fields["output"], fields.where("output"), "input_text"))}
