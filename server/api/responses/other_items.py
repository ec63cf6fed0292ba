"""Items beyond messages and functions, in histories that other servers and their tools have written.

A call of a custom tool, a shell or an editor is shown to the model as one of a function, and so is its output; a call
of an MCP server has both. Reasoning goes to templates that show it. Images are refused. Whatever else there is
(searches, lists of tools, approvals, encrypted summaries) says nothing to the model; --unknown-fields has the say.
"""

import json
from dataclasses import dataclass
from typing import Any

from verbatim.server.api.fields import Field, Fields, Object, required
from verbatim.server.api.foreign import anything
from verbatim.server.api.foreign_fields import ITEM
from verbatim.server.api.messages import parse_arguments
from verbatim.server.api.responses.content import CONTENT, read_parts, text_of
from verbatim.server.api.value_types import ANYTHING, LIST, OBJECT, STRING, AnyType, Extended, one_of

STATUSES = ("in_progress", "completed", "incomplete")
REFUSED = ("computer_call", "computer_call_output")  # they are about images
ID = Field("id", STRING, "Its id; made if absent.")
COMMON = (Field("status", Extended(one_of(*STATUSES), STRING), "How far the item is.", default="completed"), ID)
LOOSE = (Field("status", STRING, "How far the item is, or whether it failed.", default="completed"), ID)
NAME = required("name", STRING, "The tool that was called.")
FOREIGN = ITEM | anything(None, "environment execution fingerprint max_output_length approval_request_id server_label")


@dataclass(frozen=True, slots=True)
class OtherItem:
    """A type of items: how their ids begin, the field that the model sees, and its type.

    Of a call that field has the arguments, and `name` is the tool, unless the item names it.
    """

    prefix: str
    payload: str
    type: AnyType = ANYTHING
    name: str | None = None

    def declared(self, type_: str, *fields: Field) -> Object:
        """The fields of such an item."""
        payload = Field(self.payload, self.type, "What the model sees of it.")
        call_id = Field("call_id", STRING, "What the call and its output have in common.")
        return Object(required("type", one_of(type_), "The type."), *LOOSE, call_id, payload, *fields, foreign=FOREIGN)


CALLS = {
    "custom_tool_call": OtherItem("ctc", "input", STRING),
    "mcp_call": OtherItem("mcp", "arguments", STRING),
    "local_shell_call": OtherItem("lsh", "action", OBJECT, "local_shell"),
    "shell_call": OtherItem("sh", "action", OBJECT, "shell"),
    "apply_patch_call": OtherItem("apc", "operation", OBJECT, "apply_patch"),
    "tool_search_call": OtherItem("tsc", "arguments", ANYTHING, "tool_search"),
    "program": OtherItem("prog", "code", STRING, "program"),
}
OUTPUTS = {
    "custom_tool_call_output": OtherItem("ctco", "output", CONTENT),
    "local_shell_call_output": OtherItem("lsho", "output"),
    "shell_call_output": OtherItem("sho", "output"),
    "apply_patch_call_output": OtherItem("apco", "output"),
    "tool_search_output": OtherItem("tso", "tools"),
    "program_output": OtherItem("progo", "result"),
}
RESULT = (
    Field("output", ANYTHING, "What the tool gave."),
    Field("error", ANYTHING, "Why it failed."),
)
OF_CALLS = {
    type_: item.declared(type_, *(() if item.name else (NAME,)), *(RESULT if type_ == "mcp_call" else ()))
    for type_, item in CALLS.items()
}
OF_OUTPUTS = {type_: item.declared(type_) for type_, item in OUTPUTS.items()}
OF_PART = Object(
    Field("type", STRING, "The type of the part."), required("text", STRING, "The text."), foreign=anything(None, "id")
)
OF_REASONING = Object(
    required("type", one_of("reasoning"), "The type of the item."),
    *COMMON,
    Field("content", LIST, "The reasoning, as parts of type reasoning_text.", default=()),
    Field("summary", LIST, "Without effect: nobody has read it.", default=()),
    Field("encrypted_content", STRING, "Without effect: only who wrote it can read it."),
    foreign=FOREIGN,
)


def read_call(fields: Fields, type_: str, item_id: str) -> dict:
    """A call's own keys; where it has no `call_id`, its id serves."""
    of_type = CALLS[type_]
    item = {"call_id": fields["call_id"] or item_id, "name": of_type.name or fields["name"]}
    item[of_type.payload] = fields[of_type.payload]
    return item | ({"output": fields["output"], "error": fields["error"]} if type_ == "mcp_call" else {})


def read_output(fields: Fields, type_: str) -> dict:
    """An output's own keys; `call_id` is None where it does not say what it answers."""
    payload = OUTPUTS[type_].payload
    value = fields[payload]
    if OUTPUTS[type_].type is CONTENT:
        value = text_of(read_parts(value or [], fields.where(payload), "input_text"))
    return {"call_id": fields["call_id"], payload: value}


def read_reasoning(fields: Fields) -> dict | None:
    """Reasoning whose text can be read, None if there is none."""
    parts, path = fields["content"], fields.where("content")
    fields["summary"], fields["encrypted_content"]
    texts = [OF_PART.read(part, f"{path}[{index}]").read_all()["text"] for index, part in enumerate(parts)]
    if not any(texts):
        return None
    return {"summary": [], "content": [{"type": "reasoning_text", "text": text} for text in texts]}


def function_of(item: dict) -> dict:
    """A call as templates know it: the name and the arguments, an object where that can be."""
    value = item[CALLS[item["type"]].payload]
    if item["type"] == "mcp_call":
        value = parse_arguments(value or "")
    elif type(value) is not dict:
        value = {} if value is None else {CALLS[item["type"]].payload: value}
    return {"name": item["name"], "arguments": value}


def text_of_output(item: dict) -> str:
    """What a tool gave, as text: JSON unless it is text already."""
    value = item[OUTPUTS[item["type"]].payload]
    return as_text(value)


def text_of_result(item: dict) -> str:
    """The output of a call that has it, or its error."""
    return as_text(item["output"] if item["error"] is None else item["error"])


def as_text(value: Any) -> str:
    """Text as it is, nothing as no text, anything else as JSON."""
    return value if type(value) is str else "" if value is None else json.dumps(value, ensure_ascii=False)
