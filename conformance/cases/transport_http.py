"""Below the JSON: headers and connections."""

from collections.abc import Sequence

from verbatim.conformance.answers import Streamed, Whole
from verbatim.conformance.case import MAY, MUST, SHOULD, SPEC, FailError, WarnError, case, equal, expect
from verbatim.conformance.cases.transport import LONG
from verbatim.conformance.probe import CHAT, Probe, Reading
from verbatim.conformance.sse import read_events


@case("transport.stream_false", "stream of false or null gives JSON.", source=SPEC, level=MUST, fault="stream key")
def stream_false(probe: Probe) -> None:
    for value in (False, None):
        equal(probe.chat(stream=value).at("object"), "chat.completion", f"object with stream {value}")


@case(
    "transport.charset",
    "Content-Type application/json with a charset is accepted.",
    source="openai-openapi#194",
    level=MUST,
    fault="no charset",
)
def charset(probe: Probe) -> None:
    for media_type in ("application/json; charset=utf-8", "application/json;charset=UTF-8"):
        probe.post(CHAT, probe.chat_body(max_tokens=1), headers={"Content-Type": media_type})


@case(
    "transport.accept",
    "The answer has the form that the body requests, whatever Accept contains.",
    source="SDKs send various",
    level=SHOULD,
    fault="accept json only",
)
def accept(probe: Probe) -> None:
    for value in ("*/*", "application/json", "text/event-stream", None):
        Whole(probe.post(CHAT, probe.chat_body(max_tokens=1), headers={"Accept": value}))
        Streamed(probe.post(CHAT, probe.chat_body(max_tokens=1, stream=True), headers={"Accept": value}))


@case(
    "transport.sdk_headers",
    "Headers that SDKs add are ignored.",
    source="openai-python, openai-node",
    level=MUST,
    fault="stainless",
)
def sdk_headers(probe: Probe) -> None:
    headers = {
        "X-Stainless-Lang": "python",
        "X-Stainless-Retry-Count": "0",
        "X-Stainless-Read-Timeout": "600",
        "OpenAI-Organization": "org-x",
        "OpenAI-Project": "proj-x",
        "OpenAI-Beta": "assistants=v2",
        "Idempotency-Key": probe.word(),
        "User-Agent": "OpenAI/Python 3.51.0",
    }
    probe.post(CHAT, probe.chat_body(max_tokens=1), headers=headers)


def _in_turn(probe: Probe, bodies: Sequence[dict | bytes]) -> list:
    connection = probe.client.connect()
    try:
        return [probe.send("POST", CHAT, body, connection=connection) for body in bodies]
    finally:
        connection.close()


@case(
    "transport.keep_alive",
    "A connection carries a stream, an error and an answer, one after the other.",
    source="RFC 9112; koboldcpp#321",
    level=SHOULD,
    fault="wire [DONE]=>[DONE",
)
def keep_alive(probe: Probe) -> None:
    bodies = [probe.chat_body(stream=True), probe.chat_body(temperature=-9), probe.chat_body(max_tokens=2)]
    stream, error, whole = _in_turn(probe, bodies)
    data = [event.data for event in read_events(probe.accepted(stream).body).events]
    expect(data and data[-1] == "[DONE]", "a whole stream first", stream.summary())
    probe.refused(error)
    Whole(probe.accepted(whole)).text()


@case(
    "transport.error_then_ok",
    "After a body that is no JSON the connection still works.",
    source="RFC 9112",
    level=SHOULD,
    fault="body -choices",
)
def error_then_ok(probe: Probe) -> None:
    error, whole = _in_turn(probe, [b'{"model": ', probe.chat_body(max_tokens=2)])
    probe.refused(error)
    Whole(probe.accepted(whole)).text()


@case(
    "transport.request_id",
    "Every answer has an x-request-id of its own.",
    source="SDKs show it; observed",
    level=MAY,
    fault="header x-request-id=1",
)
def request_id(probe: Probe) -> None:
    ids = [probe.chat(max_tokens=1).exchange.header("x-request-id") for _ in range(2)]
    expect(all(ids) and ids[0] != ids[1], "two different ids", ids)


@case(
    "transport.chunked_request", "A body sent in chunks is read.", source="RFC 9112", level=SHOULD, fault="no chunked"
)
def chunked_request(probe: Probe) -> None:
    Whole(probe.post(CHAT, probe.chat_body(max_tokens=2), chunked=True)).text()


@case(
    "transport.gzip_stream",
    "With Accept-Encoding a stream is uncompressed or declares its compression.",
    source="RFC 9110",
    level=SHOULD,
    fault="wire data: =>\\x1f\\x8bdata: ",
)
def gzip_stream(probe: Probe) -> None:
    exchange = probe.post(CHAT, probe.chat_body(stream=True), headers={"Accept-Encoding": "gzip"})
    packed = exchange.body[:2] == b"\x1f\x8b"
    equal(packed, exchange.header("content-encoding").lower() == "gzip", "a compressed body")
    if not packed:
        expect(exchange.body[:1] in (b"d", b":", b"e"), "an event stream", repr(exchange.body[:20]))


@case(
    "transport.cors",
    "A preflight of a browser is answered without a failure.",
    source="Fetch standard",
    level=MAY,
    fault="options 500",
)
def cors(probe: Probe) -> None:
    headers = {
        "Origin": "http://localhost:3000",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    exchange = probe.send("OPTIONS", CHAT, headers=headers)
    if exchange.status is None or exchange.status >= 500:
        raise FailError("an answer below 500", exchange.summary())
    if exchange.status >= 400:
        raise WarnError("browsers may call the API", exchange.summary())


@case(
    "transport.slow_reader",
    "A client that stops reading for a while gets the whole stream.",
    source="robustness",
    level=SHOULD,
    fault="wire [DONE]=>",
)
def slow_reader(probe: Probe) -> None:
    body = probe.chat_body(LONG, stream=True, max_tokens=64)
    stream = Streamed(probe.post(CHAT, body, reading=Reading(pause=1.0)))
    expect(
        stream.events.events[-1:] and stream.events.events[-1].data == "[DONE]",
        "a stream to its end",
        stream.exchange.summary(),
    )
