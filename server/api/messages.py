"""A conversation as OpenAI writes it, made into the plain messages that a chat template expects.

Text parts are joined, `developer` becomes `system`, and the arguments of earlier tool calls are parsed, since
templates print them as JSON again. Parts that are not text are refused. An assistant's own answer may come back word
for word, with the keys that answers of this server and of others carry (foreign_fields.py). Every tool call must be
answered before the conversation continues.
"""

import json
from typing import Any

from verbatim.reference.records.errors import RequestError, UnsupportedError
from verbatim.server.api import policy
from verbatim.server.api.fields import Field, Fields, Object, required
from verbatim.server.api.foreign_fields import CALL as CALL_FIELDS
from verbatim.server.api.foreign_fields import MESSAGE, PART
from verbatim.server.api.value_types import (
    ANYTHING,
    BOOLEAN,
    STRING,
    ValueType,
    array,
    items_of,
    of_type,
    one_of,
    reference,
    type_error,
)

ROLES = ("developer", "system", "user", "assistant", "tool")
PART_TYPES = ("image_url", "input_audio", "file")
ALIASES = {"input_text": "text", "output_text": "text"}  # what responses and other servers call a part of text
THOUGHTS = ("thinking", "redacted_thinking", "reasoning")  # parts of an earlier turn that are its thought


def _part(type_: str, text: str) -> Object:
    types = one_of(type_, *(alias for alias, name in ALIASES.items() if name == type_))
    return Object(
        required("type", types, "The type of the part."), required(type_, STRING, text, "Hello"), foreign=PART
    )


PARTS = {"text": _part("text", "The text."), "refusal": _part("refusal", "The text of a refusal.")}


def read_content(value: Any, path: str, *types: str) -> str:
    """Text, or the joined text of parts of these types; plain text parts if none are named."""
    if type(value) is str:
        return value
    if type(value) is not list:
        raise type_error(path, value, "a string or an array of text parts")
    if not value and policy.is_strict():
        raise RequestError(f"{path} must have at least one part", field=path, code="empty_array")
    return "".join(_read_part(part, f"{path}[{i}]", types or ("text",)) for i, part in enumerate(value))


def _read_part(value: Any, path: str, types: tuple[str, ...]) -> str:
    of_type(path, value, dict)
    if (type_ := value.get("type")) is not None:
        if of_type(f"{path}.type", type_, str) in PART_TYPES:
            raise UnsupportedError(f"{path}.type: this model reads text only", field=f"{path}.type")
        if not policy.is_strict():
            if type_ in THOUGHTS:
                return ""
            type_ = ALIASES.get(type_, type_)
        if type_ not in types:
            raise RequestError(f"{path}.type must be {' or '.join(types)}", field=f"{path}.type", code="invalid_value")
    fields = PARTS[type_ or "text"].read(value, path)
    text = fields["type"] and fields[type_]
    fields.done()
    return text


def _content(*types: str) -> ValueType:
    parts = [PARTS[type_].schema for type_ in types]
    items = parts[0] if len(parts) == 1 else {"anyOf": parts}
    schema = {"anyOf": [STRING.schema, {"type": "array", "items": items, "minItems": 1}]}
    return ValueType(lambda value, path: read_content(value, path, *types), schema)


