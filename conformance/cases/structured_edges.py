"""Structured output in edge cases: cut, streamed, at high temperature, and in invalid requests."""

from verbatim.conformance.answers import parsed
from verbatim.conformance.case import MAY, MUST, OBSERVED, SHOULD, SPEC, WarnError, case, dig, equal, expect
from verbatim.conformance.cases.structured import closed, exact, forced, wanting
from verbatim.conformance.probe import CHAT, Probe
from verbatim.conformance.schemas import fits


@case(
    "structured.no_extra_keys",
    "A strict answer has no key but the schema's.",
    source=SPEC,
    level=MUST,
    fault='body choices.0.message.content="{\\"word\\": \\"lamp\\", \\"more\\": 1}"',
    optional=True,
)
def no_extra_keys(probe: Probe) -> None:
    fits(parsed(forced(probe, exact("lamp")).text(), "the answer"), exact("lamp"))


@case(
    "structured.key_order",
    "Keys come in the schema's order.",
    source=OBSERVED,
    level=SHOULD,
    fault='body choices.0.message.content="{\\"b\\": true, \\"a\\": true, \\"c\\": true}"',
    optional=True,
)
def key_order(probe: Probe) -> None:
    schema = closed(**{name: {"type": "boolean"} for name in ("c", "a", "b")})
    equal(list(dig(parsed(forced(probe, schema).text(), "the answer"), "", dict)), ["c", "a", "b"], "the order of keys")


@case(
    "structured.unicode",
    "Exact text of emoji, CJK and combining marks comes out exactly.",
    source="detokenisers; mlc-llm#1142",
    level=MUST,
    fault="splits whole characters",
    optional=True,
)
def unicode_(probe: Probe) -> None:
    word = "\u4f60\u597d \U0001f469\u200d\U0001f4bb e\u0301 \u0645\u0631\u062d\u0628\u0627"
    equal(parsed(forced(probe, exact(word)).text(), "the answer"), {"word": word}, "the answer")


@case(
    "structured.escapes",
    "Quotes, backslashes and line ends are escaped in the answer.",
    source="RFC 8259",
    level=MUST,
    fault="loose escapes",
    optional=True,
)
def escapes(probe: Probe) -> None:
    word = 'a "quote" \\ back\\slash \n line'
    equal(parsed(forced(probe, exact(word)).text(), "the answer"), {"word": word}, "the answer")


@case(
    "structured.stream_equal",
    "The deltas of a stream join to the whole answer.",
    source=SPEC,
    level=MUST,
    fault="loses the tail",
    optional=True,
)
def stream_equal(probe: Probe) -> None:
    value = probe.word()
    stream = probe.chat_stream("Answer with JSON.", response_format=wanting(exact(value)), max_tokens=200)
    equal(parsed(stream.text(), "the joined deltas"), {"word": value}, "the streamed answer")


@case(
    "structured.ends",
    "A finished object ends the answer with `stop`.",
    source="SDKs fail on `length`",
    level=MUST,
    fault='body choices.0.finish_reason="length"',
    optional=True,
)
def ends(probe: Probe) -> None:
    answer = probe.chat("Answer with JSON.", response_format=wanting(exact("lamp")), max_tokens=400)
    equal(answer.finish, "stop", "finish_reason")


@case(
    "structured.truncated",
    "JSON cut by the cap finishes with `length`.",
    source="SDKs rely on it",
    level=MUST,
    fault='body choices.0.finish_reason="stop"',
    optional=True,
)
def truncated(probe: Probe) -> None:
    schema = exact("lamp river bird stone green blue old new house tree wind rain moon star sea ship")
    answer = probe.chat("Answer with JSON.", response_format=wanting(schema), max_tokens=3)
    equal(answer.finish, "length", "finish_reason")


@case(
    "structured.n_choices",
    "Every choice of n keeps the schema.",
    source="SGLang tests it",
    level=SHOULD,
    fault='body choices.1.message.content="no"',
    optional=True,
)
def n_choices(probe: Probe) -> None:
    answer = forced(probe, exact("lamp"), n=2, temperature=1)
    for content in answer.texts:
        equal(parsed(content, "every choice"), {"word": "lamp"}, "every choice")


@case(
    "structured.hot",
    "A schema binds at temperature 2 as well.",
    source="meaning of a constraint",
    level=MUST,
    fault='body choices.0.message.content="no"',
    optional=True,
)
def hot(probe: Probe) -> None:
    fits(parsed(forced(probe, exact("lamp"), temperature=2).text(), "the answer"), exact("lamp"))


@case(
    "structured.missing_name",
    "A json_schema without a name is refused; some servers need none.",
    source=f"{SPEC}: required; llama.cpp and Together answer",
    level=SHOULD,
    fault="accept response_format",
)
def missing_name(probe: Probe) -> None:
    wanted = {"type": "json_schema", "json_schema": {"schema": exact("lamp")}}
    exchange = probe.send("POST", CHAT, probe.chat_body("JSON", response_format=wanted))
    if exchange.status == 200:
        raise WarnError("a refusal, as OpenAI gives", "the request is accepted")
    probe.refused(exchange)


@case(
    "structured.bad_name",
    "A json_schema's name with a space is refused.",
    source=f"{SPEC}: name",
    level=MAY,
    fault="accept response_format",
)
def bad_name(probe: Probe) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "a b", "schema": exact("lamp")}}
    probe.refused(probe.send("POST", CHAT, probe.chat_body("JSON", response_format=wanted)))


@case(
    "structured.with_stop",
    "A stop inside the JSON cuts it and hangs nothing.",
    source="meaning of stop",
    level=SHOULD,
    fault="drop stop",
    optional=True,
)
def with_stop(probe: Probe) -> None:
    answer = probe.chat(
        "Answer with JSON.", response_format=wanting(exact("lamp river bird")), stop="river", max_tokens=200
    )
    expect("river" not in answer.text(), "text without the stop", answer.text())


@case(
    "structured.order_of_nesting",
    "A schema nested a hundred deep is answered or refused.",
    source="robustness",
    level=MUST,
    fault="deep schemas 500",
)
def order_of_nesting(probe: Probe) -> None:
    schema: dict = {"type": "boolean"}
    for _ in range(100):
        schema = closed(a=schema)
    exchange = probe.send("POST", CHAT, probe.chat_body("JSON", response_format=wanting(schema), max_tokens=8))
    if exchange.status != 200:
        probe.refused(exchange)
