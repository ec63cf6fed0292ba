"""What is below the JSON: headers, connections, and event streams byte by byte."""

from verbatim.conformance.case import MUST, SHOULD, SPEC, SkipError, case, equal, expect
from verbatim.conformance.probe import CHAT, PROMPTS, Probe

LONG = "Count from one to fifty in words."


WHATWG = "WHATWG HTML: server-sent events"


def flawless(probe: Probe, *names: str) -> None:
    """A stream has none of these flaws."""
    for fields in ({}, {"stream_options": {"include_usage": True}}):
        events = probe.chat_stream(LONG, **fields).events
        flaws = [text for name, text in events.flaws if name in names]
        expect(not flaws, "event streams without a flaw", flaws)


@case(
    "transport.json_type",
    "A whole answer is application/json.",
    source=SPEC,
    level=MUST,
    fault="header Content-Type=text/html",
)
def json_type(probe: Probe) -> None:
    equal(probe.chat().exchange.media_type, "application/json", "the media type")


@case(
    "transport.json_strict",
    "A whole answer is a single JSON value in UTF-8 without a byte order mark.",
    source="RFC 8259",
    level=MUST,
    fault="bom",
)
def json_strict(probe: Probe) -> None:
    answer = probe.chat()
    expect(answer.exchange.body.lstrip()[:1] == b"{", "a body that begins with {", repr(answer.exchange.body[:20]))


@case(
    "transport.sse_type",
    "A stream is text/event-stream with status 200.",
    source=f"{SPEC}; {WHATWG}",
    level=MUST,
    fault="header Content-Type=text/plain",
)
def sse_type(probe: Probe) -> None:
    equal(probe.post(CHAT, probe.chat_body(stream=True)).media_type, "text/event-stream", "the media type")


@case(
    "transport.sse_lines",
    "Every line of a stream is a comment or a field of an event.",
    source=WHATWG,
    level=MUST,
    fault="wire data: {=>garbage\\ndata: {",
)
def sse_lines(probe: Probe) -> None:
    flawless(probe, "line")


@case(
    "transport.sse_terminated",
    "Every event, the last too, ends with a blank line.",
    source=WHATWG,
    level=MUST,
    fault="wire [DONE]\\n\\n=>[DONE]\\n",
)
def sse_terminated(probe: Probe) -> None:
    flawless(probe, "unfinished")


@case(
    "transport.sse_endings",
    "Line endings are all the same.",
    source="split readers in clients",
    level=SHOULD,
    fault="wire [DONE]\\n\\n=>[DONE]\\r\\n\\r\\n",
)
def sse_endings(probe: Probe) -> None:
    flawless(probe, "endings")


@case(
    "transport.sse_utf8",
    "Every line of a stream is UTF-8.",
    source=f"{WHATWG}; openai-python decodes strictly",
    level=MUST,
    fault='wire "role": "assistant"=>"role": "assistant", "x": "\\xff"',
)
def sse_utf8(probe: Probe) -> None:
    flawless(probe, "utf8")


@case(
    "transport.sse_no_empty",
    "No event has empty data.",
    source="Vercel AI SDK fails; copilot-api#88",
    level=MUST,
    fault="wire data: [DONE]=>data:\\n\\ndata: [DONE]",
)
def sse_no_empty(probe: Probe) -> None:
    flawless(probe, "empty")


@case(
    "transport.sse_one_line",
    "Every event has a single data line.",
    source="clients that read line by line",
    level=MUST,
    fault='wire {"id"=>{\\ndata: "id"',
)
def sse_one_line(probe: Probe) -> None:
    for event in probe.chat_stream().events.events:
        equal(event.num_data, 1, "the number of data lines of an event")


@case(
    "transport.sse_json",
    "Every event's data is a JSON object or [DONE].",
    source=SPEC,
    level=MUST,
    fault="wire data: {=>data: [{",
)
def sse_json(probe: Probe) -> None:
    expect(probe.chat_stream().chunks, "chunks")


@case(
    "transport.sse_done",
    "[DONE] comes once and is the last event.",
    source=f"{SPEC}; clients wait for it",
    level=MUST,
    fault="wire data: [DONE]\\n\\n=>",
)
def sse_done(probe: Probe) -> None:
    for fields in ({}, {"stream_options": {"include_usage": True}}):
        data = [event.data for event in probe.chat_stream(**fields).events.events]
        equal([at for at, text in enumerate(data) if text == "[DONE]"], [len(data) - 1], "the places of [DONE]")


@case(
    "transport.sse_no_names",
    "Events of chats have no name but `message`.",
    source="openai-python reads `thread.` apart",
    level=SHOULD,
    fault="wire data: {=>event: chunk\\ndata: {",
)
def sse_no_names(probe: Probe) -> None:
    for event in probe.chat_stream().events.events:
        equal(event.name, "message", "the event's name")


@case(
    "transport.sse_no_ids",
    "No id: and no retry: lines: after such a line openai-python reads comments as empty events.",
    source="openai-python#2722",
    level=SHOULD,
    fault="wire data: {=>id: 4\\ndata: {",
)
def sse_no_ids(probe: Probe) -> None:
    fields = set(probe.chat_stream().events.fields)
    expect(fields <= {"data", "event"}, "data lines only", sorted(fields))


@case(
    "transport.sse_no_bom",
    "A stream does not begin with a byte order mark.",
    source="openai-python does not skip it",
    level=SHOULD,
    fault="wire data: {=>\\xef\\xbb\\xbfdata: {",
)
def sse_no_bom(probe: Probe) -> None:
    start = probe.chat_stream().exchange.body[:3]
    expect(start != b"\xef\xbb\xbf", "data at the beginning", repr(start))


@case(
    "transport.sse_not_cached",
    "A stream has a Cache-Control header that forbids caching.",
    source="SSE practice; proxies",
    level=SHOULD,
    fault="header -Cache-Control",
)
def sse_not_cached(probe: Probe) -> None:
    value = probe.chat_stream().exchange.header("cache-control")
    expect("no-cache" in value or "no-store" in value, "Cache-Control: no-cache", f"Cache-Control: {value}")


@case(
    "transport.sse_no_length",
    "A stream has no Content-Length and is not compressed unasked.",
    source="SSE practice",
    level=SHOULD,
    fault="header Content-Encoding=gzip",
)
def sse_no_length(probe: Probe) -> None:
    exchange = probe.chat_stream().exchange
    equal(
        (exchange.header("content-length"), exchange.header("content-encoding")),
        ("", ""),
        "Content-Length and -Encoding",
    )


@case(
    "transport.sse_incremental",
    "A stream arrives chunk by chunk, not in one burst at the end.",
    source="what streams are for",
    level=SHOULD,
    fault="one burst",
    alone=True,
)
def sse_incremental(probe: Probe) -> None:
    for prompt in PROMPTS:
        stream = probe.chat_stream(prompt, max_tokens=96)
        if len(stream.deltas()) >= 32:
            arrivals = stream.exchange.arrivals
            expect(len(arrivals) > 3, "more than three reads for 32 chunks", arrivals)
            first, last = arrivals[0][0], arrivals[-1][0]
            expect(
                first < 0.9 * last or last < 0.05,
                "the first bytes clearly before the last",
                f"{first:.3f} s, {last:.3f} s",
            )
            return
    raise SkipError("an answer of 32 chunks", "the model answers too briefly")
