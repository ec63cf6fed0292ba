"""A conversation as OpenAI writes it, made into the plain messages that a chat template expects.

Text parts are joined, `developer` becomes `system`, and the arguments of earlier tool calls are parsed, since
templates print them as JSON again. Parts that are not text are refused. An assistant's own answer may come back
word for word, with the keys that answers carry. Every tool call must be answered before the conversation goes on.
"""

import json

from verbatim.reference.records.errors import RequestError, UnsupportedError
from verbatim.server.api.fields import Fields, of_type, type_error

ROLES = ("developer", "system", "user", "assistant", "tool")
PART_TYPES = ("image_url", "input_audio", "file")


def take_messages(fields: Fields) -> list[dict]:
    """The field `messages`, checked and normalised. RequestError names the message and the field at fault."""
    values = of_type("messages", fields.required("messages"), list)
    if not values:
        raise RequestError("messages must have at least one item", field="messages", code="empty_array")
    messages = [_read_message(value, f"messages[{index}]") for index, value in enumerate(values)]
    check_tool_turns(messages, "messages")
    return messages


def _read_message(value, path: str) -> dict:
    fields = Fields(value, path)
    if fields.has("role") and type(value["role"]) is str and value["role"] == "function":
        raise UnsupportedError(f"{path}.role: function messages are deprecated; use tool", field=f"{path}.role")
    role = fields.one_of("role", ROLES) or fields.required("role")
    message = {"role": "system" if role == "developer" else role}
    if role == "assistant":
        message |= _read_assistant(fields)
    else:
        message["content"] = read_content(fields.required("content"), f"{path}.content")
    if role == "tool":
        message["tool_call_id"] = of_type(f"{path}.tool_call_id", fields.required("tool_call_id"), str)
    if (name := fields.string("name")) is not None:
        message["name"] = name
    fields.done()
    return message


def _read_assistant(fields: Fields) -> dict:
    path = fields.path
    calls = fields.array("tool_calls")
    message = {"content": None}
    if fields.has("content"):
        message["content"] = read_content(fields.take("content"), f"{path}.content", "text", "refusal")
    refusal = fields.string("refusal")
    if message["content"] is None:
        message["content"] = refusal
    if message["content"] is None and not calls:
        error = f"{path}.content is required unless there are tool_calls"
        raise RequestError(error, field=f"{path}.content", code="missing_required_parameter")
    if calls:
        message["tool_calls"] = [_read_call(call, f"{path}.tool_calls[{i}]") for i, call in enumerate(calls)]
    if (reasoning := fields.string("reasoning_content")) is not None:
        message["reasoning_content"] = reasoning
    fields.array("annotations")
    fields.refuse("audio")
    fields.refuse("function_call")
    return message


def read_content(value, path: str, *kinds: str) -> str:
    """Text, or the joined text of parts of these kinds; plain text parts if none are named."""
    if type(value) is str:
        return value
    if type(value) is not list:
        raise type_error(path, value, "a string or an array of text parts")
    if not value:
        raise RequestError(f"{path} must have at least one part", field=path, code="empty_array")
    return "".join(_read_part(part, f"{path}[{i}]", kinds or ("text",)) for i, part in enumerate(value))


def _read_part(value, path: str, kinds: tuple[str, ...]) -> str:
    fields = Fields(value, path)
    kind = of_type(f"{path}.type", fields.required("type"), str)
    if kind in PART_TYPES:
        raise UnsupportedError(f"{path}.type: this model reads text only", field=f"{path}.type")
    if kind not in kinds:
        raise RequestError(f"{path}.type must be {' or '.join(kinds)}", field=f"{path}.type", code="invalid_value")
    text = of_type(f"{path}.{kind}", fields.required(kind), str)
    fields.take("prompt_cache_breakpoint")  # a hint for caching, which happens here in any case
    fields.done()
    return text


def _read_call(value, path: str) -> dict:
    fields = Fields(value, path)
    call_id = of_type(f"{path}.id", fields.required("id"), str)
    fields.one_of("type", ("function",))
    fields.take("index")  # some clients send back the streamed fragment's
    function = Fields(fields.required("function"), f"{path}.function")
    fields.done()
    name = of_type(f"{path}.function.name", function.required("name"), str)
    arguments = of_type(f"{path}.function.arguments", function.required("arguments"), str)
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
    """Every call is answered before the conversation goes on, and nothing else is; `field` is where it came from."""
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
