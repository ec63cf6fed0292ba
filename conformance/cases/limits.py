"""Limits: what is too long is refused and never cut without an error, and nothing large breaks the server.

They run last and serially; the cases after which some servers do not answer for long come at the very end.
"""

from verbatim.conformance.answers import Whole
from verbatim.conformance.case import MAY, MUST, OBSERVED, SHOULD, SPEC, SkipError, WarnError, case, equal, expect
from verbatim.conformance.exchange import Exchange
from verbatim.conformance.probe import CHAT, Probe

HUGE_WORDS = 160_000


def huge(probe: Probe, **fields) -> Exchange:
    """A prompt longer than most contexts; skipped where it fits."""
    exchange = probe.send(
        "POST", CHAT, probe.chat_body("lamp river bird stone " * (HUGE_WORDS // 4), max_tokens=1, **fields)
    )
    if exchange.status == 413:
        raise SkipError("a body of that size", "the server takes none")
    if exchange.status == 200 and not fields and Whole(exchange).usage("prompt_tokens") >= HUGE_WORDS // 2:
        raise SkipError("a prompt longer than the context", f"{HUGE_WORDS} words fit")
    return exchange


@case(
    "limits.huge_cap",
    "A max_tokens beyond any context is refused or reduced.",
    source=OBSERVED,
    level=SHOULD,
    fault="huge caps 500",
)
def huge_cap(probe: Probe) -> None:
    body = probe.chat_body("Hello", max_tokens=10**9, stop=[" "])
    exchange = probe.send("POST", CHAT, body)
    if exchange.status != 200:
        probe.refused(exchange)


@case("limits.no_cap", "Without a cap the answer ends.", source=SPEC, level=MUST, fault="hangs without cap")
def no_cap(probe: Probe) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    for fields in ({"response_format": wanted}, {"stop": [" ", "a", "e", "o"]}):
        exchange = probe.send("POST", CHAT, probe.chat_body("Answer with JSON.", max_tokens=..., **fields))
        expect(exchange.status is not None, "an answer that ends", exchange.summary())
        if exchange.status == 200:
            is_whole = exchange.trouble is None and Whole(exchange).finish in ("stop", "length")
            expect(is_whole, "an answer that ends", exchange.summary())
            return
    expect(exchange.status is not None and exchange.status < 500, "an answer that ends", exchange.summary())
    raise SkipError("an answer that a schema or a stop can end", exchange.summary())


@case(
    "limits.many_messages",
    "A thousand short messages are answered or refused.",
    source="robustness",
    level=SHOULD,
    fault="many 500",
)
def many_messages(probe: Probe) -> None:
    exchanged = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    exchange = probe.send("POST", CHAT, probe.chat_body(exchanged * 500 + exchanged[:1], max_tokens=1))
    if exchange.status != 200:
        probe.refused(exchange)


@case(
    "limits.many_biases",
    "A logit_bias of three hundred tokens is accepted or refused.",
    source="robustness",
    level=SHOULD,
    fault="many biases 500",
)
def many_biases(probe: Probe) -> None:
    bias = {str(token): -100 for token in range(300)}
    exchange = probe.send("POST", CHAT, probe.chat_body(logit_bias=bias, max_tokens=2))
    if exchange.status != 200:
        probe.refused(exchange)


@case(
    "limits.deep_json",
    "A body nested ten thousand deep is refused.",
    source="parsers that recurse",
    level=MUST,
    fault="deep bodies 500",
)
def deep_json(probe: Probe) -> None:
    raw = b'{"model": "x", "messages": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    probe.refused(probe.send("POST", CHAT, raw))


@case("limits.big_numbers", "Numbers beyond all bounds are refused.", source="robustness", level=MUST, fault="accept *")
def big_numbers(probe: Probe) -> None:
    for fields in ({"n": 10**30}, {"temperature": 1e300}, {"max_tokens": -(10**30)}, {"top_p": 10**30}):
        probe.refused(probe.send("POST", CHAT, probe.chat_body(**fields)))


@case(
    "limits.long_word",
    "Two hundred thousand characters without a space are handled in time.",
    source="tokenizer denial of service",
    level=SHOULD,
    fault="long words 500",
)
def long_word(probe: Probe) -> None:
    exchange = probe.send("POST", CHAT, probe.chat_body("a" * 200_000, max_tokens=1))
    expect(exchange.status is not None and exchange.status < 500, "an answer or a refusal", exchange.summary())
    if exchange.seconds > 20:
        raise WarnError("an answer within 20 seconds", f"{exchange.seconds:.1f} seconds")


@case(
    "limits.no_truncation",
    "No prompt is cut without an error: prompt_tokens match the length of a long prompt.",
    source="ollama#4967; DeepSeek-Reasonix#10245",
    level=MUST,
    fault="truncates",
)
def no_truncation(probe: Probe) -> None:
    short = probe.chat("lamp river bird stone " * 50, max_tokens=1).usage("prompt_tokens")
    for times in (200, 2000):
        exchange = probe.send("POST", CHAT, probe.chat_body("lamp river bird stone " * times, max_tokens=1))
        if exchange.status != 200:
            probe.refused(exchange)
            return
        count = Whole(exchange).usage("prompt_tokens")
        expect(count > short * times / 50 / 2, f"about {short * times // 50} prompt tokens", count)


@case(
    "limits.context",
    "A prompt longer than the context is refused.",
    source=f"{OBSERVED}: 400; codex",
    level=MUST,
    fault="truncates",
)
def context(probe: Probe) -> None:
    probe.refused(huge(probe), statuses=(400, 413, 422))


@case(
    "limits.context_code",
    "The error has the code context_length_exceeded.",
    source=f"{OBSERVED}; LiteLLM and Codex search for it",
    level=SHOULD,
    fault="error code=null",
)
def context_code(probe: Probe) -> None:
    equal(probe.refused(huge(probe)).get("code"), "context_length_exceeded", "error.code")


@case(
    "limits.context_message",
    "The error's message has the lengths in numbers.",
    source=f"{OBSERVED}; clients cut by it",
    level=SHOULD,
    fault='error message="too long"',
)
def context_message(probe: Probe) -> None:
    message = str(probe.refused(huge(probe)).get("message"))
    expect(sum(character.isdigit() for character in message) >= 3, "numbers in the message", message)


@case(
    "limits.context_stream",
    "Streamed, the refusal comes before the stream begins.",
    source="sglang#12081; llama.cpp#14566",
    level=MUST,
    fault="late",
)
def context_stream(probe: Probe) -> None:
    exchange = huge(probe, stream=True)
    if exchange.status == 200 and "error" not in exchange.body[:2000].decode("utf-8", "replace"):
        huge(probe)  # skips if such a prompt fits
    probe.refused(exchange, statuses=(400, 413, 422))


@case(
    "limits.large_body",
    "A body of a megabyte is answered or refused, not cut off.",
    source="robustness",
    level=MUST,
    fault="resets large bodies",
)
def large_body(probe: Probe) -> None:
    exchange = probe.send("POST", CHAT, probe.chat_body("lamp river bird " * 65_536, max_tokens=1))
    expect(exchange.status is not None and exchange.status < 500, "200, 400 or 413", exchange.summary())


@case(
    "limits.models_after",
    "After all this the server still lists its models.",
    source="robustness",
    level=MAY,
    fault="body -data",
)
def models_after(probe: Probe) -> None:
    expect(probe.get("/models").at("data", list), "models")
