"""What a chat template is given: calls, tools and messages in the forms that templates expect; and how much work."""

import json

from verbatim.reference.text.sandbox import MAX_WORK

WORK_A_CHARACTER = 8  # that a rendering may do for each character of a long conversation
PROBED, PROBED_AS_PYTHON = '{"probe": "x"}', "{'probe': 'x'}"
PROBE_TOOL = {
    "type": "function",
    "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}},
}
PROBE: list[dict] = [  # a conversation with a call
    {"role": "user", "content": "a"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "123456789", "type": "function", "function": {"name": "f", "arguments": {"probe": "x"}}}],
    },
    {"role": "tool", "content": "b", "name": "f", "tool_call_id": "123456789"},
]


def with_text_arguments(message: dict) -> dict:
    """The message with the arguments of its calls as JSON text."""
    calls = []
    for call in message.get("tool_calls") or ():
        arguments = call["function"]["arguments"]
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        calls.append(call | {"function": call["function"] | {"arguments": text}})
    return message | ({"tool_calls": calls} if calls else {})


def with_description(tool: dict) -> dict:
    """The tool with a description and parameters, if only empty ones."""
    empty = {"description": "", "parameters": {"type": "object", "properties": {}}}
    return tool | {"function": empty | tool["function"]} if "function" in tool else tool


def size_of(value) -> int:
    """The characters in a value from outside, and one for each element."""
    if isinstance(value, str):
        return len(value)
    items = (*value, *value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(size_of, items))


def work_for(value) -> int:
    """The work that a rendering of this conversation may do: more than usual if it is long."""
    return max(MAX_WORK, WORK_A_CHARACTER * size_of(value))
