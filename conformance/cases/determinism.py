"""Determinism: a seed repeats an answer, alone and beside others, streamed and whole."""

from verbatim.conformance.answers import Whole
from verbatim.conformance.case import MAY, OBSERVED, SHOULD, SPEC, SkipError, case, equal, expect
from verbatim.conformance.probe import CHAT, PROMPTS, Probe

STORY = PROMPTS[1]
HOT = {"temperature": 1.3, "max_tokens": 24}


def warmth(probe: Probe) -> None:
    """Skip unless this model varies well without a seed."""
    if len({probe.chat(STORY, temperature=2, max_tokens=24).text() for _ in range(4)}) < 3:
        raise SkipError("answers that vary at temperature 2", "the answers of this model hardly vary")


@case(
    "determinism.seed_repeats",
    "The same seed gives the same answer.",
    source=f"{SPEC}: best effort",
    level=SHOULD,
    fault="drop seed",
)
def seed_repeats(probe: Probe) -> None:
    texts = [probe.chat(STORY, seed=1234, **HOT).text() for _ in range(3)]
    equal(texts, texts[:1] * 3, "three answers with seed 1234")


@case(
    "determinism.seeds_differ",
    "Different seeds give different answers.",
    source="meaning of a seed",
    level=SHOULD,
    fault="ask seed=7",
)
def seeds_differ(probe: Probe) -> None:
    texts = {probe.chat(STORY, seed=seed, temperature=2, max_tokens=24).text() for seed in range(1, 6)}
    if len(texts) == 1:
        warmth(probe)
    expect(len(texts) > 1, "answers that differ", sorted(texts))


@case(
    "determinism.seed_values",
    "Seeds of -1, 0 and 2^63-1 are accepted.",
    source=f"{SPEC}: int64; {OBSERVED}",
    level=SHOULD,
    fault="refuse seed",
)
def seed_values(probe: Probe) -> None:
    for seed in (-1, 0, 2**63 - 1):
        probe.chat(STORY, seed=seed, max_tokens=1)


@case(
    "determinism.seed_zero",
    "A seed of 0 is accepted as a seed.",
    source="`if seed:` is a common mistake",
    level=SHOULD,
    fault="zero is no seed",
)
def seed_zero(probe: Probe) -> None:
    texts = [probe.chat(STORY, seed=0, **HOT).text() for _ in range(3)]
    equal(texts, texts[:1] * 3, "three answers with seed 0")


@case(
    "determinism.seed_stream",
    "With a seed the stream is the whole answer.",
    source="same request, same answer",
    level=SHOULD,
    fault="drop seed",
)
def seed_stream(probe: Probe) -> None:
    equal(
        probe.chat_stream(STORY, seed=99, **HOT).text(),
        probe.chat(STORY, seed=99, **HOT).text(),
        "the stream with seed 99",
    )


@case(
    "determinism.seed_n",
    "With a seed the n choices repeat as well.",
    source=SPEC,
    level=SHOULD,
    fault="drop seed",
    optional=True,
)
def seed_n(probe: Probe) -> None:
    first, second = (probe.chat(STORY, seed=5, n=2, **HOT).texts for _ in range(2))
    equal(second, first, "the choices with seed 5")


@case(
    "determinism.seed_n_differ",
    "With a seed the n choices are not all the same.",
    source="meaning of n",
    level=SHOULD,
    fault="same choices",
    optional=True,
)
def seed_n_differ(probe: Probe) -> None:
    texts = probe.chat(STORY, seed=5, n=4, temperature=2, max_tokens=24).texts
    if len(set(texts)) == 1:
        warmth(probe)
    expect(len(set(texts)) > 1, "choices that differ", texts)


@case(
    "determinism.under_load",
    "A seeded answer is the same beside eight others.",
    source="vllm#23138; sglang#5377",
    level=SHOULD,
    fault="drop seed",
)
def under_load(probe: Probe) -> None:
    alone = probe.chat(STORY, seed=77, **HOT).text()
    bodies = [probe.chat_body(STORY, seed=77, **HOT)]
    bodies += [probe.chat_body(f"{STORY} Number {number}.", seed=number, **HOT) for number in range(8)]
    exchanges = probe.send_all([{"method": "POST", "path": CHAT, "body": body} for body in bodies])
    equal(Whole(probe.accepted(exchanges[0])).text(), alone, "the answer beside eight others")


@case(
    "determinism.greedy_under_load",
    "A greedy answer is the same beside eight others.",
    source="vllm#23138",
    level=SHOULD,
    fault="drop temperature",
)
def greedy_under_load(probe: Probe) -> None:
    alone = probe.chat(STORY, max_tokens=24).text()
    bodies = [probe.chat_body(STORY, max_tokens=24)]
    bodies += [probe.chat_body(f"{STORY} Number {number}.", max_tokens=24) for number in range(8)]
    exchanges = probe.send_all([{"method": "POST", "path": CHAT, "body": body} for body in bodies])
    equal(Whole(probe.accepted(exchanges[0])).text(), alone, "the greedy answer beside eight others")


@case(
    "determinism.warm_cache",
    "A prompt seen before has the answer it had at first.",
    source="prefix caches",
    level=SHOULD,
    fault="warm prompts differ",
)
def warm_cache(probe: Probe) -> None:
    text = probe.word() + " " + STORY * 4
    first, second = (probe.chat(text, max_tokens=24).text() for _ in range(2))
    equal(second, first, "the answer to a prompt seen before")


@case(
    "determinism.logprobs",
    "A seeded answer's log-probabilities repeat as well.",
    source="same request, same answer",
    level=MAY,
    fault="noisy logprobs",
    optional=True,
)
def logprobs(probe: Probe) -> None:
    def values() -> list:
        return [entry.get("logprob") for entry in probe.chat(STORY, seed=3, logprobs=True, **HOT).entries]

    equal(values(), values(), "the log-probabilities with seed 3")
