"""Legacy completions: the other fields, and streams."""

from verbatim.conformance.answers import Whole
from verbatim.conformance.case import MAY, MUST, OBSERVED, SHOULD, SPEC, SkipError, case, dig, equal, expect
from verbatim.conformance.cases.completions import STORY
from verbatim.conformance.probe import COMPLETIONS, Probe
from verbatim.conformance.schemas import conforms


@case(
    "completions.best_of_small",
    "best_of below n is refused.",
    source=SPEC,
    level=SHOULD,
    fault="accept best_of",
    optional=True,
)
def best_of_small(probe: Probe) -> None:
    probe.complete()
    probe.refused(probe.send("POST", COMPLETIONS, probe.text_body(n=3, best_of=2)))


@case(
    "completions.best_of_stream",
    "best_of above n cannot stream and is refused.",
    source=SPEC,
    level=SHOULD,
    fault="accept best_of",
    optional=True,
)
def best_of_stream(probe: Probe) -> None:
    probe.complete()
    probe.refused(probe.send("POST", COMPLETIONS, probe.text_body(best_of=2, stream=True)))


@case(
    "completions.suffix",
    "A suffix works or is refused cleanly, not ignored.",
    source=SPEC,
    level=MAY,
    fault="status 500",
    optional=True,
)
def suffix(probe: Probe) -> None:
    probe.complete()
    exchange = probe.send("POST", COMPLETIONS, probe.text_body(STORY, suffix=" the end."))
    if exchange.status != 200:
        probe.refused(exchange)


@case(
    "completions.stop",
    "A stop ends the completion and does not show.",
    source=SPEC,
    level=MUST,
    fault="drop stop",
    optional=True,
)
def stop(probe: Probe) -> None:
    text = probe.complete(STORY).text()
    piece = text[len(text) // 2 :][:5]
    if len(piece) < 3 or not piece.strip():
        raise SkipError("a completion to cut a stop from", repr(text))
    equal(probe.complete(STORY, stop=piece).text(), text[: text.find(piece)], f"the text with the stop {piece!r}")


@case(
    "completions.seed",
    "The same seed gives the same completion.",
    source=SPEC,
    level=SHOULD,
    fault="drop seed",
    optional=True,
)
def seed(probe: Probe) -> None:
    first, second = (probe.complete(STORY, temperature=1.5, seed=11, max_tokens=24).text() for _ in range(2))
    equal(second, first, "a second completion with seed 11")


@case(
    "completions.raw_prompt",
    "The prompt goes to the model as it is, without a chat template round it.",
    source="meaning of completions",
    level=SHOULD,
    fault="template",
    optional=True,
)
def raw_prompt(probe: Probe) -> None:
    count = probe.complete("Hello", max_tokens=1).usage("prompt_tokens")
    expect(count <= 6, "at most six tokens for one word", count)


@case(
    "completions.stream_shape",
    "Chunks of a completion are text_completion with text, finished once.",
    source=SPEC,
    level=MUST,
    fault='chunk@1 object="chat.completion.chunk"',
    optional=True,
)
def stream_shape(probe: Probe) -> None:
    stream = probe.complete_stream(STORY)
    for chunk in stream.chunks:
        equal(chunk.get("object"), "text_completion", "object")
        for part in dig(chunk, "choices", list):
            dig(part, "text", str)
    equal(len(stream.finishes()), 1, "the number of finishes")
    equal(len({dig(chunk, "id", str) for chunk in stream.chunks}), 1, "the number of ids")


@case(
    "completions.stream_equal",
    "A greedy stream joins to the whole greedy completion.",
    source="same request, same answer",
    level=SHOULD,
    fault="without@1",
    optional=True,
)
def stream_equal(probe: Probe) -> None:
    equal(probe.complete_stream(STORY).text(), probe.complete(STORY).text(), "the text of the stream")


@case(
    "completions.stream_usage",
    "With include_usage the last chunk has usage and no choices.",
    source=SPEC,
    level=MUST,
    fault="drop stream_options",
    optional=True,
)
def stream_usage(probe: Probe) -> None:
    stream = probe.complete_stream(STORY, stream_options={"include_usage": True})
    equal(len(stream.usages), 1, "the number of chunks with usage")
    expect(
        stream.chunks[-1].get("usage") and stream.chunks[-1].get("choices") == [],
        "usage last, choices []",
        stream.chunks[-1],
    )


@case(
    "completions.stream_prompts",
    "A stream over two prompts numbers its choices by prompt.",
    source="TGI tests it",
    level=MUST,
    fault="chunk choices.0.index=0",
    optional=True,
)
def stream_prompts(probe: Probe) -> None:
    stream = probe.complete_stream([STORY, "The sea is"])
    equal(sorted({dig(part, "index", int) for part in stream.all_parts}), [0, 1], "the indices")
    equal([len(stream.finishes(index)) for index in (0, 1)], [1, 1], "the number of finishes of each")


@case("completions.n_two", "n of 2 gives two choices.", source=SPEC, level=MUST, fault="drop n", optional=True)
def n_two(probe: Probe) -> None:
    equal(len(probe.complete(STORY, n=2, temperature=1).choices), 2, "the number of choices")


@case(
    "completions.nulls",
    "Optional fields of null count as absent.",
    source=f"{SPEC}: nullable",
    level=MUST,
    fault="stream key",
    optional=True,
)
def nulls(probe: Probe) -> None:
    names = ("suffix", "logprobs", "echo", "stop", "stream", "best_of", "n", "seed", "logit_bias")
    equal(probe.complete(STORY, **dict.fromkeys(names)).text(), probe.complete(STORY).text(), "the text with nulls")


@case(
    "completions.error_shape",
    "Errors of completions have the shape of all errors.",
    source=f"{SPEC}: ErrorResponse; {OBSERVED}",
    level=MUST,
    fault="error -code",
    optional=True,
)
def error_shape(probe: Probe) -> None:
    probe.complete()
    exchange = probe.send("POST", COMPLETIONS, probe.text_body(temperature=-9))
    probe.refused(exchange)
    conforms(Whole(exchange).body, "ErrorResponse")