CONTENT = _content("text")
FUNCTION = Object(
    required("name", STRING, "The function that was called.", "get_weather"),
    required("arguments", STRING, "Its arguments as the text of a JSON object.", '{"city": "Paris"}'),
    foreign=CALL_FIELDS,
)
CALL = Object(
    required("id", STRING, "What the tool's message names as `tool_call_id`.", "call_1"),
    Field("type", one_of("function"), "The type of the tool."),
    required("function", FUNCTION, "What was called, and with what."),
    foreign=CALL_FIELDS,
)
CALLS = [{"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}]
NAME = Field("name", STRING, "The speaker's name, for templates that show it.", example="Ada")
ANY_ROLE = Object(
    required("role", one_of("system", "developer", "user"), "The speaker.", example="user"),
    required("content", CONTENT, "The text.", example="Hello"),
    NAME,
    foreign=MESSAGE,
)
ASSISTANT = Object(
    required("role", one_of("assistant"), "The model's own turn."),
    Field("tool_calls", array(CALL), "The functions that it called.", default=(), example=CALLS),
    Field("content", _content("text", "refusal"), "Its text; required unless there are calls.", example="Hello!"),
    Field("refusal", STRING, "Its text where it refused; read if there is no content.", example="Sorry."),
    NAME,
    Field("reasoning_content", STRING, "Its thought, for templates that show it.", example="17 + 25 = 42"),
    Field("reasoning", ANYTHING, "The same, if it is text.", example="17 + 25 = 42"),
    Field("prefix", BOOLEAN, "Continue this message, the last one.", default=False, example=True),
    Field("partial", BOOLEAN, "The same.", default=False, example=True),
    foreign=MESSAGE,
)
TOOL = Object(
    required("role", one_of("tool"), "The answer to a call."),
    Field(
        "content", CONTENT, "What the tool gave; nothing if it is absent or empty.", default="", example="21 degrees"
    ),
    required("tool_call_id", STRING, "The `id` of the call that it answers.", "call_1"),
    NAME,
    foreign=MESSAGE,
)
BY_ROLE = dict.fromkeys(("developer", "system", "user"), ANY_ROLE) | {"assistant": ASSISTANT, "tool": TOOL}
ROLE = one_of(*ROLES)
SCHEMA = {"anyOf": [variant.schema for variant in (ANY_ROLE, ASSISTANT, TOOL)]}


def read_messages(value: Any, path: str) -> list[dict]:
    """The messages, checked and normalised. RequestError names the message and the field at fault."""
    if not items_of(path, value):
        raise RequestError(f"{path} must have at least one item", field=path, code="empty_array")
    messages = [_read_message(item, f"{path}[{index}]") for index, item in enumerate(value)]
    check_tool_turns(messages, path)
    return messages


MESSAGES = required(
    "messages",
    ValueType(read_messages, {"type": "array", "items": reference("Message"), "minItems": 1}),
    "The conversation, oldest message first.",
    example=[{"role": "user", "content": "Hello"}],
)


def _read_message(value: Any, path: str) -> dict:
    role = of_type(path, value, dict).get("role")
    if role == "function":
        raise UnsupportedError(f"{path}.role: function messages are deprecated; use tool", field=f"{path}.role")
    if role is not None:
        ROLE.read(role, f"{path}.role")
    fields = BY_ROLE[role or "user"].read(value, path)
    role = fields["role"]
    message = {"role": "system" if role == "developer" else role}
    message |= _read_assistant(fields, value.get("content")) if role == "assistant" else {"content": fields["content"]}
    if role == "tool":
        message["tool_call_id"] = fields["tool_call_id"]
    if (name := fields["name"]) is not None:
        message["name"] = name
    fields.done()
    return message


def _read_assistant(fields: Fields, content: Any) -> dict:
    """Its text, calls and thought, which may be parts of the `content` as it came."""
    calls = fields["tool_calls"]
    message = {"content": fields["content"]}
    refusal = fields["refusal"]
    if message["content"] is None:
        message["content"] = refusal
    if message["content"] is None and not calls and not policy.is_strict():
        message["content"] = ""
    elif message["content"] is None and not calls:
        path = fields.where("content")
        error = f"{path} is required unless there are tool_calls"
        raise RequestError(error, field=path, code="missing_required_parameter")
    if calls:
        message["tool_calls"] = [_read_call(call) for call in calls]
    if thought := "".join(map(_thought_in, content if type(content) is list else ())):
        message["reasoning_content"] = thought
    for name in ("reasoning", "reasoning_content"):
        if isinstance(thought := fields[name], str):
            message["reasoning_content"] = thought
    return message | {name: True for name in ("prefix", "partial") if fields[name]}


def _thought_in(part: dict) -> str:
    """The text of a part that is a thought, as Mistral (parts of text), Anthropic or others write it."""
    if part.get("type") not in THOUGHTS:
        return ""
    found = next((part[name] for name in ("thinking", "reasoning", "text") if name in part), "")
    texts = [item.get("text") for item in found if isinstance(item, dict)] if isinstance(found, list) else [found]
    return "".join(text for text in texts if isinstance(text, str))


def _read_call(fields: Fields) -> dict:
    call_id, function = fields["id"], fields["function"]
    fields.done()
    name, arguments = function["name"], function["arguments"]
    function.done()
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": parse_arguments(arguments)}}


def parse_arguments(text: str) -> dict | str:
    """The arguments of a call, or their text if they are no JSON object."""
    try:
        arguments = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text  # a model's broken JSON is shown to it as it was
    return arguments if type(arguments) is dict else text


def check_tool_turns(messages: list[dict], field: str) -> None:
    """Every call is answered before the conversation continues, and nothing else is; `field` is where it came from."""
    unanswered: dict[str, None] = {}
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            if message["tool_call_id"] not in unanswered:
                error = f"{field}[{index}] with role 'tool' must answer a tool call of the assistant's turn before it"
                raise RequestError(error, field=f"{field}[{index}].role", code="invalid_value")
            del unanswered[message["tool_call_id"]]
        elif unanswered:
            break
        else:
            unanswered = dict.fromkeys(call["id"] for call in message.get("tool_calls", ()))
    if unanswered:
        ids = ", ".join(unanswered)[:200]
        raise RequestError(f"Every tool call must be answered by a tool message; missing: {ids}", field=field)
