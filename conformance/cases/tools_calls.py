"""Tool calls: the shape of a call and of its arguments."""

from verbatim.conformance.case import (
    MUST,
    OBSERVED,
    SHOULD,
    SPEC,
    SkipError,
    WarnError,
    case,
    dig,
    equal,
    expect,
)
from verbatim.conformance.cases.tools import PLAIN, WORD, call, tool
from verbatim.conformance.probe import Probe
from verbatim.conformance.schemas import fits


@case(
    "tools.call_shape",
    "A call has an id, the type function, a name and arguments as text.",
    source=f"{SPEC}; autogen#5260",
    level=MUST,
    fault="body choices.0.message.tool_calls.0.function.arguments={}",
    optional=True,
)
def call_shape(probe: Probe) -> None:
    first = dig(call(probe).calls, "0", dict)
    expect(dig(first, "id", str), "an id that is not empty")
    equal(dig(first, "type"), "function", "the type")
    dig(first, "function.name", str)
    dig(first, "function.arguments", str)


@case(
    "tools.id_length",
    "A call's id has at most 40 characters: OpenAI takes no longer ones back.",
    source=f"{OBSERVED}; archestra#866",
    level=SHOULD,
    fault='body choices.0.message.tool_calls.0.id="call_0123456789012345678901234567890123456789"',
    optional=True,
)
def id_length(probe: Probe) -> None:
    for item in call(probe).calls:
        expect(1 <= len(dig(item, "id", str)) <= 40, "1 to 40 characters", item)


@case(
    "tools.arguments_object",
    "The arguments are a JSON object.",
    source=SPEC,
    level=MUST,
    fault='body choices.0.message.tool_calls.0.function.arguments="5"',
    optional=True,
)
def arguments_object(probe: Probe) -> None:
    dig(call(probe).arguments(), "", dict)


@case(
    "tools.arguments_fit",
    "The arguments of a forced call fit the schema.",
    source="Kimi vendor verifier",
    level=SHOULD,
    fault='body choices.0.message.tool_calls.0.function.arguments="{}"',
    optional=True,
)
def arguments_fit(probe: Probe) -> None:
    fits(call(probe).arguments(), PLAIN)


@case(
    "tools.strict",
    "With strict the arguments fit the schema, whatever the model prefers.",
    source=SPEC,
    level=MUST,
    fault='body choices.0.message.tool_calls.0.function.arguments="{}"',
    optional=True,
)
def strict(probe: Probe) -> None:
    fits(call(probe, tools=[tool(strict=True)]).arguments(), PLAIN)


@case(
    "tools.unicode",
    "Emoji, quotes and line ends in arguments survive.",
    source="JSON within JSON",
    level=MUST,
    fault="loose escapes in calls",
    optional=True,
)
def unicode_(probe: Probe) -> None:
    schema = {
        "type": "object",
        "properties": {"word": {"type": "string", "enum": [WORD]}},
        "required": ["word"],
        "additionalProperties": False,
    }
    answer = call(probe, tools=[tool(parameters=schema, strict=True)], max_tokens=160)
    if answer.finish == "length":
        raise SkipError("arguments within 160 tokens", "they are longer")
    equal(answer.arguments(), {"word": WORD}, "the arguments")


@case(
    "tools.nested",
    "Arguments fit a schema with references, unions and lists.",
    source="Kimi vendor verifier",
    level=SHOULD,
    fault='body choices.0.message.tool_calls.0.function.arguments="{}"',
    optional=True,
)
def nested(probe: Probe) -> None:
    schema = {
        "type": "object",
        "properties": {
            "place": {"$ref": "#/$defs/place"},
            "note": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]},
            "days": {"type": "array", "items": {"type": "integer", "enum": [1, 2]}, "minItems": 1, "maxItems": 2},
        },
        "required": ["place", "note", "days"],
        "additionalProperties": False,
        "$defs": {
            "place": {
                "type": "object",
                "properties": {"name": {"enum": ["Paris"], "type": "string"}},
                "required": ["name"],
                "additionalProperties": False,
            }
        },
    }
    answer = call(probe, tools=[tool(parameters=schema, strict=True)], max_tokens=160)
    if answer.finish == "length":
        raise SkipError("arguments within 160 tokens", "they are longer")
    fits(answer.arguments(), schema)


@case(
    "tools.no_parameters",
    "A function without parameters is accepted and called with {}.",
    source="litellm tests it",
    level=SHOULD,
    fault='body choices.0.message.tool_calls.0.function.arguments="null"',
    optional=True,
)
def no_parameters(probe: Probe) -> None:
    answer = call(probe, tools=[tool(parameters=...)])
    text = dig(answer.calls, "0.function.arguments", str)
    if text == "":
        raise WarnError('arguments of "{}"', "they are empty text")
    dig(answer.arguments(), "", dict)


@case(
    "tools.no_properties",
    "A function with empty properties is accepted.",
    source="lmstudio#261",
    level=MUST,
    fault="refuse tools",
    optional=False,
)
def no_properties(probe: Probe) -> None:
    probe.chat("Hello", tools=[tool(parameters={"type": "object", "properties": {}})])


@case(
    "tools.ids_unique",
    "Every call has an id of its own.",
    source=f"{SPEC}; cloudflare/ai#424",
    level=MUST,
    fault='body choices.0.message.tool_calls.*.id="call_1"',
    optional=True,
)
def ids_unique(probe: Probe) -> None:
    ids = [dig(item, "id", str) for _ in range(4) for item in call(probe).calls]
    expect(len(set(ids)) == len(ids) >= 4, "different ids", ids)


@case(
    "tools.parallel_false",
    "With parallel_tool_calls of false at most one function is called.",
    source=f"{SPEC}; vllm#9451",
    level=MUST,
    fault="drop parallel_tool_calls",
    optional=True,
)
def parallel_false(probe: Probe) -> None:
    text = "What is the weather in Paris and Rome? Call the tool for both."
    equal(len(call(probe, text, tool_choice="required", parallel_tool_calls=False).calls), 1, "the number of calls")
