"""What a chat template is given: calls, tools and messages in the forms that templates expect; and how much work."""

import json

from verbatim.reference.text.sandbox import MAX_WORK

# Some templates walk through the whole conversation for each message. With 280 turns that call a tool, as many as fill
# 128k tokens, those of Gemma 4 and gpt-oss took 4,400 and 2,100 units of work a message, 37 and 18 a token.
WORK_A_MESSAGE, WORK_A_TOKEN, MOST_WORK = 4_500, 40, 5_000_000
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


def work_for(messages: list[dict], context_size: int) -> int:
    """The work that a rendering of these messages may do: more than usual for many, where the context is large."""
    return min(max(MAX_WORK, WORK_A_MESSAGE * len(messages)), max(MAX_WORK, WORK_A_TOKEN * context_size), MOST_WORK)
