"""Stop sequences: they end the answer, never show, and never take away what they should not.

The stops are cut out of the model's own greedy answer, so that no case needs a model that can follow orders.
"""

from verbatim.conformance.answers import Whole
from verbatim.conformance.case import MUST, OBSERVED, SHOULD, SPEC, SkipError, case, equal, expect
from verbatim.conformance.probe import Probe


def middle(probe: Probe) -> tuple[str, str, str]:
    """(prompt, greedy answer, a stop out of its middle that occurs there first)."""
    prompt, answer = probe.long_answer()
    text = answer.text()
    for size in (6, 8, 11):
        at = len(text) // 2 - size // 2
        stop = text[at : at + size]
        if len(stop) == size and stop.strip() and text.find(stop) > 0 and "\ufffd" not in stop:
            return prompt, text, stop
    raise SkipError("a part from the middle of the answer", "the model's answer has none")


def cut(text: str, stop: str) -> str:
    """What must remain."""
    return text[: text.find(stop)]


@case(
    "stop.excluded",
    "The answer ends before the stop and does not contain it.",
    source=SPEC,
    level=MUST,
    fault="drop stop",
)
def excluded(probe: Probe) -> None:
    prompt, text, stop = middle(probe)
    answer = probe.chat(prompt, max_tokens=24, stop=stop)
    equal(answer.text(), cut(text, stop), f"the answer with the stop {stop!r}")
    equal(answer.finish, "stop", "finish_reason")


@case(
    "stop.stream",
    "A stream ends before the stop, and no chunk leaks a part of it.",
    source=f"{SPEC}; vllm#3574",
    level=MUST,
    fault="leaks stops",
)
def stream(probe: Probe) -> None:
    prompt, text, stop = middle(probe)
    streamed = probe.chat_stream(prompt, max_tokens=24, stop=stop)
    equal(streamed.text(), cut(text, stop), f"the streamed answer with the stop {stop!r}")
    equal(streamed.finishes(), ["stop"], "finish_reason")


