"""Legacy completions: echo and log-probabilities as four parallel arrays."""

from verbatim.conformance.case import MUST, SHOULD, SPEC, SkipError, WarnError, case, dig, equal, expect
from verbatim.conformance.cases.completions import STORY
from verbatim.conformance.probe import COMPLETIONS, Probe


@case(
    "completions.echo",
    "With echo the text begins with the prompt, to the letter.",
    source=SPEC,
    level=MUST,
    fault="drop echo",
    optional=True,
)
def echo(probe: Probe) -> None:
    text = probe.complete(STORY, echo=True).text()
    expect(text.startswith(STORY) and len(text) > len(STORY), f"{STORY!r} and more", text)


@case(
    "completions.echo_rest",
    "What follows the echoed prompt is what comes without echo.",
    source=SPEC,
    level=SHOULD,
    fault="drop echo",
    optional=True,
)
def echo_rest(probe: Probe) -> None:
    plain, echoed = probe.complete(STORY).text(), probe.complete(STORY, echo=True).text()
    equal(echoed, STORY + plain, "the echoed text")


@case(
    "completions.echo_unicode",
    "Echo keeps emoji, CJK and combining marks, streamed too.",
    source="detokenisers",
    level=MUST,
    fault="drop echo",
    optional=True,
)
def echo_unicode(probe: Probe) -> None:
    prompt = "The \U0001f469\u200d\U0001f4bb says \u4f60\u597d e\u0301"
    for text in (probe.complete(prompt, echo=True).text(), probe.complete_stream(prompt, echo=True).text()):
        expect(text.startswith(prompt), f"{prompt!r} at the beginning", text)


@case(
    "completions.score",
    "echo, max_tokens 0 and logprobs score a prompt, as evaluation harnesses do.",
    source="lm-evaluation-harness; llama.cpp#27174",
    level=SHOULD,
    fault="drop echo",
    optional=True,
)
def score(probe: Probe) -> None:
    answer = probe.complete(STORY, echo=True, max_tokens=0, logprobs=1)
    equal(answer.text(), STORY, "the text")
    values = answer.at("choices.0.logprobs.token_logprobs", list)
    equal(len(values), answer.usage("prompt_tokens"), "the number of log-probabilities")
    expect(values[0] is None, "null for the first token", values[:2])
    expect(all(isinstance(v, float | int) and v <= 1e-6 for v in values[1:]), "numbers of at most 0", values)


@case(
    "completions.echo_logprobs",
    "With echo and logprobs the arrays cover prompt and completion.",
    source="lm-eval#1411",
    level=SHOULD,
    fault="drop echo",
    optional=True,
)
def echo_logprobs(probe: Probe) -> None:
    answer = probe.complete(STORY, echo=True, max_tokens=4, logprobs=1)
    tokens = answer.at("choices.0.logprobs.tokens", list)
    equal(len(tokens), answer.usage("prompt_tokens") + answer.usage(), "the number of tokens")


@case(
    "completions.arrays",
    "logprobs holds four arrays of the same length.",
    source=SPEC,
    level=MUST,
    fault="body choices.0.logprobs.text_offset=[0]",
    optional=True,
)
def arrays(probe: Probe) -> None:
    logs = probe.complete(STORY, logprobs=2).at("choices.0.logprobs", dict)
    lengths = {name: len(dig(logs, name, list)) for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")}
    expect(len(set(lengths.values())) == 1 and lengths["tokens"], "four arrays of the same length", lengths)


@case(
    "completions.tokens_are_text",
    "The tokens of logprobs join to the text.",
    source=SPEC,
    level=MUST,
    fault='body choices.0.logprobs.tokens.0="zzz"',
    optional=True,
)
def tokens_are_text(probe: Probe) -> None:
    answer = probe.complete(STORY, logprobs=1)
    joined = "".join(answer.at("choices.0.logprobs.tokens", list))
    if "\ufffd" in joined or "bytes:" in joined:
        raise SkipError("tokens of whole characters", "the text has cut ones")
    equal(joined, answer.text(), "the joined tokens")


@case(
    "completions.top_count",
    "logprobs of 5 names five or six candidates, with the sampled token among them.",
    source=SPEC,
    level=MUST,
    fault="ask logprobs=1",
    optional=True,
)
def top_count(probe: Probe) -> None:
    logs = probe.complete(STORY, logprobs=5, max_tokens=6).at("choices.0.logprobs", dict)
    for token, top in zip(dig(logs, "tokens", list), dig(logs, "top_logprobs", list), strict=False):
        expect(isinstance(top, dict) and 3 <= len(top) <= 6, "some five candidates", top)
        expect(token in top or "\ufffd" in token, f"{token!r} among the candidates", top)


@case(
    "completions.logprobs_zero",
    "logprobs of 0 gives the values of the sampled tokens.",
    source=f"{SPEC}: minimum 0",
    level=SHOULD,
    fault="drop logprobs",
    optional=True,
)
def logprobs_zero(probe: Probe) -> None:
    values = probe.complete(STORY, logprobs=0).at("choices.0.logprobs.token_logprobs", list)
    expect(values and all(isinstance(v, float | int) and v <= 1e-6 for v in values), "numbers of at most 0", values)


@case(
    "completions.logprobs_range",
    "logprobs below 0 is refused, and so is more than 5; some servers give more.",
    source=f"{SPEC}: maximum 5; vLLM gives 20",
    level=SHOULD,
    fault="accept logprobs",
    optional=True,
)
def logprobs_range(probe: Probe) -> None:
    probe.complete()
    probe.refused(probe.send("POST", COMPLETIONS, probe.text_body(STORY, logprobs=-1)))
    exchange = probe.send("POST", COMPLETIONS, probe.text_body(STORY, logprobs=6))
    if exchange.status == 200:
        raise WarnError("a refusal, as OpenAI gives", "six are given")
    probe.refused(exchange)


@case(
    "completions.offsets",
    "text_offset gives the place in the text where each token begins.",
    source="vLLM tests it",
    level=MUST,
    fault="body choices.0.logprobs.text_offset.2=0",
    optional=True,
)
def offsets(probe: Probe) -> None:
    answer = probe.complete(STORY, logprobs=1)
    logs, text = answer.at("choices.0.logprobs", dict), answer.text()
    places, tokens = dig(logs, "text_offset", list), dig(logs, "tokens", list)
    if "\ufffd" in "".join(tokens) or "bytes:" in "".join(tokens):
        raise SkipError("tokens of whole characters", "the text has cut ones")
    expect(all(type(place) is int for place in places) and places == sorted(places), "growing offsets", places)
    for place, token in zip(places, tokens, strict=False):
        at = place - places[0]
        equal(text[at : at + len(token)], token, f"the text at offset {place}")
