"""Sampling: bounds are accepted, zeros change nothing, and every parameter has its effect."""

from verbatim.conformance.case import MAY, MUST, OBSERVED, SHOULD, SPEC, SkipError, case, equal, expect
from verbatim.conformance.probe import PROMPTS, Probe

STORY = PROMPTS[1]


OPEN = (STORY, "Name an animal, a colour and a town.", "Tell me something new.")


def varied(probe: Probe, prompt: str, **fields) -> set[str]:
    """The distinct answers among six to the same question."""
    return {probe.chat(prompt, **{"max_tokens": 20} | fields).text() for _ in range(6)}


def open_question(probe: Probe, temperature: float) -> str:
    """A question that this model answers in different ways; equal answers to other questions prove nothing."""
    for prompt in OPEN:
        if len(varied(probe, prompt, temperature=temperature, top_p=1)) >= 4:
            return prompt
    raise SkipError(f"answers that vary at temperature {temperature}", "the answers of this model hardly vary")


def _bounds(name: str, fields: dict) -> None:
    @case(
        f"sampling.accepts.{name}",
        f"{', '.join(f'{k} of {v}' for k, v in fields.items())} is within bounds and accepted.",
        source=f"{SPEC}: bounds included",
        level=MUST,
        fault=f"refuse {next(iter(fields))}",
    )
    def accepts(probe: Probe) -> None:
        probe.chat(max_tokens=2, **fields)


_bounds("temperature_zero", {"temperature": 0})
_bounds("temperature_two", {"temperature": 2})
_bounds("top_p_one", {"top_p": 1})
_bounds("presence_penalty_low", {"presence_penalty": -2})
_bounds("presence_penalty_high", {"presence_penalty": 2})
_bounds("frequency_penalty_low", {"frequency_penalty": -2})
_bounds("frequency_penalty_high", {"frequency_penalty": 2})
_bounds("n_one", {"n": 1})


@case("sampling.top_p_zero", "A top_p of 0 is accepted.", source=OBSERVED, level=SHOULD, fault="refuse top_p")
def top_p_zero(probe: Probe) -> None:
    probe.chat(max_tokens=2, top_p=0)


@case(
    "sampling.greedy_repeats",
    "At temperature 0 the same request has the same answer.",
    source="meaning of greedy",
    level=SHOULD,
    fault="drop temperature",
)
def greedy_repeats(probe: Probe) -> None:
    first, second, third = (probe.chat(STORY, max_tokens=32).text() for _ in range(3))
    equal((second, third), (first, first), "a second and a third greedy answer")


@case(
    "sampling.tiny_top_p",
    "A top_p of almost 0 is greedy at any temperature.",
    source="definition of nucleus sampling",
    level=SHOULD,
    fault="drop top_p",
)
def tiny_top_p(probe: Probe) -> None:
    greedy = probe.chat(STORY, max_tokens=12).text()
    equal(probe.chat(STORY, max_tokens=12, temperature=1, top_p=1e-6).text(), greedy, "the answer with top_p 0.000001")


@case(
    "sampling.temperature_works",
    "A high temperature varies the answers.",
    source=f"{SPEC}; webai",
    level=SHOULD,
    fault="ask temperature=0",
)
def temperature_works(probe: Probe) -> None:
    for prompt in PROMPTS[:3]:
        if len({probe.chat(prompt, temperature=2, max_tokens=24).text() for _ in range(4)}) > 1:
            return
    expect(False, "different answers at temperature 2", "four equal answers to each of three questions")


@case(
    "sampling.top_p_works",
    "A small top_p takes the variety of a high temperature away.",
    source=f"{SPEC}; LM Studio ignored it",
    level=SHOULD,
    fault="drop top_p",
)
def top_p_works(probe: Probe) -> None:
    answers = varied(probe, open_question(probe, 2), temperature=1.6, top_p=0.001)
    equal(len(answers), 1, "the number of different answers with top_p 0.001")


@case(
    "sampling.default_temperature",
    "Without a temperature the answer is sampled, not greedy.",
    source=f"{SPEC}: default 1",
    level=MAY,
    fault="default greedy",
)
def default_temperature(probe: Probe) -> None:
    open_question(probe, 1)
    for prompt in OPEN:  # a model may recommend less than 1, at which not all of them vary
        if len(varied(probe, prompt, temperature=...)) > 1:
            return
    expect(False, "different answers", f"six equal answers to each of {len(OPEN)} questions")