@case("stop.within_a_word", "A stop may begin and end inside words.", source="vllm#3672", level=MUST, fault="drop stop")
def within_a_word(probe: Probe) -> None:
    prompt, answer = probe.long_answer()
    text = answer.text()
    words = text.split(" ")
    places = [at for at in range(1, len(words) - 1) if len(words[at]) > 2 and len(words[at + 1]) > 2]
    if not places:
        raise SkipError("two long words in a row", "the model's answer has none")
    at = places[len(places) // 2]
    stop = words[at][-2:] + " " + words[at + 1][:2]
    equal(probe.chat(prompt, max_tokens=24, stop=stop).text(), cut(text, stop), f"the answer with the stop {stop!r}")


@case(
    "stop.first_wins",
    "The first of two stops to occur ends the answer.",
    source="meaning of stop",
    level=MUST,
    fault='ask stop=["zzz"]',
)
def first_wins(probe: Probe) -> None:
    prompt, answer = probe.long_answer()
    text = answer.text()
    early, late = text[len(text) // 3 :][:6], text[2 * len(text) // 3 :][:6]
    first = min(text.find(early), text.find(late))
    for stops in ([late, early], [early, late]):
        equal(probe.chat(prompt, max_tokens=24, stop=stops).text(), text[:first], f"the answer with the stops {stops}")


@case("stop.four", "Four stops are accepted.", source=f"{SPEC}: up to 4", level=MUST, fault="no lists of stops")
def four(probe: Probe) -> None:
    prompt, text, stop = middle(probe)
    stops = [probe.word(1), probe.word(2), probe.word(3), stop]
    equal(probe.chat(prompt, max_tokens=24, stop=stops).text(), cut(text, stop), f"the answer with the stops {stops}")


@case(
    "stop.text_or_list",
    "A stop as text is the same as a list of it.",
    source=SPEC,
    level=MUST,
    fault="no lists of stops",
)
def text_or_list(probe: Probe) -> None:
    prompt, _, stop = middle(probe)
    as_text, as_list = (probe.chat(prompt, max_tokens=24, stop=value).text() for value in (stop, [stop]))
    equal(as_list, as_text, f"the answer with the stop [{stop!r}]")


@case(
    "stop.absent",
    "A stop that never occurs changes nothing, in a stream neither.",
    source="meaning of stop",
    level=MUST,
    fault="loses the tail",
)
def absent(probe: Probe) -> None:
    prompt, answer = probe.long_answer()
    stop = probe.word()
    equal(
        probe.chat(prompt, max_tokens=24, stop=stop).text(), answer.text(), "the answer with a stop that never occurs"
    )
    equal(probe.chat_stream(prompt, max_tokens=24, stop=stop).text(), answer.text(), "the same as a stream")


@case(
    "stop.diverges",
    "Text that begins like a stop and continues differently is returned whole.",
    source="held-back text",
    level=MUST,
    fault="loses the tail",
)
def diverges(probe: Probe) -> None:
    prompt, answer = probe.long_answer()
    text = answer.text()
    stops = [text[len(text) // 2 :][:4] + "\u2603", text[-3:] + "\u2603"]
    equal(probe.chat_stream(prompt, max_tokens=24, stop=stops).text(), text, f"the stream with the stops {stops}")


@case(
    "stop.not_in_prompt",
    "A stop that only the prompt contains ends nothing.",
    source="meaning of stop",
    level=MUST,
    fault="stops in prompts",
)
def not_in_prompt(probe: Probe) -> None:
    for prompt in ("Count from one to fifty in words.", "Tell me a long story about a lamp."):
        text = probe.chat(prompt).text()
        stop = next(
            (
                word
                for word in ("to fifty", "long story", "Tell me", "Count from")
                if word in prompt and word not in text
            ),
            None,
        )
        if stop and text:
            equal(probe.chat(prompt, stop=stop).text(), text, f"the answer with the stop {stop!r} of the prompt")
            return
    raise SkipError("words of the prompt that the answer has not", "there are none")


@case(
    "stop.null_or_empty", "A stop of null or [] changes nothing.", source=OBSERVED, level=SHOULD, fault="no empty stops"
)
def null_or_empty(probe: Probe) -> None:
    plain = probe.chat("Count from one to fifty in words.").text()
    stop: list | None
    for stop in (None, []):
        equal(probe.chat("Count from one to fifty in words.", stop=stop).text(), plain, f"the answer with stop {stop}")


@case(
    "stop.case_matters",
    "A stop in other letters' case does not count.",
    source="meaning of stop",
    level=SHOULD,
    fault="stops in any case",
)
def case_matters(probe: Probe) -> None:
    prompt, text, stop = middle(probe)
    other = stop.swapcase()
    if other == stop or other in text:
        raise SkipError("letters in the stop", f"{stop!r} has none")
    equal(probe.chat(prompt, max_tokens=24, stop=other).text(), text, f"the answer with the stop {other!r}")


@case(
    "stop.usage",
    "Tokens of an answer ended by a stop are counted, and fewer than without.",
    source="meaning of usage",
    level=SHOULD,
    fault="drop stop",
)
def usage(probe: Probe) -> None:
    prompt, _, stop = middle(probe)
    count = probe.chat(prompt, max_tokens=24, stop=stop).usage()
    expect(0 < count < 24, "a count between 0 and the cap of 24", count)


@case(
    "stop.empty_text",
    "An empty stop is refused or ignored: it neither ends the answer nor hangs.",
    source="robustness",
    level=SHOULD,
    fault="empty stop ends",
)
def empty_text(probe: Probe) -> None:
    plain = probe.chat("Count from one to fifty in words.").text()
    for stop in ("", [""]):
        exchange = probe.send(
            "POST", "/chat/completions", probe.chat_body("Count from one to fifty in words.", stop=stop)
        )
        if exchange.status == 200:
            equal(Whole(exchange).text(), plain, f"the answer with the stop {stop!r}")
        else:
            probe.refused(exchange)


@case(
    "stop.n_choices", "Every choice of n is cut.", source="meaning of n", level=SHOULD, fault="drop stop", optional=True
)
def n_choices(probe: Probe) -> None:
    prompt, _, stop = middle(probe)
    texts = probe.chat(prompt, max_tokens=24, stop=stop, n=2).texts
    expect(len(texts) == 2 and not any(stop in text for text in texts), f"two answers without {stop!r}", texts)
