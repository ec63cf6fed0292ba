"""What known clients send to chat completions, in our own words, each with the version that was seen to send it."""

from verbatim.conformance.case import SHOULD, case, equal
from verbatim.conformance.probe import Probe

LITELLM, OPENAI = "LiteLLM 1.81 (in aider 0.86.2) and 1.110", "openai-python 2.54.0: chat.completions.parse()"
OPENCODE = "opencode 1.18.33 with @ai-sdk/openai-compatible"
HELLO, MORE = {"role": "user", "content": "Hello"}, {"role": "user", "content": "And now?"}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "42"}
SHELL = {
    "type": "function",
    "function": {
        "name": "bash",
        "description": "Runs a command.",
        "parameters": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {"command": {"type": "string"}, "timeout": {"type": "integer", "exclusiveMinimum": 0}},
            "required": ["command"],
        },
    },
}


def call(**more) -> dict:
    """A call of an earlier turn; `more` goes into its function."""
    return {"id": "call_1", "type": "function", "function": {"name": "bash", "arguments": "{}"} | more}


def is_read(probe: Probe, history: list[dict], plain: list[dict], **fields) -> None:
    """The history is answered, and read as the plain one is."""
    own, same = probe.chat(history, **fields), probe.chat(plain, **fields)
    equal(own.usage("prompt_tokens"), same.usage("prompt_tokens"), "the number of prompt tokens")


@case(
    "chat.asks.litellm",
    "A second turn of LiteLLM, with the first answer as it gave it, is answered.",
    source=LITELLM,
    level=SHOULD,
    fault="no provider fields",
)
def litellm(probe: Probe) -> None:
    extras = {"function_call": None, "provider_specific_fields": {"refusal": None}}
    said = {"role": "assistant", "content": "Yes.", "tool_calls": None} | extras
    is_read(probe, [HELLO, said, MORE], [HELLO, {"role": "assistant", "content": "Yes."}, MORE])


@case(
    "chat.asks.parsed",
    "A parsed answer comes back with what was parsed.",
    source=OPENAI,
    level=SHOULD,
    fault="no parsed messages",
)
def parsed(probe: Probe) -> None:
    empty: dict = {"refusal": None, "annotations": [], "audio": None, "function_call": None}
    said = {"role": "assistant", "content": "{}", "parsed": {"name": "Ada"}, "tool_calls": None} | empty
    is_read(probe, [HELLO, said, MORE], [HELLO, {"role": "assistant", "content": "{}"}, MORE])
    asked = {"role": "assistant", "content": None, "parsed": None, "tool_calls": [call(parsed_arguments={})]} | empty
    plain = {"role": "assistant", "content": None, "tool_calls": [call()]}
    is_read(probe, [HELLO, asked, RESULT], [HELLO, plain, RESULT], tools=[SHELL])


@case(
    "chat.asks.opencode",
    "A stream with tools, usage and a tool's result in the history, as opencode asks for it.",
    source=OPENCODE,
    level=SHOULD,
    fault="refuse stream_options",
)
def opencode(probe: Probe) -> None:
    said = {"role": "assistant", "content": "", "tool_calls": [call()]}
    fields = {"stream_options": {"include_usage": True}, "tools": [SHELL], "tool_choice": "auto", "temperature": ...}
    probe.chat_stream([{"role": "system", "content": "You are opencode."}, HELLO, said, RESULT], **fields)
