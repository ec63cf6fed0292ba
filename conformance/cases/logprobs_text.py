"""Log-probabilities of chats: they belong to the text that they come with."""

from typing import Any

from verbatim.conformance.answers import joined_bytes
from verbatim.conformance.case import MUST, SHOULD, SPEC, SkipError, case, dig, equal, expect
from verbatim.conformance.cases.logprobs import ask, some
from verbatim.conformance.probe import CHAT, PROMPTS, Probe


@case(
    "logprobs.bytes_are_text",
    "The bytes of all tokens, joined, are the text.",
    source=SPEC,
    level=MUST,
    fault="body choices.0.logprobs.content.1.bytes=[65]",
    optional=True,
)
def bytes_are_text(probe: Probe) -> None:
    answer = ask(probe)
    text = joined_bytes(some(answer), answer.text()).decode("utf-8", "replace")
    equal(text.rstrip("\ufffd"), answer.text().rstrip("\ufffd"), "the joined bytes")


@case(
    "logprobs.token_is_bytes",
    "A token's bytes are those of its text, where it is whole characters.",
    source=SPEC,
    level=MUST,
    fault="body choices.0.logprobs.content.0.bytes=[66,67]",
    optional=True,
)
def token_is_bytes(probe: Probe) -> None:
    for entry in some(ask(probe, 3)):
        for item in (entry, *entry.get("top_logprobs", ())):
            token, data = dig(item, "token", str), item.get("bytes")
            if data is not None and _is_whole(data) and not token.startswith("<") and not token.startswith("bytes:"):
                equal(bytes(data).decode(), token, "the text of the bytes")


def _is_whole(data: Any) -> bool:
    try:
        bytes(data).decode()
    except (UnicodeDecodeError, TypeError, ValueError):
        return False
    return True


@case(
    "logprobs.count",
    "There is one entry for every completion token.",
    source="meaning of the count",
    level=SHOULD,
    fault="lost logprob",
    optional=True,
)
def count(probe: Probe) -> None:
    for cap in (12, 6, 3, 1):  # an end-of-sequence token may or may not have an entry
        answer = ask(probe, max_tokens=cap)
        if answer.finish == "length":
            equal(len(some(answer)), answer.usage(), "the number of entries")
            return
    raise SkipError("an answer cut by its cap", "the model ends with an end-of-sequence token")


@case(
    "logprobs.off", "logprobs of false gives null.", source=SPEC, level=MUST, fault="ask logprobs=true", optional=True
)
def off(probe: Probe) -> None:
    choice = probe.chat(logprobs=False).at("choices.0", dict)
    equal(choice.get("logprobs"), None, "logprobs")


@case(
    "logprobs.n_choices",
    "Every choice has its own entries.",
    source=SPEC,
    level=SHOULD,
    fault="body choices.1.logprobs=null",
    optional=True,
)
def n_choices(probe: Probe) -> None:
    answer = ask(probe, n=2, temperature=1.5)
    for index, choice in enumerate(answer.choices):
        entries = dig(choice, "logprobs.content", list)
        text = joined_bytes(entries, answer.text(index)).decode("utf-8", "replace")
        equal(text.rstrip("\ufffd"), answer.text(index).rstrip("\ufffd"), f"the joined bytes of choice {index}")


@case(
    "logprobs.with_stop",
    "With a stop the entries cover the text that is returned.",
    source="meaning of the entries",
    level=SHOULD,
    fault="body choices.0.logprobs.content=[]",
    optional=True,
)
def with_stop(probe: Probe) -> None:
    prompt, whole = probe.long_answer()
    stop = whole.text()[len(whole.text()) // 2 :][:7]
    answer = probe.chat(prompt, logprobs=True, stop=stop, max_tokens=24)
    text = joined_bytes(answer.entries, answer.text()).decode("utf-8", "replace")
    expect(text.startswith(answer.text()), f"entries for {answer.text()!r}", repr(text))


@case(
    "logprobs.repeatable",
    "A greedy request has the same log-probabilities twice.",
    source="temperature 0",
    level=SHOULD,
    fault="noisy logprobs",
    optional=True,
)
def repeatable(probe: Probe) -> None:
    first, second = (some(ask(probe, 2)) for _ in range(2))
    expect(len(first) == len(second), "the same number of entries", [len(first), len(second)])
    gaps = [abs(dig(a, "logprob", float) - dig(b, "logprob", float)) for a, b in zip(first, second, strict=True)]
    expect(max(gaps) < 1e-2, "equal values", gaps)


@case(
    "logprobs.with_tools",
    "Log-probabilities together with a forced call break nothing.",
    source="robustness",
    level=SHOULD,
    fault="tools and logprobs 500",
)
def with_tools(probe: Probe) -> None:
    tool = {"type": "function", "function": {"name": "probe", "parameters": {"type": "object", "properties": {}}}}
    exchange = probe.send(
        "POST", CHAT, probe.chat_body(tools=[tool], tool_choice="required", logprobs=True, max_tokens=32)
    )
    if exchange.status != 200:
        probe.refused(exchange)


@case(
    "logprobs.stream_equal",
    "A stream has the entries of the whole answer.",
    source="same request, same answer",
    level=SHOULD,
    fault="drop logprobs",
    optional=True,
)
def stream_equal(probe: Probe) -> None:
    whole = [entry["token"] for entry in some(ask(probe))]
    stream = probe.chat_stream(PROMPTS[0], max_tokens=12, logprobs=True)
    tokens = [
        dig(entry, "token") for part in stream.parts() for entry in (part.get("logprobs") or {}).get("content") or []
    ]
    equal(tokens, whole, "the tokens of the stream's entries")
