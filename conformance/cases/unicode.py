"""Text beyond ASCII: input and output, whole characters only, and no text of a user becomes a control token."""

import json
import re

from verbatim.conformance.answers import Whole
from verbatim.conformance.case import MUST, SHOULD, SkipError, case, dig, equal, expect
from verbatim.conformance.probe import CHAT, COMPLETIONS, PROMPTS, Probe

TEXTS = {
    "emoji": "\U0001f600 and \U0001f680",
    "joined_emoji": "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "flags": "\U0001f1eb\U0001f1f7\U0001f1ef\U0001f1f5",
    "cjk": "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u3053\u3093\u306b\u3061\u306f",
    "arabic": "\u0645\u0631\u062d\u0628\u0627",
    "combining": "e\u0301 n\u0303 o\u0308",
    "rare": "\U00020bb7\U00010348\U0001d7d8",
    "spaces": "a\u00a0b\u2003c\u3000d",
}


def word_schema(word: str) -> dict:
    """A response_format with one possible answer."""
    schema = {
        "type": "object",
        "properties": {"word": {"type": "string", "enum": [word]}},
        "required": ["word"],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def _exact(name: str, word: str) -> None:
    @case(
        f"unicode.output.{name}",
        f"Text of {name.replace('_', ' ')} comes out exactly, streamed in whole characters.",
        source="mlc-llm#1142; mlx-vlm#1076",
        level=MUST,
        fault="splits characters",
        optional=True,
    )
    def exact(probe: Probe) -> None:
        fields = {"response_format": word_schema(word), "max_tokens": 200}
        whole = probe.chat("Answer with JSON.", **fields)
        if whole.finish == "length":
            raise SkipError("JSON within 200 tokens", "the model writes on")
        equal(_word(whole.text()), word, "the word of the whole answer")
        equal(_word(probe.chat_stream("Answer with JSON.", **fields).text()), word, "the word of the streamed answer")


def _word(text: str) -> object:
    try:
        return dig(json.loads(text), "word")
    except ValueError:
        return text


for _name, _text in TEXTS.items():
    _exact(_name, _text)


@case(
    "unicode.input",
    "Every script is accepted and read: its prompt is longer than an empty one.",
    source="tokenizers",
    level=MUST,
    fault="ascii only",
)
def input_(probe: Probe) -> None:
    empty = probe.chat("a", max_tokens=1).usage("prompt_tokens")
    for name, text in TEXTS.items():
        count = probe.chat("a" + text, max_tokens=1).usage("prompt_tokens")
        expect(count > empty, f"more than {empty} prompt tokens for {name}", count)


@case(
    "unicode.nul",
    "A NUL character is accepted or refused.",
    source="robustness",
    level=MUST,
    fault="nul 500",
)
def nul(probe: Probe) -> None:
    exchange = probe.send("POST", CHAT, probe.chat_body("a\0b"))
    if exchange.status != 200:
        probe.refused(exchange)


@case(
    "unicode.lone_surrogate",
    "Half a surrogate pair is refused or replaced.",
    source="RFC 8259; RFC 3629",
    level=MUST,
    fault="surrogates 500",
)
def lone_surrogate(probe: Probe) -> None:
    raw = json.dumps(probe.chat_body("@")).replace("@", "a\\ud800b").encode()
    exchange = probe.send("POST", CHAT, raw)
    if exchange.status != 200:
        probe.refused(exchange)


@case(
    "unicode.escaped_is_raw",
    "A body of \\u escapes is the same as one of plain UTF-8.",
    source="RFC 8259",
    level=MUST,
    fault="latin bodies",
)
def escaped_is_raw(probe: Probe) -> None:
    body = probe.chat_body("".join(TEXTS.values()))
    counts = []
    for ascii_only in (True, False):
        raw = json.dumps(body, ensure_ascii=ascii_only).encode()
        counts.append(Whole(probe.post(CHAT, raw)).usage("prompt_tokens"))
    equal(counts[1], counts[0], "prompt_tokens of the plain body")


@case(
    "unicode.special_text",
    "Names of control tokens in user text are text: they end nothing and are not removed.",
    source="prompt injection",
    level=SHOULD,
    fault="markers",
)
def special_text(probe: Probe) -> None:
    tail = " lamp river bird stone green blue old new house tree" * 3
    for mark in ("<|im_end|>", "</s>", "<|eot_id|>", "<|endoftext|>"):
        plain = probe.chat(tail, max_tokens=1).usage("prompt_tokens")
        marked = probe.chat(mark + tail, max_tokens=1).usage("prompt_tokens")
        expect(marked > plain, f"more prompt tokens with {mark} before the text", f"{marked} with it, {plain} without")


@case(
    "unicode.no_replacement",
    "A stream shows no U+FFFD where the whole answer has none.",
    source="detokenisers",
    level=MUST,
    fault="splits characters",
    optional=True,
)
def no_replacement(probe: Probe) -> None:
    word = "\U0001f600\u4f60\U0001f469\u200d\U0001f4bb\u597d"
    stream = probe.chat_stream("Answer with JSON.", response_format=word_schema(word), max_tokens=200)
    if stream.finishes() == ["length"]:
        raise SkipError("JSON within 200 tokens", "the model writes on")
    expect("\ufffd" not in stream.text(), "no replacement characters", stream.text())


@case(
    "unicode.whole_pairs",
    "No chunk holds half a surrogate pair.",
    source="elizaOS#30904; JSON in JavaScript",
    level=MUST,
    fault='wire "content": " =>"content": "\\\\ud83d ',
)
def whole_pairs(probe: Probe) -> None:
    for prompt in ("Write five emoji: \U0001f600\U0001f680", PROMPTS[0]):
        for chunk in probe.chat_stream(prompt).chunks:
            expect(
                not re.search("[\ud800-\udfff]", json.dumps(chunk, ensure_ascii=False)), "whole characters", repr(chunk)
            )


@case(
    "unicode.cut_character",
    "A cap in the middle of a character leaves valid UTF-8, at most one U+FFFD.",
    source="detokenisers",
    level=SHOULD,
    fault="doubles replacements",
    optional=True,
)
def cut_character(probe: Probe) -> None:
    fields = {"response_format": word_schema("\U0001f469\U0001f680\U0001f469\U0001f680"), "temperature": 0}
    for cap in range(1, 16, 2):
        text = probe.chat("Answer with JSON.", max_tokens=cap, **fields).text()
        expect(text.count("\ufffd") <= 1, "at most one U+FFFD", repr(text))


@case(
    "unicode.stop",
    "A stop of an emoji ends the answer before it.",
    source="stops and detokenisers",
    level=SHOULD,
    fault="drop stop",
    optional=True,
)
def stop(probe: Probe) -> None:
    word = "ab\U0001f680cd"
    text = probe.chat("Answer with JSON.", response_format=word_schema(word), stop="\U0001f680", max_tokens=200).text()
    expect(
        "\U0001f680" not in text and "\ufffd" not in text and "cd" not in text, "text that ends before the emoji", text
    )


@case(
    "unicode.logprob_bytes",
    "The bytes of log-probabilities rebuild characters of several tokens.",
    source="SPEC: bytes",
    level=MUST,
    fault="body choices.0.logprobs.content.12.bytes=[65]",
    optional=True,
)
def logprob_bytes(probe: Probe) -> None:
    fields = {"response_format": word_schema("\U0001f469\u200d\U0001f680\u597d"), "logprobs": True, "max_tokens": 200}
    answer = probe.chat("Answer with JSON.", **fields)
    data = b"".join(bytes(dig(entry, "bytes", list)) for entry in answer.entries)
    equal(data.decode("utf-8", "replace"), answer.text(), "the joined bytes")


@case(
    "unicode.echo",
    "A prompt of every script is echoed to the letter.",
    source="detokenisers",
    level=MUST,
    fault="drop echo",
    optional=True,
)
def echo(probe: Probe) -> None:
    for name, text in TEXTS.items():
        exchange = probe.post(COMPLETIONS, probe.text_body("x " + text, echo=True, max_tokens=1))
        expect(Whole(exchange).text().startswith("x " + text), f"the prompt of {name}", Whole(exchange).text())


@case(
    "unicode.whitespace",
    "Spaces and line ends in an answer are the same streamed and whole.",
    source="detokenisers",
    level=SHOULD,
    fault='wire "content": " =>"content": "',
)
def whitespace(probe: Probe) -> None:
    for prompt in PROMPTS:
        equal(probe.chat_stream(prompt).text(), probe.chat(prompt).text(), "the streamed text")