@case(
    "sampling.zeros_mean_nothing",
    "Penalties of 0, top_p of 1 and an empty logit_bias change nothing.",
    source=SPEC,
    level=MUST,
    fault='ask logit_bias={"65": 100}',
)
def zeros_mean_nothing(probe: Probe) -> None:
    plain = probe.chat(STORY).text()
    fields: dict
    for fields in ({"presence_penalty": 0, "frequency_penalty": 0}, {"top_p": 1}, {"logit_bias": {}}, {"n": 1}):
        equal(probe.chat(STORY, **fields).text(), plain, f"the greedy answer with {fields}")


@case(
    "sampling.frequency_penalty_works",
    "A frequency_penalty of 2 changes a greedy answer that repeats itself.",
    source=SPEC,
    level=SHOULD,
    fault="drop frequency_penalty",
)
def frequency_penalty_works(probe: Probe) -> None:
    plain = ""
    lamps = "Write the word lamp forty times: lamp lamp lamp lamp lamp"
    for prompt in (lamps, "Repeat these words:" + " a" * 20, *PROMPTS):
        words = probe.chat(prompt, max_tokens=64).text().split()
        if len(words) - len(set(words)) >= 10:
            plain = " ".join(words)
            if probe.chat(prompt, max_tokens=64, frequency_penalty=2).text().split() != words:
                return
    expect(not plain, "another answer with a frequency_penalty of 2", plain)
    raise SkipError("a greedy answer that repeats itself", "the answers of this model do not")


@case(
    "sampling.presence_penalty_works",
    "A presence_penalty of 2 changes hot answers with the same seed.",
    source=SPEC,
    level=MAY,
    fault="drop presence_penalty",
)
def presence_penalty_works(probe: Probe) -> None:
    """A greedy answer may be unchanged: its logits can lead by more than 2, and the penalty does not grow."""
    plain = ""
    for seed in (1, 2, 3):
        hot = {"temperature": 2, "seed": seed, "max_tokens": 64}
        answers = {probe.chat(STORY, **hot).text() for _ in range(2)}
        if len(answers) == 1:
            (plain,) = answers
            if probe.chat(STORY, **hot, presence_penalty=2).text() != plain:
                return
    expect(not plain, "another answer with a presence_penalty of 2", plain)
    raise SkipError("a seed that fixes an answer", "two answers with the same seed differ here")


def _tokens(probe: Probe) -> list[int]:
    """Ids to bias: small ones, which every vocabulary has and which are mostly plain characters."""
    return list(range(40, 120))


@case(
    "sampling.logit_bias_works",
    "A bias of 100 on some tokens forces them.",
    source=SPEC,
    level=SHOULD,
    fault="drop logit_bias",
    optional=True,
)
def logit_bias_works(probe: Probe) -> None:
    plain = probe.chat(STORY, max_tokens=5)
    biased = probe.chat(STORY, max_tokens=5, logit_bias={str(token): 100 for token in _tokens(probe)[:1]})
    expect(biased.text() != plain.text(), "another answer with a bias of 100", plain.text())
    texts = [probe.chat(STORY, max_tokens=1, logit_bias={str(token): 100}).text() for token in (60, 61, 62)]
    expect(len(set(texts)) > 1, "the token that the bias names", texts)


@case(
    "sampling.n_varies",
    "With n of 4 and a high temperature the choices differ.",
    source=SPEC,
    level=SHOULD,
    fault="same choices",
    optional=True,
)
def n_varies(probe: Probe) -> None:
    prompt = open_question(probe, 2)
    for _ in range(3):  # a model with one likely answer may repeat it four times
        texts = probe.chat(prompt, n=4, temperature=2, max_tokens=20).texts
        if len(texts) != 4 or len(set(texts)) > 1:
            break
    expect(len(texts) == 4 and len(set(texts)) > 1, "four choices, not all the same", texts)


@case(
    "sampling.cap_is_exact",
    "An answer is never longer than max_tokens.",
    source=SPEC,
    level=MUST,
    fault="ask max_tokens=9",
)
def cap_is_exact(probe: Probe) -> None:
    for cap in (1, 7):
        count = probe.chat(STORY, max_tokens=cap).usage()
        expect(count <= cap, f"at most {cap} completion tokens", count)


@case(
    "sampling.cap_is_a_prefix",
    "A greedy answer with a small cap is a prefix of the answer with a larger cap.",
    source="meaning of greedy",
    level=SHOULD,
    fault="cap changes answers",
)
def cap_is_a_prefix(probe: Probe) -> None:
    short, long = probe.chat(STORY, max_tokens=6).text(), probe.chat(STORY, max_tokens=20).text()
    expect(long.startswith(short.rstrip("\ufffd")), f"a beginning of {long!r}", short)
