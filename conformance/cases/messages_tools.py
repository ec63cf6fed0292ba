"""Anthropic's Messages with tools: calls as the choice says, and their results in the history."""

from verbatim.conformance.answers import Whole
from verbatim.conformance.case import MUST, case, dig, equal, expect
from verbatim.conformance.cases.messages import API, CLAUDE, ask, present
from verbatim.conformance.probe import Probe
from verbatim.conformance.schemas import fits

SCHEMA = {
    "type": "object",
    "properties": {"word": {"type": "string", "enum": ["lamp by the river"]}},
    "required": ["word"],
    "additionalProperties": False,
}
TOOL = {"name": "probe", "description": "Takes a word.", "input_schema": SCHEMA}
USER = {"role": "user", "content": "Hello"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "probe", "input": {"word": "lamp by the river"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1"}
FORCED = {"tools": [TOOL], "max_tokens": 200, "tool_choice": {"type": "tool", "name": "probe"}}


def calls_of(answer: Whole) -> list[dict]:
    """The blocks that call a tool."""
    return [block for block in answer.at("content", list) if dig(block, "type", str) == "tool_use"]


@case(
    "messages.tool_use",
    "A named tool is called: a block with id, name and an input that fits the schema.",
    source=API,
    level=MUST,
    fault="body content.0.input={}",
    optional=True,
)
def tool_use(probe: Probe) -> None:
    call = dig(calls_of(ask(probe, **FORCED)), "0", dict)
    expect(dig(call, "id", str), "an id", call)
    equal(call.get("name"), "probe", "the name")
    fits(dig(call, "input", dict), SCHEMA)


@case(
    "messages.tool_reason",
    "An answer that calls a tool ends for the reason tool_use.",
    source=API,
    level=MUST,
    fault='body stop_reason="end_turn"',
    optional=True,
)
def tool_reason(probe: Probe) -> None:
    equal(ask(probe, **FORCED).at("stop_reason"), "tool_use", "stop_reason")


@case(
    "messages.tool_any",
    "With the choice `any` a tool is called; with disable_parallel_tool_use it is one.",
    source=API,
    level=MUST,
    fault="body content=[]",
    optional=True,
)
def tool_any(probe: Probe) -> None:
    choice = {"type": "any", "disable_parallel_tool_use": True}
    equal(len(calls_of(ask(probe, **FORCED | {"tool_choice": choice}))), 1, "the number of calls")


@case(
    "messages.tool_none",
    "With the choice `none` no tool is called.",
    source=API,
    level=MUST,
    fault='body content=[{"type":"tool_use","id":"1","name":"probe","input":{}}]',
    optional=True,
)
def tool_none(probe: Probe) -> None:
    answer = ask(probe, **FORCED | {"tool_choice": {"type": "none"}, "max_tokens": 16})
    equal(len(calls_of(answer)), 0, "the number of calls")


@case(
    "messages.tool_result",
    "Results of tools are read: as text, as blocks, failed, or empty.",
    source=f"{API}; {CLAUDE}",
    level=MUST,
    fault="no tool results",
    optional=False,
)
def tool_result(probe: Probe) -> None:
    present(probe)
    texts: list[dict] = [{"content": "Done."}, {"content": [{"type": "text", "text": "Done."}]}]
    for more in (*texts, {"content": "No such word.", "is_error": True}, {}):
        called = {"role": "assistant", "content": [{"type": "text", "text": "I call."}, CALL]}
        ask(probe, messages=[USER, called, {"role": "user", "content": [RESULT | more]}], tools=[TOOL])


@case(
    "messages.thinking_history",
    "Blocks of thinking in the history are accepted.",
    source=f"{API}, Extended thinking; {CLAUDE}",
    level=MUST,
    fault="no thinking",
    optional=False,
)
def thinking_history(probe: Probe) -> None:
    present(probe)
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmF0dXJl"}
    said = {"role": "assistant", "content": [thinking, {"type": "text", "text": "Hi."}]}
    ask(probe, messages=[USER, said, USER])
