"""Streamed chat completions: usage, options, several choices and log-probabilities."""

from verbatim.conformance.answers import Streamed
from verbatim.conformance.case import MAY, MUST, OBSERVED, SHOULD, SPEC, SkipError, case, dig, equal, expect
from verbatim.conformance.cases.stream import USAGE
from verbatim.conformance.probe import CHAT, PROMPTS, Probe
from verbatim.conformance.schemas import conforms


@case(
    "stream.no_usage_unasked",
    "Usage that was not requested is not sent.",
    source=f"{OBSERVED}; haystack#8507",
    level=SHOULD,
    fault='chunk@-1 usage={"prompt_tokens":1}',
)
def no_usage_unasked(probe: Probe) -> None:
    stream = probe.chat_stream()
    equal(stream.usages, [], "all usages")


@case(
    "stream.no_empty_choices",
    "Without usage no chunk has empty choices: many clients take the first.",
    source=f"{OBSERVED}; shell_gpt#457",
    level=SHOULD,
    fault="chunk@-1 choices=[]",
)
def no_empty_choices(probe: Probe) -> None:
    for chunk in probe.chat_stream().chunks:
        expect(dig(chunk, "choices", list), "choices that are not empty", chunk)


@case(
    "stream.usage_once",
    "With include_usage exactly one chunk has usage, with all three counts.",
    source=SPEC,
    level=MUST,
    fault="drop stream_options",
)
def usage_once(probe: Probe) -> None:
    usages = probe.chat_stream(**USAGE).usages
    equal(len(usages), 1, "the number of chunks with usage")
    conforms(usages[0], "CompletionUsage")


@case("stream.usage_last", "The chunk with usage is the last chunk.", source=SPEC, level=MUST, fault="double@-2")
def usage_last(probe: Probe) -> None:
    chunks = probe.chat_stream(**USAGE).chunks
    expect(chunks[-1].get("usage"), "usage in the last chunk", chunks[-1])
    ends = [chunk for chunk in chunks if any(part.get("finish_reason") for part in dig(chunk, "choices", list))]
    equal(len(ends), 1, "the number of chunks that finish")


@case(
    "stream.usage_choices",
    "The chunk with usage has choices: [].",
    source=f"{SPEC}; Portkey#1629",
    level=MUST,
    fault="chunk@-1 -choices",
)
def usage_choices(probe: Probe) -> None:
    last = probe.chat_stream(**USAGE).chunks[-1]
    expect(last.get("choices") == [], "choices: [] beside usage", last)


@case(
    "stream.usage_null",
    "With include_usage all other chunks have usage: null.",
    source=SPEC,
    level=SHOULD,
    fault="chunk@1 -usage",
)
def usage_null(probe: Probe) -> None:
    for chunk in probe.chat_stream(**USAGE).chunks[:-1]:
        expect("usage" in chunk and chunk["usage"] is None, "usage: null", chunk)


@case(
    "stream.usage_false",
    "include_usage of false is as if absent.",
    source=OBSERVED,
    level=MUST,
    fault="ask stream_options.include_usage=true",
)
def usage_false(probe: Probe) -> None:
    stream = probe.chat_stream(stream_options={"include_usage": False})
    equal(stream.usages, [], "all usages")


@case(
    "stream.options_null",
    "stream_options of null is as if absent.",
    source=f"{SPEC}: nullable",
    level=MUST,
    fault="wire data: =>data: x",
)
def options_null(probe: Probe) -> None:
    expect(probe.chat_stream(stream_options=None).text(), "a stream with text")


@case(
    "stream.obfuscation_off",
    "include_obfuscation of false is accepted and no obfuscation comes.",
    source=SPEC,
    level=SHOULD,
    fault='chunk obfuscation="abc"',
    optional=True,
)
def obfuscation_off(probe: Probe) -> None:
    for chunk in probe.chat_stream(stream_options={"include_obfuscation": False}).chunks:
        expect("obfuscation" not in chunk, "no obfuscation", chunk)


@case(
    "stream.unknown_option",
    "An unknown stream option is refused or ignored.",
    source="robustness",
    level=MAY,
    fault="odd options 500",
)
def unknown_option(probe: Probe) -> None:
    body = probe.chat_body(stream=True, stream_options={"include_riddle": True})
    exchange = probe.send("POST", CHAT, body)
    if exchange.status != 200:
        probe.refused(exchange)
    else:
        Streamed(probe.accepted(exchange)).text()


@case(
    "stream.n_indices",
    "With n of 2 the indices are 0 and 1 and each choice starts and finishes.",
    source=f"{SPEC}; openai-agents#3313; TGI#1648",
    level=MUST,
    fault="drop n",
    optional=True,
)
def n_indices(probe: Probe) -> None:
    stream = probe.chat_stream(n=2, temperature=1, seed=5)
    indices = {dig(part, "index", int) for part in stream.all_parts}
    equal(sorted(indices), [0, 1], "the indices")
    for index in (0, 1):
        equal(stream.delta(stream.parts(index)[0]).get("role"), "assistant", f"the first role of choice {index}")
        equal(len(stream.finishes(index)), 1, f"the number of finishes of choice {index}")


@case(
    "stream.length",
    "A cap of 1 streams its token and finishes with `length`.",
    source=SPEC,
    level=MUST,
    fault='chunk@-1 choices.0.finish_reason="stop"',
)
def length(probe: Probe) -> None:
    for prompt in PROMPTS:
        if probe.chat(prompt, max_tokens=4).usage() == 4:
            stream = probe.chat_stream(prompt, max_tokens=1)
            equal(stream.finishes(), ["length"], "finish_reason at a cap of 1")
            return
    raise SkipError("a prompt answered with 4 tokens or more", "the model answers too briefly")


@case(
    "stream.starts_and_ends",
    "Even the shortest answer has a chunk with the role and a chunk with the finish_reason.",
    source="Ollama tests it",
    level=MUST,
    fault="without@0",
)
def starts_and_ends(probe: Probe) -> None:
    stream = probe.chat_stream(max_tokens=1)
    deltas = [stream.delta(part) for part in stream.parts()]
    expect(deltas and any("role" in delta for delta in deltas), "a chunk with the role", deltas)
    equal(len(stream.finishes()), 1, "the number of finishes")


@case(
    "stream.logprobs",
    "Streamed log-probabilities cover the streamed text, bytes for bytes.",
    source=f"{SPEC}; litellm#3276",
    level=MUST,
    fault="drop logprobs",
    optional=True,
)
def logprobs(probe: Probe) -> None:
    stream = probe.chat_stream(PROMPTS[0], logprobs=True)
    tokens = b""
    for part in stream.parts():
        for entry in (part.get("logprobs") or {}).get("content") or []:
            conforms(entry, "ChatCompletionTokenLogprob")
            tokens += bytes(entry["bytes"]) if entry["bytes"] is not None else entry["token"].encode()
    expect(tokens, "log-probabilities in the stream", "none")
    equal(
        tokens.decode("utf-8", "replace").rstrip("\ufffd"), stream.text().rstrip("\ufffd"), "the bytes of all entries"
    )


@case(
    "stream.no_logprobs_unasked",
    "Log-probabilities that were not requested are null or absent.",
    source=SPEC,
    level=SHOULD,
    fault='chunk@1 choices.0.logprobs={"content":[],"refusal":null}',
)
def no_logprobs_unasked(probe: Probe) -> None:
    for part in probe.chat_stream().parts():
        equal(part.get("logprobs"), None, "logprobs")
