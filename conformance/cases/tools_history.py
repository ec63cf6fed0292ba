"""Tool calls as history: answers of tools, and histories that are not consistent."""

from verbatim.conformance.answers import Whole
from verbatim.conformance.case import (
    MAY,
    MUST,
    OBSERVED,
    SHOULD,
    SPEC,
    FailError,
    SkipError,
    WarnError,
    case,
    dig,
    equal,
    expect,
)
from verbatim.conformance.cases.tools import call, named, names, tool
from verbatim.conformance.probe import CHAT, Probe


def _history(probe: Probe) -> tuple[Whole, list[dict]]:
    answer = call(probe)
    messages = [{"role": "user", "content": "Call the tool."}, answer.at("choices.0.message", dict)]
    messages += [{"role": "tool", "tool_call_id": item["id"], "content": "It rains."} for item in answer.calls]
    return answer, messages


@case(
    "tools.round_trip",
    "The server's own call and a tool's answer may come back; the prompt grows.",
    source=f"{SPEC}; every agent",
    level=MUST,
    fault="no annotations",
    optional=True,
)
def round_trip(probe: Probe) -> None:
    answer, messages = _history(probe)
    messages[1] = messages[1] | {"annotations": []}
    exchange = probe.send("POST", CHAT, probe.chat_body(messages, tools=[tool()]))
    expect(exchange.status == 200, "status 200", exchange.summary())
    second = Whole(exchange)
    expect(second.usage("prompt_tokens") > answer.usage("prompt_tokens"), "a longer prompt", second.body.get("usage"))


@case(
    "tools.history_without_tools",
    "A history of calls is accepted although tools are not given any more.",
    source="agents that end",
    level=SHOULD,
    fault="history needs tools",
    optional=True,
)
def history_without_tools(probe: Probe) -> None:
    _, messages = _history(probe)
    exchange = probe.send("POST", CHAT, probe.chat_body(messages))
    expect(exchange.status == 200, "status 200", exchange.summary())


def _turns(name: str, text: str, messages: list[dict], fault: str) -> None:
    @case(f"tools.{name}", text, source=f"{OBSERVED}: 400; llama_index#10493; agno#4345", level=SHOULD, fault=fault)
    def turns(probe: Probe) -> None:
        exchange = probe.send("POST", CHAT, probe.chat_body(messages))
        if exchange.status == 200:
            raise WarnError("a refusal, as OpenAI gives", "the conversation is accepted")
        probe.refused(exchange)


_HI = {"role": "user", "content": "Hello"}


_CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "probe", "arguments": "{}"}}],
}


_turns(
    "orphan_answer",
    "A tool message without a call before it is refused.",
    [_HI, {"role": "tool", "tool_call_id": "call_1", "content": "5"}],
    "accept messages[1].role",
)


_turns(
    "unanswered_call",
    "A call without an answer before the next user message is refused.",
    [_HI, _CALL, _HI],
    "accept messages.unanswered",
)


_turns(
    "wrong_call_id",
    "An answer to a call that was not made is refused.",
    [_HI, _CALL, {"role": "tool", "tool_call_id": "call_2", "content": "5"}],
    "accept messages",
)


@case(
    "tools.allowed_tools",
    "With allowed_tools in mode required, only an allowed function is called.",
    source=SPEC,
    level=MUST,
    fault='ask tool_choice="required"',
    optional=True,
)
def allowed_tools(probe: Probe) -> None:
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named("second")]}}
    answer = call(probe, tools=[tool("first"), tool("second")], tool_choice=choice)
    expect(answer.calls and set(names(answer)) == {"second"}, "calls of `second` only", answer.body)


@case("tools.custom", "A custom tool works or is refused cleanly.", source=SPEC, level=MAY, fault="status 500")
def custom(probe: Probe) -> None:
    exchange = probe.send("POST", CHAT, probe.chat_body("Hi", tools=[{"type": "custom", "custom": {"name": "probe"}}]))
    if exchange.status != 200:
        probe.refused(exchange)


@case(
    "tools.truncated",
    "A forced call cut by a cap of 3 is no failure; finish_reason reports the cut.",
    source="vllm#37937",
    level=MUST,
    fault="ignores caps",
    optional=True,
)
def truncated(probe: Probe) -> None:
    schema = {
        "type": "object",
        "properties": {"word": {"type": "string", "enum": ["lamp river bird stone green blue"]}},
        "required": ["word"],
        "additionalProperties": False,
    }
    answer = call(probe, tools=[tool(parameters=schema)], tool_choice="required", max_tokens=3)
    equal(answer.finish, "length", "finish_reason")
    expect(answer.usage() <= 3, "at most 3 completion tokens", answer.body)


@case(
    "tools.parallel_ids",
    "Calls of the same answer have different ids.",
    source=f"{SPEC}; smolagents#1958",
    level=MUST,
    fault='body choices.0.message.tool_calls.*.id="call_1"',
    optional=True,
)
def parallel_ids(probe: Probe) -> None:
    answer = call(probe, "What is the weather in Paris and Rome? Call the tool for both.", tool_choice="required")
    if len(answer.calls) < 2:
        raise SkipError("two calls in an answer", "the model makes a single call")
    ids = [dig(item, "id", str) for item in answer.calls]
    expect(len(set(ids)) == len(ids), "different ids", ids)


@case(
    "tools.parallel_stream",
    "Calls of the same stream have different indices and ids.",
    source=f"{SPEC}; dynamo#4723",
    level=MUST,
    fault="chunk choices.0.delta.tool_calls.0.index=0",
    optional=True,
)
def parallel_stream(probe: Probe) -> None:
    fields = {"tools": [tool()], "tool_choice": "required", "max_tokens": 96}
    stream = probe.chat_stream("What is the weather in Paris and Rome? Call the tool for both.", **fields)
    ids = {fragment["id"] for fragment in stream.fragments if fragment.get("id")}
    if len(ids) < 2:
        raise SkipError("two calls in a stream", "the model makes a single call")
    equal(len(stream.calls), len(ids), "the number of indices")
    if [item["name"] for item in stream.calls] != ["probe"] * len(ids):
        raise FailError("two whole calls", str(stream.calls))
