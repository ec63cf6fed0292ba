"""Tool calls: forced, forbidden and left to the model, their shape, and the tool's answer as history."""

from verbatim.conformance.answers import Whole
from verbatim.conformance.case import (
    MUST,
    OBSERVED,
    SHOULD,
    SPEC,
    case,
    dig,
    equal,
    expect,
)
from verbatim.conformance.probe import Probe

WORD = 'lamp \U0001f9d1\u200d\U0001f680 "quoted" \\ back\nnew line \u4f60\u597d'


PLAIN = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}


def tool(name: str = "probe", parameters: object = PLAIN, **more: object) -> dict:
    """A function tool; parameters of ... are left out."""
    function = {"name": name, "description": "Takes a value.", "parameters": parameters} | more
    return {"type": "function", "function": {key: value for key, value in function.items() if value is not ...}}


def named(name: str = "probe") -> dict:
    """A tool_choice that names a function."""
    return {"type": "function", "function": {"name": name}}


def call(probe: Probe, messages="Call the tool.", **fields) -> Whole:
    """An answer with a forced call."""
    return probe.chat(messages, **{"tools": [tool()], "tool_choice": named(), "max_tokens": 96} | fields)


def names(answer: Whole) -> list[str]:
    """The names of the called functions."""
    return [dig(item, "function.name", str) for item in answer.calls]


@case(
    "tools.named",
    "A named function is called, and no other.",
    source=SPEC,
    level=MUST,
    fault="drop tool_choice",
    optional=True,
)
def forced_named(probe: Probe) -> None:
    answer = call(probe, tools=[tool("other"), tool()])
    equal(names(answer), ["probe"], "the calls")
    expect(answer.finish in ("stop", "tool_calls"), "finish_reason stop or tool_calls", answer.finish)


@case(
    "tools.required",
    "With `required` a declared function is called.",
    source=f"{SPEC}; mlx-vlm#1045",
    level=MUST,
    fault="drop tool_choice",
    optional=True,
)
def required(probe: Probe) -> None:
    answer = call(probe, tools=[tool("first"), tool("second")], tool_choice="required")
    expect(answer.calls and set(names(answer)) <= {"first", "second"}, "calls of declared functions", answer.body)


@case(
    "tools.required_finish",
    "With `required` the answer finishes with tool_calls.",
    source=f"{SPEC}; vllm#25054",
    level=MUST,
    fault='body choices.0.finish_reason="stop"',
    optional=True,
)
def required_finish(probe: Probe) -> None:
    equal(call(probe, tool_choice="required").finish, "tool_calls", "finish_reason")


@case(
    "tools.required_small_talk",
    "`required` holds even where no tool fits the question.",
    source="llama.cpp#27217",
    level=MUST,
    fault="drop tool_choice",
    optional=True,
)
def required_small_talk(probe: Probe) -> None:
    answer = call(probe, "Good morning! How are you today?", tool_choice="required")
    expect(answer.calls, "a call", answer.body)


@case(
    "tools.none",
    "With `none` nothing is called.",
    source=f"{SPEC}; Rapid-MLX#445",
    level=MUST,
    fault='ask tool_choice="required"',
    optional=True,
)
def none(probe: Probe) -> None:
    answer = call(probe, "What is the weather in Paris?", tool_choice="none")
    equal(answer.calls, [], "the calls")
    expect(answer.finish in ("stop", "length"), "finish_reason stop or length", answer.finish)


@case(
    "tools.auto",
    "Without a choice the model decides; either way finish_reason and calls agree.",
    source=f"{SPEC}; mlx-vlm#990",
    level=MUST,
    fault='body choices.0.finish_reason="tool_calls"',
    optional=True,
)
def auto(probe: Probe) -> None:
    for text in ("Hello", "What is the weather in Paris?"):
        answer = call(probe, text, tool_choice=...)
        if answer.finish != "length":
            equal(answer.finish == "tool_calls", bool(answer.calls), "finish_reason tool_calls, where there are calls,")


@case(
    "tools.auto_text_key",
    "An answer in words beside tools has no key tool_calls.",
    source=f"{OBSERVED}; vllm#44104",
    level=SHOULD,
    fault="body choices.0.message.tool_calls=null",
    optional=True,
)
def auto_text_key(probe: Probe) -> None:
    message = call(probe, "Hello", tool_choice="none").at("choices.0.message", dict)
    expect("tool_calls" not in message, "no key tool_calls", message)


@case(
    "tools.content_null",
    "Beside a forced call the content is null or empty.",
    source=OBSERVED,
    level=SHOULD,
    fault='body choices.0.message.content="<tool_call>"',
    optional=True,
)
def content_null(probe: Probe) -> None:
    content = call(probe).at("choices.0.message.content")
    expect(content in (None, ""), "null or empty content", content)
