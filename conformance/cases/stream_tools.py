"""Streamed tool calls in fragments, and replays of captured streams through known clients."""

from verbatim.conformance.case import MAY, MUST, OBSERVED, SHOULD, SPEC, WarnError, case, dig, equal, expect, shown
from verbatim.conformance.cases.stream import NAMED, TOOL, USAGE, forced_stream
from verbatim.conformance.clients import CHAT_CLIENTS
from verbatim.conformance.probe import Probe


@case(
    "stream.tool_first",
    "A call's first fragment has index, id, type, name and text as arguments.",
    source=f"{SPEC}; openai-node; vllm#9693",
    level=MUST,
    fault="chunk@1 -choices.0.delta.tool_calls.0.id",
    optional=True,
)
def tool_first(probe: Probe) -> None:
    fragments = forced_stream(probe).fragments
    first = dig(fragments, "0", dict)
    dig(first, "index", int)
    expect(dig(first, "id", str), "an id")
    equal(first.get("type"), "function", "the type")
    equal(dig(first, "function.name"), "probe", "the name")
    dig(first, "function.arguments", str)


@case(
    "stream.tool_index",
    "Every fragment of a call has its integer index.",
    source=f"{SPEC}; ollama#7881; openai-python",
    level=MUST,
    fault="chunk@2 -choices.0.delta.tool_calls.0.index",
    optional=True,
)
def tool_index(probe: Probe) -> None:
    fragments = forced_stream(probe).fragments
    expect(fragments, "fragments of a tool call", "none")
    for fragment in fragments:
        equal(dig(fragment, "index", int), 0, "the index of the only call")


@case(
    "stream.tool_next",
    "Later fragments bring arguments only: a repeated id or name doubles in clients.",
    source=f"{OBSERVED}; litellm#20480; langchain4j#4544",
    level=SHOULD,
    fault='chunk@2 choices.0.delta.tool_calls.0.id="call_x"',
    optional=True,
)
def tool_next(probe: Probe) -> None:
    for fragment in forced_stream(probe).fragments[1:]:
        expect(not fragment.get("id"), "no second id", fragment)
        expect(not dig(fragment, "function", dict).get("name"), "no second name", fragment)


@case(
    "stream.tool_arguments",
    "The fragments' arguments join to the JSON that the whole answer has.",
    source=SPEC,
    level=MUST,
    fault='chunk@3 choices.0.delta.tool_calls.0.function.arguments="]"',
    optional=True,
)
def tool_arguments(probe: Probe) -> None:
    streamed = forced_stream(probe).calls
    whole = probe.chat("Call the tool.", tools=[TOOL], tool_choice=NAMED, max_tokens=64)
    equal(dig(streamed, "0.arguments"), dig(whole.calls, "0.function.arguments", str), "the joined arguments")


@case(
    "stream.tool_no_text",
    "A forced call streams no text beside it.",
    source="parsers that leak markers",
    level=SHOULD,
    fault='chunk@2 choices.0.delta.content="<tool_call>"',
    optional=True,
)
def tool_no_text(probe: Probe) -> None:
    equal(forced_stream(probe).text(), "", "the text beside a forced call")


@case(
    "stream.tool_finish",
    "A stream with required calls finishes with tool_calls.",
    source=f"{SPEC}; vllm#25054",
    level=MUST,
    fault='chunk@-1 choices.0.finish_reason="stop"',
    optional=True,
)
def tool_finish(probe: Probe) -> None:
    stream = forced_stream(probe, tool_choice="required")
    equal(stream.finishes(), ["tool_calls"], "finish_reason")


@case(
    "stream.tool_pieces",
    "Long arguments come in several fragments.",
    source="a user who waits",
    level=MAY,
    fault="one fragment",
    optional=True,
)
def tool_pieces(probe: Probe) -> None:
    fragments = [f for f in forced_stream(probe).fragments if (f.get("function") or {}).get("arguments")]
    if len(fragments) < 2:
        raise WarnError("arguments in several fragments", f"{len(fragments)} fragment")


def _replay(name: str, read, tools: bool) -> None:
    prefix, level = ("tool_client" if tools else "client"), MUST if name.startswith("openai") else SHOULD
    fault = 'wire "index": 0=>"index": "a' if tools else "wire data: [DONE]=>data: {"
    faults = {
        ("openai_python", False): "wire data: {=>id: 1\\n\\ndata: {",
        ("openai_node", False): "chunk@-1 choices.0.finish_reason=null",
        ("vercel_ai", False): "wire data: {=>data:\\n\\ndata: {",
        ("langchain", False): "chunk@1 -choices",
        ("openai_python", True): "chunk@2 -choices.0.delta.tool_calls.0.index",
        ("openai_node", True): "chunk@1 -choices.0.delta.tool_calls.0.id",
        ("vercel_ai", True): "chunk@2 -choices.0.delta.tool_calls.0.function",
        ("langchain", True): "chunk@2 -choices.0.delta.tool_calls.0.index",
    }
    fault = faults[name, tools]

    @case(
        f"stream.{prefix}.{name}",
        f"{name.replace('_', '-')} reads a stream{' of a forced call' if tools else ''} without a complaint.",
        source=f"rules of {name.replace('_', '-')}",
        level=level,
        fault=fault,
        optional=tools,
    )
    def replay(probe: Probe) -> None:
        streams = [forced_stream(probe)] if tools else [probe.chat_stream(), probe.chat_stream(**USAGE)]
        for stream in streams:
            complaint = read(stream.exchange.body)
            expect(complaint is None, f"{name} reads the stream", f"it {complaint}: {shown(stream.chunks[:2])}")


for _name, _read in CHAT_CLIENTS.items():
    _replay(_name, _read, False)
    _replay(_name, _read, True)
