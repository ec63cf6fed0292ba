"""Log-probabilities of chats: their form, their mathematics, and that they are of the text they come with."""

import math

from verbatim.conformance.answers import Whole
from verbatim.conformance.case import MUST, OBSERVED, SHOULD, SPEC, case, dig, equal, expect, shown
from verbatim.conformance.probe import PROMPTS, Probe
from verbatim.conformance.schemas import conforms

EPSILON = 1e-6


def ask(probe: Probe, top: int | None = None, **fields) -> Whole:
    """An answer with log-probabilities."""
    tops = {} if top is None else {"top_logprobs": top}
    return probe.chat(PROMPTS[0], **{"max_tokens": 12, "logprobs": True} | tops | fields)


def some(answer: Whole) -> list[dict]:
    """The entries, at least one."""
    entries = answer.entries
    expect(entries, "entries for the tokens", answer.body)
    return entries


@case(
    "logprobs.shape",
    "logprobs.content is a list of token, logprob, bytes and top_logprobs.",
    source=f"{SPEC}; vllm#3179",
    level=MUST,
    fault='body choices.0.logprobs.content.0.bytes="x"',
    optional=True,
)
def shape(probe: Probe) -> None:
    for entry in some(ask(probe, 2)):
        conforms(entry, "ChatCompletionTokenLogprob")


@case(
    "logprobs.not_ignored",
    "Requested log-probabilities are returned.",
    source=f"{SPEC}; ollama#16117",
    level=MUST,
    fault="drop logprobs,top_logprobs",
    optional=True,
)
def not_ignored(probe: Probe) -> None:
    some(ask(probe, 2))


@case(
    "logprobs.alone",
    "logprobs works without top_logprobs.",
    source="vllm#4795; llama-cpp-python#1787",
    level=MUST,
    fault="drop logprobs",
    optional=True,
)
def alone(probe: Probe) -> None:
    some(ask(probe))


@case(
    "logprobs.no_top_is_empty",
    "Without top_logprobs the lists of candidates are present and empty.",
    source=OBSERVED,
    level=SHOULD,
    fault="ask top_logprobs=3",
    optional=True,
)
def no_top_is_empty(probe: Probe) -> None:
    for entry in some(ask(probe, 0)):
        equal(dig(entry, "top_logprobs"), [], "top_logprobs")


@case(
    "logprobs.refusal_key",
    "logprobs has the key refusal.",
    source=f"{SPEC}: required",
    level=SHOULD,
    fault="body -choices.0.logprobs.refusal",
    optional=True,
)
def refusal_key(probe: Probe) -> None:
    equal(ask(probe).at("choices.0.logprobs.refusal"), None, "refusal")


@case(
    "logprobs.top_count",
    "top_logprobs of 5 lists at most five candidates, and some.",
    source=SPEC,
    level=MUST,
    fault="ask top_logprobs=7",
    optional=True,
)
def top_count(probe: Probe) -> None:
    for entry in some(ask(probe, 5)):
        expect(1 <= len(dig(entry, "top_logprobs", list)) <= 5, "1 to 5 candidates", entry)


@case(
    "logprobs.top_sorted",
    "Candidates come in falling order.",
    source=OBSERVED,
    level=MUST,
    fault="body choices.0.logprobs.content.1.top_logprobs.0.logprob=-50.0",
    optional=True,
)
def top_sorted(probe: Probe) -> None:
    for entry in some(ask(probe, 5)):
        values = [dig(item, "logprob", float) for item in dig(entry, "top_logprobs", list)]
        expect(values == sorted(values, reverse=True), "falling log-probabilities", values)


@case(
    "logprobs.top_distinct",
    "Candidates are different tokens.",
    source="meaning of a candidate",
    level=MUST,
    fault='body choices.0.logprobs.content.*.top_logprobs.*={"token":"a","bytes":[97],"logprob":-1.0}',
    optional=True,
)
def top_distinct(probe: Probe) -> None:
    for entry in some(ask(probe, 5)):
        keys = [shown([item.get("token"), item.get("bytes")]) for item in dig(entry, "top_logprobs", list)]
        partial = any("\\ufffd" in key or "\ufffd" in key for key in keys)
        expect(partial or len(set(keys)) == len(keys), "different candidates", keys)


@case(
    "logprobs.top_twenty",
    "top_logprobs of 20 is accepted.",
    source=f"{SPEC}: 0 to 20",
    level=SHOULD,
    fault="drop logprobs,top_logprobs",
    optional=True,
)
def top_twenty(probe: Probe) -> None:
    for entry in some(ask(probe, 20, max_tokens=2)):
        expect(len(dig(entry, "top_logprobs", list)) > 5, "more than five candidates of a real vocabulary", entry)


@case(
    "logprobs.greedy_is_top",
    "At temperature 0 the sampled token is the first candidate.",
    source="mathematics",
    level=MUST,
    fault='body choices.0.logprobs.content.0.token="zzz"',
    optional=True,
)
def greedy_is_top(probe: Probe) -> None:
    for entry in some(ask(probe, 2)):
        values = [dig(item, "logprob", float) for item in dig(entry, "top_logprobs", list)]
        if len(values) > 1 and values[0] - values[1] < 1e-3:
            continue  # a tie has no defined order
        equal(entry.get("token"), dig(entry, "top_logprobs.0.token"), "the token taken")


@case(
    "logprobs.same_value",
    "A sampled token has the same log-probability in its entry and among the candidates.",
    source="mathematics",
    level=MUST,
    fault="body choices.0.logprobs.content.0.logprob=-7.5",
    optional=True,
)
def same_value(probe: Probe) -> None:
    for entry in some(ask(probe, 5)):
        for item in dig(entry, "top_logprobs", list):
            if item.get("token") == entry["token"] and item.get("bytes") == entry.get("bytes"):
                close = abs(dig(item, "logprob", float) - dig(entry, "logprob", float)) < 1e-3
                expect(close, "the same value for the same token", [entry["logprob"], item["logprob"]])


@case(
    "logprobs.negative",
    "A log-probability is a finite number of at most 0.",
    source="mathematics",
    level=MUST,
    fault="body choices.0.logprobs.content.0.logprob=0.5",
    optional=True,
)
def negative(probe: Probe) -> None:
    for entry in some(ask(probe, 3)):
        for value in (entry, *entry.get("top_logprobs", ())):
            number = dig(value, "logprob", float)
            expect(math.isfinite(number) and number <= EPSILON, "a number of at most 0", number)


@case(
    "logprobs.not_constant",
    "Log-probabilities are computed, not filled in.",
    source="meaning of a probability",
    level=SHOULD,
    fault="body choices.0.logprobs.content.*.logprob=0.0",
    optional=True,
)
def not_constant(probe: Probe) -> None:
    values = {dig(entry, "logprob", float) for entry in some(ask(probe, temperature=1.5, seed=3, max_tokens=16))}
    expect(len(values) > 1, "different values for different tokens", sorted(values))


@case(
    "logprobs.mass",
    "The probabilities of candidates sum to at most 1.",
    source="mathematics",
    level=SHOULD,
    fault="body choices.0.logprobs.content.0.top_logprobs.*.logprob=-0.1",
    optional=True,
)
def mass(probe: Probe) -> None:
    for entry in some(ask(probe, 20, max_tokens=4)):
        total = sum(math.exp(min(dig(item, "logprob", float), 1)) for item in dig(entry, "top_logprobs", list))
        expect(total <= 1.001, "a sum of at most 1", total)
