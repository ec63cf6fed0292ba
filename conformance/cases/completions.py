"""Legacy completions: prompts of every form, echo, and log-probabilities as four parallel arrays."""

from verbatim.conformance.case import MUST, SHOULD, SPEC, case, dig, equal, expect
from verbatim.conformance.probe import COMPLETIONS, Probe
from verbatim.conformance.schemas import conforms

STORY = "Once upon a time there was a lamp by a river and"


@case(
    "completions.schema",
    "A completion has the form that OpenAI describes.",
    source=f"{SPEC}: CreateCompletionResponse",
    level=MUST,
    fault='body choices.0.finish_reason="eos"',
    optional=True,
)
def schema(probe: Probe) -> None:
    body = probe.complete(STORY).body
    for choice in body.get("choices") or []:
        if isinstance(choice, dict):
            choice.setdefault("logprobs", None)
    conforms(body, "CreateCompletionResponse")


@case(
    "completions.object",
    "`object` is text_completion.",
    source=SPEC,
    level=MUST,
    fault='body object="text"',
    optional=True,
)
def object_(probe: Probe) -> None:
    equal(probe.complete().at("object"), "text_completion", "object")


@case(
    "completions.logprobs_null",
    "`logprobs` is present and null unless requested.",
    source=f"{SPEC}: required",
    level=SHOULD,
    fault="body -choices.0.logprobs",
    optional=True,
)
def logprobs_null(probe: Probe) -> None:
    equal(probe.complete().at("choices.0.logprobs"), None, "logprobs")


@case(
    "completions.default_cap",
    "Without max_tokens at most 16 tokens come.",
    source=f"{SPEC}: default 16",
    level=SHOULD,
    fault="no default cap",
    optional=True,
)
def default_cap(probe: Probe) -> None:
    count = probe.complete(STORY, max_tokens=...).usage()
    expect(count <= 16, "at most 16 completion tokens", count)


@case(
    "completions.cap", "max_tokens caps the answer.", source=SPEC, level=MUST, fault="ask max_tokens=12", optional=True
)
def cap(probe: Probe) -> None:
    count = probe.complete(STORY, max_tokens=3).usage()
    expect(count <= 3, "at most 3 completion tokens", count)


@case(
    "completions.usage", "The counts add up.", source=SPEC, level=MUST, fault="body usage.total_tokens=1", optional=True
)
def usage(probe: Probe) -> None:
    answer = probe.complete(STORY)
    equal(answer.usage("total_tokens"), answer.usage("prompt_tokens") + answer.usage(), "total_tokens")


@case(
    "completions.prompt_list",
    "A list of two prompts gives two choices, in order.",
    source=SPEC,
    level=MUST,
    fault="body choices.1.index=0",
    optional=True,
)
def prompt_list(probe: Probe) -> None:
    answer = probe.complete([STORY, "The sea is"])
    equal([dig(choice, "index", int) for choice in answer.choices], [0, 1], "the indices")
    singles = [probe.complete(prompt).text() for prompt in (STORY, "The sea is")]
    equal(answer.texts, singles, "the texts, as of each prompt alone,")


@case(
    "completions.prompt_major",
    "Two prompts with n of 2 give four choices, those of the first prompt first.",
    source="LangChain slices by n",
    level=MUST,
    fault="sample-major",
    optional=True,
)
def prompt_major(probe: Probe) -> None:
    answer = probe.complete(["Left:", "Right:"], n=2, echo=True, max_tokens=2)
    starts = [
        "Left" if text.startswith("Left:") else "Right" if text.startswith("Right:") else text for text in answer.texts
    ]
    equal(starts, ["Left", "Left", "Right", "Right"], "the prompts of the choices")


@case(
    "completions.token_ids",
    "A prompt may be token ids, each counted as a token.",
    source=f"{SPEC}; lm-evaluation-harness",
    level=SHOULD,
    fault="counts ids twice",
    optional=True,
)
def token_ids(probe: Probe) -> None:
    answer = probe.complete([65, 66, 67, 68], max_tokens=2)
    equal(answer.usage("prompt_tokens"), 4, "prompt_tokens of four ids")


@case(
    "completions.token_id_lists",
    "A prompt may be lists of token ids, a choice for each.",
    source=SPEC,
    level=SHOULD,
    fault="first prompt only",
    optional=True,
)
def token_id_lists(probe: Probe) -> None:
    answer = probe.complete([[65, 66], [67, 68, 69]], max_tokens=2)
    equal(len(answer.choices), 2, "the number of choices")
    equal(answer.usage("prompt_tokens"), 5, "prompt_tokens of five ids")


@case(
    "completions.empty_prompt",
    "An empty prompt is answered or refused.",
    source="vLLM tests it",
    level=SHOULD,
    fault="empty prompt 500",
    optional=True,
)
def empty_prompt(probe: Probe) -> None:
    probe.complete()
    exchange = probe.send("POST", COMPLETIONS, probe.text_body(""))
    if exchange.status != 200:
        probe.refused(exchange)
