"""The Responses API: function calls, exact answers and refusals."""

from verbatim.conformance.answers import Whole, parsed
from verbatim.conformance.case import MUST, OBSERVED, SHOULD, SPEC, SkipError, case, dig, equal, expect, shown
from verbatim.conformance.cases.responses import OPEN, PATH, TOOL, body, events, exactly, items, respond, text_of
from verbatim.conformance.clients import codex
from verbatim.conformance.probe import Probe
from verbatim.conformance.schemas import conforms


@case(
    "responses.function_call",
    "A required function call is an item with id, call_id, name and arguments as text.",
    source=SPEC,
    level=MUST,
    fault="body -output.0.call_id",
    optional=True,
)
def function_call(probe: Probe) -> None:
    first = dig(items(respond(probe, tools=[TOOL], tool_choice="required").body, "function_call"), "0", dict)
    equal(dig(first, "name"), "probe", "the name")
    expect(dig(first, "call_id", str), "a call_id")
    dig(parsed(dig(first, "arguments", str), "the arguments"), "", dict)


@case(
    "responses.named_function",
    "A named function is called.",
    source=SPEC,
    level=MUST,
    fault="drop tool_choice",
    optional=True,
)
def named_function(probe: Probe) -> None:
    tools = [TOOL | {"name": "other"}, TOOL]
    answer = respond(probe, tools=tools, tool_choice={"type": "function", "name": "probe"})
    equal([item.get("name") for item in items(answer.body, "function_call")], ["probe"], "the calls")


@case(
    "responses.absent_function",
    "A choice of an undeclared function is refused.",
    source=f"{OBSERVED}; vllm#40399",
    level=MUST,
    fault="accept tool_choice",
    optional=True,
)
def absent_function(probe: Probe) -> None:
    respond(probe)
    probe.refused(
        probe.send("POST", PATH, body(probe, tools=[TOOL], tool_choice={"type": "function", "name": "other"}))
    )


@case(
    "responses.function_stream",
    "Streamed arguments join to those of done and of the item.",
    source=f"{SPEC}; {OPEN}",
    level=MUST,
    fault='chunk@3 delta="]"',
    optional=True,
)
def function_stream(probe: Probe) -> None:
    data = events(probe, tools=[TOOL], tool_choice="required")[1]
    deltas = "".join(
        dig(item, "delta", str) for item in data if item["type"] == "response.function_call_arguments.delta"
    )
    done = [dig(item, "arguments", str) for item in data if item["type"] == "response.function_call_arguments.done"]
    equal(done[:1], [deltas], "the arguments of done")
    final = items(dig(data[-1], "response"), "function_call")
    equal(dig(final, "0.arguments"), deltas, "the arguments of the item")


@case(
    "responses.function_round_trip",
    "A call and its output are accepted as input.",
    source=SPEC,
    level=MUST,
    fault='ask input="same"',
    optional=True,
)
def function_round_trip(probe: Probe) -> None:
    first = respond(probe, tools=[TOOL], tool_choice="required")
    call = dig(items(first.body, "function_call"), "0", dict)
    output = {"type": "function_call_output", "call_id": dig(call, "call_id", str), "output": "It rains."}
    exchange = probe.send("POST", PATH, body(probe, [{"role": "user", "content": "Hello"}, call, output], tools=[TOOL]))
    expect(exchange.status == 200, "status 200", exchange.summary())
    expect(
        Whole(exchange).usage("input_tokens") > first.usage("input_tokens"),
        "more input tokens",
        shown(exchange.summary()),
    )


@case(
    "responses.json_schema",
    "text.format with a schema binds the answer.",
    source=SPEC,
    level=MUST,
    fault="drop text",
    optional=True,
)
def json_schema(probe: Probe) -> None:
    word = probe.word()
    answer = respond(probe, "Answer with JSON.", text=exactly(word), max_output_tokens=200)
    equal(parsed(text_of(answer.body), "the answer"), {"word": word}, "the answer")


@case(
    "responses.unknown_previous",
    "An unknown previous_response_id is refused.",
    source=f"{SPEC}; {OPEN}",
    level=SHOULD,
    fault="accept previous_response_id",
    optional=True,
)
def unknown_previous(probe: Probe) -> None:
    respond(probe)
    probe.refused(probe.send("POST", PATH, body(probe, previous_response_id="resp_" + probe.word())))


@case(
    "responses.other_tools",
    "Tools of other types are ignored or work: Codex sends them.",
    source="unsloth#5141",
    level=SHOULD,
    fault="refuse tools",
    optional=False,
)
def other_tools(probe: Probe) -> None:
    if probe.send("POST", PATH, body(probe)).status in (404, 405, 501):
        raise SkipError("a server with /responses", "it has none")
    respond(probe, tools=[TOOL, {"type": "custom", "name": "patch", "description": "x"}], tool_choice="auto")


@case(
    "responses.error_shape",
    "Errors have the shape of all errors.",
    source=f"{SPEC}: ErrorResponse",
    level=MUST,
    fault="error -param",
    optional=True,
)
def error_shape(probe: Probe) -> None:
    respond(probe)
    for fields in ({"temperature": -9}, {"input": ...}, {"input": 5}):
        exchange = probe.send("POST", PATH, body(probe, **fields))
        probe.refused(exchange)
        conforms(Whole(exchange).body, "ErrorResponse")


@case(
    "responses.stream_errors",
    "Streamed, a wrong request is refused before the stream begins.",
    source="sglang#12081",
    level=MUST,
    fault="late",
    optional=True,
)
def stream_errors(probe: Probe) -> None:
    respond(probe)
    probe.refused(probe.send("POST", PATH, body(probe, temperature=-9, stream=True)))


@case(
    "responses.client.codex",
    "Codex reads a stream without a complaint.",
    source="rules of Codex CLI",
    level=SHOULD,
    fault="without@-1",
    optional=True,
)
def client_codex(probe: Probe) -> None:
    stream, data = events(probe, "Answer with JSON.", text=exactly("lamp"), max_output_tokens=200)
    if data[-1].get("type") == "response.incomplete":
        raise SkipError("a completed response", "the model writes on")
    complaint = codex(stream.exchange.body)
    expect(complaint is None, "Codex reads the stream", complaint)
