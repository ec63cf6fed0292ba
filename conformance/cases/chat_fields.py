"""Whole chat completions: caps, choices and fields beside the messages."""

from verbatim.conformance.case import (
    MAY,
    MUST,
    OBSERVED,
    SHOULD,
    SPEC,
    SkipError,
    WarnError,
    case,
    dig,
    equal,
    expect,
    shown,
)
from verbatim.conformance.cases.chat import user
from verbatim.conformance.probe import CHAT, Probe


@case(
    "chat.n_two", "n of 2 gives two choices, numbered 0 and 1.", source=SPEC, level=MUST, fault="drop n", optional=True
)
def n_two(probe: Probe) -> None:
    answer = probe.chat(n=2, temperature=1)
    equal([dig(choice, "index", int) for choice in answer.choices], [0, 1], "the indices")


@case(
    "chat.cap_spellings",
    "max_completion_tokens caps as max_tokens does.",
    source=f"{SPEC}; ik_llama.cpp#2321",
    level=MUST,
    fault="drop max_completion_tokens",
)
def cap_spellings(probe: Probe) -> None:
    for prompt in ("Count from one to fifty in words.", "Hello"):
        answer = probe.chat(prompt, max_tokens=..., max_completion_tokens=3)
        count = answer.usage("completion_tokens")
        expect(count <= 3, "at most 3 completion tokens", count)


@case(
    "chat.old_cap_spelling",
    "max_tokens still caps.",
    source=f"{SPEC}: deprecated; most clients send it",
    level=MUST,
    fault="drop max_tokens",
)
def old_cap_spelling(probe: Probe) -> None:
    count = probe.chat("Count from one to fifty in words.", max_tokens=3).usage("completion_tokens")
    expect(count <= 3, "at most 3 completion tokens", count)


@case(
    "chat.fingerprint",
    "system_fingerprint, if present, is text or null and constant.",
    source=SPEC,
    level=MAY,
    fault="body system_fingerprint=5",
)
def fingerprint(probe: Probe) -> None:
    seen = [probe.chat(max_tokens=1).body.get("system_fingerprint") for _ in range(2)]
    expect(all(value is None or isinstance(value, str) for value in seen), "text or null", seen)
    equal(seen[1], seen[0], "system_fingerprint of a second answer")


@case(
    "chat.plain_null_content",
    "An assistant's message without content and calls is answered or refused cleanly.",
    source="freellmapi#165",
    level=SHOULD,
    fault="status 500",
)
def plain_null_content(probe: Probe) -> None:
    messages = [user("Hello"), {"role": "assistant", "content": None}, user("Go on.")]
    exchange = probe.send("POST", CHAT, probe.chat_body(messages))
    if exchange.status != 200:
        probe.refused(exchange)


@case(
    "chat.unknown_field",
    "An unknown field is refused by name or ignored without harm.",
    source=f"{OBSERVED}: 400; most servers ignore it",
    level=MAY,
    fault="unknown 500",
)
def unknown_field(probe: Probe) -> None:
    exchange = probe.send("POST", CHAT, probe.chat_body(**{probe.word(): 1}))
    if exchange.status != 200:
        error = probe.refused(exchange)
        if probe.word() not in shown(error):
            raise WarnError("the refusal names the field", exchange.summary())


@case(
    "chat.greedy_text",
    "A plain question gets an answer with text in it.",
    source="what a chat is for",
    level=SHOULD,
    fault='body choices.0.message.content=""',
)
def greedy_text(probe: Probe) -> None:
    for prompt in ("Hello", "Count from one to fifty in words."):
        answer = probe.chat(prompt, max_tokens=32)
        if answer.text():
            return
    if answer.at("choices.0.message", dict).get("reasoning_content"):
        raise SkipError("text in the answer", "the model spent its tokens on reasoning")
    expect(False, "text in the answer", answer.body)
