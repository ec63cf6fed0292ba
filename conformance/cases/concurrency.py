"""Concurrent requests: answers do not mix, an error ends its own request only, and clients disconnect.

A client that disconnects must free what it held: afterwards a short request is about as fast as before.
"""

import time

from verbatim.conformance.answers import Streamed, Whole, parsed
from verbatim.conformance.case import MAY, MUST, SHOULD, FailError, SkipError, case, equal, expect
from verbatim.conformance.probe import CHAT, PROMPTS, Probe, Reading

SLOW = 3.0


def post(body: dict, **options) -> dict:
    """A request for send_all."""
    return {"method": "POST", "path": CHAT, "body": body} | options


def exact(word: str) -> dict:
    """A response_format with one possible answer."""
    schema = {
        "type": "object",
        "properties": {"word": {"type": "string", "enum": [word]}},
        "required": ["word"],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


@case(
    "concurrency.parallel",
    "Eight concurrent requests, whole and streamed, are all answered or refused with a 429.",
    source="robustness",
    level=MUST,
    fault="one at a time",
)
def parallel(probe: Probe) -> None:
    bodies = [probe.chat_body(PROMPTS[number % 3], stream=number % 2 == 0) for number in range(8)]
    for exchange in probe.send_all([post(body) for body in bodies]):
        good = exchange.status in (200, 429, 503) and not exchange.trouble
        expect(good, "status 200 (or 429 or 503)", exchange.summary())


@case(
    "concurrency.no_crosstalk",
    "Of eight concurrent answers each belongs to its own request.",
    source="vllm#13408; llama.cpp#10072; litellm#35023",
    level=MUST,
    fault="crosstalk",
    optional=True,
)
def no_crosstalk(probe: Probe) -> None:
    words = [probe.word(number) for number in range(8)]
    bodies = [probe.chat_body("Answer with JSON.", response_format=exact(word), max_tokens=100) for word in words]
    for word, exchange in zip(words, probe.send_all([post(body) for body in bodies]), strict=True):
        answer = Whole(probe.accepted(exchange))
        if answer.finish != "length":
            equal(parsed(answer.text(), "the answer"), {"word": word}, "the answer of this request")


@case(
    "concurrency.no_crosstalk_greedy",
    "Greedy answers to eight concurrent questions equal those to each question alone.",
    source="vllm#13408",
    level=SHOULD,
    fault="crosstalk",
)
def no_crosstalk_greedy(probe: Probe) -> None:
    prompts = [f"Tell me of the number {number}." for number in range(8)]
    alone = [probe.chat(prompt, max_tokens=8).text() for prompt in prompts]
    together = probe.send_all([post(probe.chat_body(prompt, max_tokens=8)) for prompt in prompts])
    equal([Whole(probe.accepted(exchange)).text() for exchange in together], alone, "the answers at once")


@case(
    "concurrency.streams",
    "Four concurrent streams end whole, each with an id of its own.",
    source="robustness",
    level=MUST,
    fault='chunk id="same"',
)
def streams(probe: Probe) -> None:
    bodies = [probe.chat_body(PROMPTS[0], stream=True, max_tokens=24) for _ in range(4)]
    ids = []
    for exchange in probe.send_all([post(body) for body in bodies]):
        stream = Streamed(probe.accepted(exchange))
        equal(stream.events.events[-1].data, "[DONE]", "the last event")
        ids.append({chunk.get("id") for chunk in stream.chunks})
    expect(
        all(len(some) == 1 for some in ids) and len(set.union(*ids)) == 4,
        "four streams with four ids",
        [list(i) for i in ids],
    )


@case(
    "concurrency.errors_stay",
    "An invalid request does not harm the valid ones beside it.",
    source="batches that fail together",
    level=MUST,
    fault="errors spread",
)
def errors_stay(probe: Probe) -> None:
    bodies = [
        probe.chat_body(PROMPTS[number % 3], **({"temperature": -9} if number % 3 == 1 else {})) for number in range(6)
    ]
    for number, exchange in enumerate(probe.send_all([post(body) for body in bodies])):
        if number % 3 == 1:
            probe.refused(exchange)
        else:
            Whole(probe.accepted(exchange))


@case(
    "concurrency.models",
    "GET /models answers quickly while others generate.",
    source="health of clients",
    level=SHOULD,
    fault="slow models",
    alone=True,
)
def models(probe: Probe) -> None:
    bodies = [post(probe.chat_body(PROMPTS[0], max_tokens=300)) for _ in range(3)]
    exchanges = probe.send_all([*bodies, {"method": "GET", "path": "/models"}])
    expect(
        exchanges[-1].status == 200 and exchanges[-1].seconds < 2,
        "an answer within 2 seconds",
        f"{exchanges[-1].seconds:.2f} s, {exchanges[-1].summary()}",
    )


@case(
    "concurrency.many",
    "Thirty-two concurrent requests are answered, queued, or refused with an error object.",
    source="overload",
    level=SHOULD,
    fault="one at a time",
    alone=True,
)
def many(probe: Probe) -> None:
    for exchange in probe.send_all([post(probe.chat_body(max_tokens=2)) for _ in range(32)]):
        if exchange.status != 200:
            good = exchange.status in (429, 503) and exchange.error()
            expect(good, "200, or 429 or 503 with an error object", exchange.summary())


def _usual(probe: Probe) -> float:
    """How long a short request takes on the idle server."""
    return min(_short(probe) for _ in range(2))


def _short(probe: Probe) -> float:
    exchange = probe.post(CHAT, probe.chat_body(max_tokens=2), reading=Reading(timeout=20))
    Whole(exchange)
    return exchange.seconds


def _freed(probe: Probe, bodies: list[dict], reading: Reading) -> None:
    """Clients disconnect; then a short request must not wait for the answers that they requested."""
    usual = _usual(probe)
    if usual > SLOW:
        raise SkipError(f"a short request within {SLOW:g} seconds", f"it takes {usual:.1f} seconds without load")
    left = probe.send_all([post(body, reading=reading) for body in bodies])
    for exchange in left:
        if exchange.status == 429:
            raise SkipError("requests that are taken", exchange.summary())
        if exchange.status is not None and exchange.status >= 400:
            raise FailError("requests that are taken", exchange.summary())
    time.sleep(0.3)
    after = _short(probe)
    expect(
        after < usual * 3 + 1.5,
        f"a short request in about {usual:.2f} s, as before",
        f"{after:.2f} s after clients left",
    )


@case(
    "concurrency.abort_stream",
    "A client that disconnects from a stream frees its slot.",
    source="llama.cpp#24496; textgen#4521",
    level=MUST,
    fault="no abort",
    alone=True,
)
def abort_stream(probe: Probe) -> None:
    bodies = [probe.chat_body(PROMPTS[number % 3], stream=True, max_tokens=1500) for number in range(4)]
    _freed(probe, bodies, Reading(leave_after=600))


@case(
    "concurrency.abort_whole",
    "A client that disconnects before a whole answer frees its slot.",
    source="halogen#58",
    level=SHOULD,
    fault="no abort",
    alone=True,
)
def abort_whole(probe: Probe) -> None:
    bodies = [probe.chat_body(PROMPTS[number % 3], max_tokens=1500) for number in range(4)]
    _freed(probe, bodies, Reading(timeout=0.3))


@case(
    "concurrency.abort_n",
    "A client that disconnects from a request for several choices frees all their slots.",
    source="robustness",
    level=SHOULD,
    fault="no abort",
    alone=True,
    optional=True,
)
def abort_n(probe: Probe) -> None:
    _freed(
        probe,
        [probe.chat_body(PROMPTS[1], stream=True, n=4, temperature=1, max_tokens=1500)],
        Reading(leave_after=1200),
    )


@case(
    "concurrency.abort_many",
    "After twenty clients disconnected together the server answers as before.",
    source="leaks",
    level=MUST,
    fault="no abort",
    alone=True,
)
def abort_many(probe: Probe) -> None:
    bodies = [probe.chat_body(PROMPTS[number % 3], stream=True, max_tokens=1000) for number in range(20)]
    _freed(probe, bodies, Reading(leave_after=500))


@case(
    "concurrency.same_after_abort",
    "A greedy answer is the same after other requests were aborted.",
    source="caches that keep half a state",
    level=SHOULD,
    fault="warm prompts differ",
)
def same_after_abort(probe: Probe) -> None:
    before = probe.chat(PROMPTS[0], max_tokens=24).text()
    bodies = [probe.chat_body(PROMPTS[0], stream=True, max_tokens=400) for _ in range(3)]
    probe.send_all([post(body, reading=Reading(leave_after=500)) for body in bodies])
    equal(probe.chat(PROMPTS[0], max_tokens=24).text(), before, "the answer afterwards")


@case(
    "concurrency.retry_after",
    "A 429 gives the time until the next attempt in Retry-After.",
    source="SDKs wait for it",
    level=MAY,
    fault="429",
    alone=True,
)
def retry_after(probe: Probe) -> None:
    for exchange in probe.send_all([post(probe.chat_body(max_tokens=2)) for _ in range(16)]):
        if exchange.status == 429:
            expect(exchange.header("retry-after"), "a Retry-After header", exchange.headers)
