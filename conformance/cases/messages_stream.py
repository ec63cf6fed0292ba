"""Anthropic's Messages streamed: named events in order, and deltas that join to the whole answer."""

from verbatim.conformance.answers import Streamed, parsed
from verbatim.conformance.case import MUST, SHOULD, case, dig, equal, expect
from verbatim.conformance.cases.messages import API, LONG, PATH, SDK, VERSION, ask, body, text_of
from verbatim.conformance.cases.messages_tools import FORCED, SCHEMA
from verbatim.conformance.probe import Probe
from verbatim.conformance.schemas import fits

STREAM = f"{API}, Streaming; {SDK}"


def stream_of(probe: Probe, content: object = "Hello", **fields) -> Streamed:
    """The stream of a message."""
    return Streamed(probe.post(PATH, body(probe, content, stream=True, **fields), headers=VERSION))


def events(probe: Probe, content: object = "Hello", **fields) -> list[dict]:
    """The events' data, without pings."""
    return [event for event in stream_of(probe, content, **fields).chunks if dig(event, "type", str) != "ping"]


@case(
    "messages.stream_names",
    "Every event's name is its `type`.",
    source=STREAM,
    level=MUST,
    fault="no names",
    optional=True,
)
def stream_names(probe: Probe) -> None:
    stream = stream_of(probe)
    given = [event.name for event in stream.events.events if event.data != "[DONE]"]
    equal(given, [dig(item, "type", str) for item in stream.chunks], "the events' names")


@case(
    "messages.stream_begin",
    "A stream begins with message_start, whose message has an id, no content yet, and input tokens.",
    source=STREAM,
    level=MUST,
    fault="without@0",
    optional=True,
)
def stream_begin(probe: Probe) -> None:
    first = events(probe)[0]
    equal(first["type"], "message_start", "the first event")
    equal(dig(first, "message.content"), [], "its content")
    expect(dig(first, "message.id", str), "an id", first)
    dig(first, "message.usage.input_tokens", int)


@case(
    "messages.stream_end",
    "It ends with message_delta, which has stop_reason and output_tokens, and message_stop.",
    source=STREAM,
    level=MUST,
    fault="chunk@-2 -usage",
    optional=True,
)
def stream_end(probe: Probe) -> None:
    *_, delta, stop = events(probe)
    equal((delta["type"], stop["type"]), ("message_delta", "message_stop"), "the last events")
    expect(dig(delta, "delta.stop_reason", str), "a stop_reason", delta)
    dig(delta, "usage.output_tokens", int)


@case(
    "messages.stream_blocks",
    "Blocks are numbered from 0, each started before its deltas and stopped after them.",
    source=STREAM,
    level=MUST,
    fault="chunk@2 index=5",
    optional=True,
)
def stream_blocks(probe: Probe) -> None:
    number, is_open = -1, False
    for event in events(probe, LONG):
        name = event["type"]
        if not name.startswith("content_block"):
            continue
        is_start = name == "content_block_start"
        expect(is_start != is_open, f"{name} in its place", event)
        number += is_start
        equal(dig(event, "index", int), number, "the index")
        is_open = name != "content_block_stop"
    expect(number >= 0 and not is_open, "blocks that are stopped", f"{number + 1} blocks")


@case(
    "messages.stream_text",
    "The deltas of text join to the text of the whole answer.",
    source=STREAM,
    level=MUST,
    fault='chunk@3 delta.text="zzz"',
    optional=True,
)
def stream_text(probe: Probe) -> None:
    deltas = [dig(event, "delta") for event in events(probe, LONG) if event["type"] == "content_block_delta"]
    text = "".join(dig(delta, "text", str) for delta in deltas if dig(delta, "type", str) == "text_delta")
    equal(text, text_of(ask(probe, LONG).body), "the joined text")


@case(
    "messages.stream_tool",
    "A streamed call starts with id, name and an empty input; its deltas join to the JSON of its input.",
    source=STREAM,
    level=MUST,
    fault='chunk@2 delta.partial_json="x"',
    optional=True,
)
def stream_tool(probe: Probe) -> None:
    data = events(probe, **FORCED)
    starts = [event for event in data if event["type"] == "content_block_start"]
    block = next((event for event in starts if dig(event, "content_block.type", str) == "tool_use"), {})
    expect(dig(block, "content_block.id", str), "an id", block)
    equal(dig(block, "content_block.name"), "probe", "the name")
    equal(dig(block, "content_block.input"), {}, "the input at the start")
    deltas = [event for event in data if event["type"] == "content_block_delta" and event["index"] == block["index"]]
    text = "".join(dig(event, "delta.partial_json", str) for event in deltas)
    fits(parsed(text, "the joined input"), SCHEMA)


@case(
    "messages.stream_usage",
    "A stream counts the same output tokens as the whole answer.",
    source=STREAM,
    level=MUST,
    fault="chunk@-2 usage.output_tokens=1",
    optional=True,
)
def stream_usage(probe: Probe) -> None:
    streamed = dig(events(probe, LONG)[-2], "usage.output_tokens", int)
    equal(streamed, ask(probe, LONG).usage("output_tokens"), "output_tokens")


@case(
    "messages.stream_no_done",
    "No [DONE] follows: message_stop is the end.",
    source=STREAM,
    level=SHOULD,
    fault="messages done",
    optional=True,
)
def stream_no_done(probe: Probe) -> None:
    expect(all(event.data != "[DONE]" for event in stream_of(probe).events.events), "no [DONE]", "there is one")
