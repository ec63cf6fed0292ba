"""Errors: their shape, their statuses, and that bad input never breaks the server. Bad fields are in invalid.py."""

import re

from verbatim.conformance.case import (
    MUST,
    OBSERVED,
    SHOULD,
    SPEC,
    FailError,
    SkipError,
    case,
    equal,
    expect,
    shown,
)
from verbatim.conformance.exchange import Exchange
from verbatim.conformance.probe import CHAT, Probe
from verbatim.conformance.schemas import conforms

BAD_CHATS: tuple[dict, ...] = (
    {"messages": ...},
    {"messages": []},
    {"messages": "hi"},
    {"temperature": -9},
    {"temperature": "warm"},
    {"n": 0},
    {"max_tokens": -2},
    {"top_p": 2},
    {"stop": 5},
    {"logit_bias": "x"},
    {"response_format": {"type": "sound"}},
    {"messages": [{"role": "banana", "content": "hi"}]},
)


LEAK = re.compile(r'Traceback \(most|File "/|\.py", line|/usr/|/home/|site-packages|node_modules|at Object\.<')


def provoked(probe: Probe) -> list[Exchange]:
    """Refusals of several invalid requests; a request that the server accepts is not judged here."""
    bodies = [probe.odd_chat(**fields) for fields in BAD_CHATS]
    bodies.append(probe.chat_body(model="no-such-model-" + probe.word()))
    exchanges = [probe.send("POST", CHAT, body) for body in bodies]
    exchanges.append(probe.send("POST", CHAT, b'{"model": '))
    refusals = [exchange for exchange in exchanges if exchange.status is None or exchange.status >= 400]
    if not refusals:
        raise FailError("bad requests are refused", "all of them were accepted")
    return refusals


@case(
    "errors.shape",
    "An error's body is {error: {message, type, param, code}}, param and code text or null.",
    source=f"{SPEC}: ErrorResponse",
    level=MUST,
    fault="error -param",
)
def shape(probe: Probe) -> None:
    for exchange in provoked(probe):
        try:
            body = exchange.json()
        except ValueError:
            raise FailError("an error's body is JSON", exchange.summary()) from None
        conforms(body, "ErrorResponse")


@case(
    "errors.is_object",
    "`error` is an object with a message: openai-node shows no other form to its user.",
    source="openai-node: reads body.error only; openai-node#1734",
    level=MUST,
    fault='error-body {"detail": "bad"}',
)
def is_object(probe: Probe) -> None:
    for exchange in provoked(probe):
        error = exchange.error()
        expect(error is not None, "body.error is an object with a message", exchange.summary())
        assert error is not None
        expect(error["message"].strip(), "the message is not empty", error)


@case(
    "errors.code_is_text",
    "error.code is text or null, never a number.",
    source=f"{SPEC}: Error; langchain#31619",
    level=MUST,
    fault="error code=400",
)
def code_is_text(probe: Probe) -> None:
    for exchange in provoked(probe):
        code = (exchange.error() or {}).get("code")
        expect(code is None or isinstance(code, str), "error.code is text or null", exchange.summary())


@case(
    "errors.type",
    "A refusal's error.type is invalid_request_error.",
    source=OBSERVED,
    level=SHOULD,
    fault='error type="oops"',
)
def type_(probe: Probe) -> None:
    for exchange in provoked(probe):
        error = exchange.error()
        if error is not None and exchange.status == 400:
            equal(error.get("type"), "invalid_request_error", "error.type")
            return
    raise SkipError("a refusal with status 400 and an error object", "there is none")


@case(
    "errors.content_type",
    "An error is sent as application/json.",
    source="openai-node parses errors by this header",
    level=MUST,
    fault="html errors",
)
def content_type(probe: Probe) -> None:
    for exchange in provoked(probe):
        equal(exchange.media_type, "application/json", "the media type of an error")


@case(
    "errors.no_5xx",
    "Bad input is the client's fault: never a 5xx.",
    source="RFC 9110; clients retry 5xx",
    level=MUST,
    fault="status 500 temperature",
)
def no_5xx(probe: Probe) -> None:
    for exchange in provoked(probe):
        expect(exchange.status is not None and exchange.status < 500, "a status below 500", exchange.summary())


@case(
    "errors.no_422", "Wrong fields are a 400, not a 422.", source=OBSERVED, level=SHOULD, fault="status 422 temperature"
)
def no_422(probe: Probe) -> None:
    for exchange in provoked(probe):
        expect(exchange.status != 422, "status 400", exchange.summary())


@case(
    "errors.no_leak",
    "Errors show no stack traces and no paths of the server.",
    source="security practice",
    level=SHOULD,
    fault='error message="File \\"/srv/app.py\\", line 3"',
)
def no_leak(probe: Probe) -> None:
    for exchange in provoked(probe):
        message = str((exchange.error() or {}).get("message"))
        found = LEAK.search(message) or LEAK.search(exchange.body.decode("utf-8", "replace"))
        expect(not found, "no trace and no path in an error", exchange.summary())


@case(
    "errors.malformed_json",
    "A body that is no JSON is a 400.",
    source=f"{OBSERVED}; Free-Way#32",
    level=MUST,
    fault="takes broken json",
)
def malformed_json(probe: Probe) -> None:
    for raw in (b'{"model": ', b"{'model': 'x'}", b"model=x", b'{"model": "x",}'):
        probe.refused(probe.send("POST", CHAT, raw), statuses=(400, 422))


@case("errors.empty_body", "An empty body is a 400.", source=OBSERVED, level=MUST, fault="takes broken json")
def empty_body(probe: Probe) -> None:
    probe.refused(probe.send("POST", CHAT, b""), statuses=(400, 411, 422))


@case(
    "errors.non_object_body",
    "A body of JSON that is no object is a 400.",
    source="RFC 9110; vLLM tests it",
    level=MUST,
    fault="takes any value",
)
def non_object_body(probe: Probe) -> None:
    for raw in (b"[]", b'"hi"', b"3", b"null", b"true"):
        probe.refused(probe.send("POST", CHAT, raw), statuses=(400, 422))


@case(
    "errors.nan_literal",
    "NaN and Infinity are no JSON and never break the server.",
    source="RFC 8259",
    level=SHOULD,
    fault="takes nan",
    harsh=True,
)
def nan_literal(probe: Probe) -> None:
    for word in ("NaN", "Infinity", "-Infinity", "1e999"):
        body = probe.chat_body(temperature=0)
        raw = shown(body, 10**6).replace('"temperature": 0', f'"temperature": {word}').encode()
        probe.refused(probe.send("POST", CHAT, raw))


@case("errors.invalid_utf8", "Bytes that are not UTF-8 are a 400.", source="RFC 8259", level=SHOULD, fault="any bytes")
def invalid_utf8(probe: Probe) -> None:
    raw = shown(probe.chat_body("@")).encode().replace(b"@", b"a\xffb")
    probe.refused(probe.send("POST", CHAT, raw))


@case(
    "errors.duplicate_keys",
    "A duplicate key is refused, or its last value counts; it breaks nothing.",
    source="RFC 8259",
    level=SHOULD,
    fault="status 500 temperature",
)
def duplicate_keys(probe: Probe) -> None:
    raw = shown(probe.chat_body()).encode()[:-1] + b', "temperature": 7}'
    exchange = probe.send("POST", CHAT, raw)
    expect(exchange.status is not None and exchange.status < 500, "200 or a refusal", exchange.summary())
