"""Usage: the numbers add up, agree with one another, and count what was sent."""

from verbatim.conformance.case import MAY, MUST, OBSERVED, SHOULD, SPEC, SkipError, case, dig, equal, expect
from verbatim.conformance.probe import Probe
from verbatim.conformance.schemas import conforms


@case(
    "usage.present",
    "usage has three counts of zero or more.",
    source=f"{SPEC}: CompletionUsage; clients bill by it",
    level=MUST,
    fault="body -usage.total_tokens",
)
def present(probe: Probe) -> None:
    usage = probe.chat().at("usage", dict)
    conforms(usage, "CompletionUsage")
    expect(
        all(dig(usage, name, int) >= 0 for name in ("prompt_tokens", "completion_tokens", "total_tokens")),
        "counts",
        usage,
    )


@case(
    "usage.sum", "total_tokens is the sum of the other two.", source=SPEC, level=MUST, fault="body usage.total_tokens=1"
)
def sum_(probe: Probe) -> None:
    answer = probe.chat()
    total = answer.usage("prompt_tokens") + answer.usage("completion_tokens")
    equal(answer.usage("total_tokens"), total, "total_tokens")


@case(
    "usage.prompt_positive",
    "A prompt has tokens.",
    source="meaning of the count",
    level=MUST,
    fault="body usage.prompt_tokens=0",
)
def prompt_positive(probe: Probe) -> None:
    expect(probe.chat().usage("prompt_tokens") > 0, "prompt_tokens above 0", "0")


@case(
    "usage.prompt_constant",
    "The same request has the same prompt_tokens, cached or not.",
    source="litellm tests it",
    level=MUST,
    fault="cached subtracted",
)
def prompt_constant(probe: Probe) -> None:
    text = probe.word() + " lamp river bird stone" * 60
    counts = [probe.chat(text, max_tokens=1).usage("prompt_tokens") for _ in range(3)]
    equal(counts, counts[:1] * 3, "prompt_tokens of three equal requests")


@case(
    "usage.prompt_monotone",
    "A longer prompt has more tokens.",
    source="meaning of the count",
    level=MUST,
    fault="body usage.prompt_tokens=7",
)
def prompt_monotone(probe: Probe) -> None:
    counts = [probe.chat("lamp river bird. " * number, max_tokens=1).usage("prompt_tokens") for number in (1, 4, 16)]
    expect(counts == sorted(set(counts)), "growing counts", counts)


@case(
    "usage.completion_cap",
    "An answer that ends by `length` has as many completion_tokens as its cap.",
    source=SPEC,
    level=MUST,
    fault="body usage.completion_tokens=3",
)
def completion_cap(probe: Probe) -> None:
    _, answer = probe.long_answer(4, to_the_cap=True, max_tokens=24)
    equal(answer.usage(), 24, "completion_tokens of an answer cut at 24")


@case(
    "usage.finish_by_cap",
    "An answer cut by its cap ends with `length`.",
    source=SPEC,
    level=MUST,
    fault='body choices.0.finish_reason="stop"',
)
def finish_by_cap(probe: Probe) -> None:
    for prompt in ("Count from one to fifty in words.", "Tell me a long story of a lamp."):
        answer = probe.chat(prompt, max_tokens=2)
        if answer.usage() == 2 and answer.text():
            longer = probe.chat(prompt, max_tokens=8)
            if longer.usage() > 3 and len(longer.text()) > len(answer.text()):
                equal(answer.finish, "length", "finish_reason of an answer cut at 2 tokens")
                return
    raise SkipError("an answer longer than two tokens", "the model answers too briefly")


@case(
    "usage.n_sums",
    "With n choices completion_tokens is their sum and the prompt counts once.",
    source=OBSERVED,
    level=SHOULD,
    fault="drop n",
    optional=True,
)
def n_sums(probe: Probe) -> None:
    prompt, single = probe.long_answer(max_tokens=12)
    two = probe.chat(prompt, n=2, max_tokens=12)
    equal(two.usage("prompt_tokens"), single.usage("prompt_tokens"), "prompt_tokens with n of 2")
    equal(two.usage(), 2 * single.usage(), "completion_tokens with n of 2")


@case(
    "usage.details",
    "Cached tokens are part of the prompt, reasoning tokens part of the completion.",
    source=SPEC,
    level=SHOULD,
    fault="body usage.prompt_tokens_details.cached_tokens=100000",
)
def details(probe: Probe) -> None:
    text = "lamp river bird stone " * 40
    for _ in range(2):
        usage = probe.chat(text, max_tokens=1).at("usage", dict)
        for side, part in (("prompt", "cached"), ("completion", "reasoning")):
            some = (usage.get(f"{side}_tokens_details") or {}).get(f"{part}_tokens") or 0
            expect(0 <= some <= usage[f"{side}_tokens"], f"{part}_tokens within {side}_tokens", usage)


@case(
    "usage.stream_equal",
    "A stream's usage is that of the whole answer.",
    source=f"{SPEC}: include_usage",
    level=MUST,
    fault="chunk@-1 usage.prompt_tokens=1",
)
def stream_equal(probe: Probe) -> None:
    whole = probe.chat()
    streamed = probe.chat_stream(stream_options={"include_usage": True})
    equal(len(streamed.usages), 1, "the number of chunks with usage")
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        equal(streamed.usages[0].get(name), whole.usage(name), f"{name} of the same request as a stream")


@case("usage.max_one", "A cap of 1 gives at most a single token.", source=SPEC, level=MUST, fault="ask max_tokens=5")
def max_one(probe: Probe) -> None:
    count = probe.chat("Count from one to fifty in words.", max_tokens=1).usage()
    expect(count <= 1, "at most 1 completion token", count)


@case(
    "usage.integers",
    "The counts are whole numbers, not 5.0.",
    source=SPEC,
    level=MUST,
    fault="body usage.completion_tokens=5.0",
)
def integers(probe: Probe) -> None:
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        probe.chat(max_tokens=2).usage(name)


@case(
    "usage.text_within_tokens",
    "A visible answer has at least one token for every eighty bytes of it.",
    source="meaning of the count",
    level=MAY,
    fault="body usage.completion_tokens=0",
)
def text_within_tokens(probe: Probe) -> None:
    answer = probe.chat("Count from one to fifty in words.")
    expect(answer.usage() >= len(answer.text().encode()) / 80, "enough tokens for the text", answer.body)
