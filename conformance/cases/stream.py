"""Streamed chat completions: chunks, their order, usage, tool calls in fragments, and replays through known clients."""

from verbatim.conformance.case import MUST, OBSERVED, SHOULD, SPEC, case, dig, equal, expect
from verbatim.conformance.probe import PROMPTS, Probe
from verbatim.conformance.schemas import conforms

USAGE = {"stream_options": {"include_usage": True}}


TOOL = {
    "type": "function",
    "function": {
        "name": "probe",
        "description": "Takes a word.",
        "parameters": {
            "type": "object",
            "properties": {"word": {"type": "string", "enum": ["lamp by the river and bird on the wall"]}},
            "required": ["word"],
            "additionalProperties": False,
        },
    },
}


NAMED = {"type": "function", "function": {"name": "probe"}}


def forced_stream(probe: Probe, **fields):
    """A stream of a single forced call."""
    return probe.chat_stream("Call the tool.", **{"tools": [TOOL], "tool_choice": NAMED, "max_tokens": 64} | fields)


@case(
    "stream.schema",
    "Every chunk has the form that OpenAI describes.",
    source=f"{SPEC}: CreateChatCompletionStreamResponse",
    level=MUST,
    fault='chunk@1 choices.0.finish_reason="eos"',
)
def schema(probe: Probe) -> None:
    for chunk in probe.chat_stream().chunks:
        for part in chunk.get("choices") or []:
            if isinstance(part, dict):
                part.setdefault("finish_reason", None)
        conforms(chunk, "CreateChatCompletionStreamResponse")


@case(
    "stream.object",
    "A chunk's object is chat.completion.chunk.",
    source=SPEC,
    level=MUST,
    fault='chunk object="chat.completion"',
)
def object_(probe: Probe) -> None:
    for chunk in probe.chat_stream().chunks:
        equal(chunk.get("object"), "chat.completion.chunk", "object")


def _constant(name: str, fault: str) -> None:
    @case(
        f"stream.{name}_constant",
        f"All chunks of a stream have the same {name}.",
        source=f"{SPEC}; litellm#1571; foundry-local#144",
        level=MUST,
        fault=fault,
    )
    def constant(probe: Probe) -> None:
        values = [dig(chunk, name) for chunk in probe.chat_stream().chunks]
        equal(values, values[:1] * len(values), f"{name} of all chunks")


_constant("id", 'chunk@2 id="other"')


_constant("created", "chunk@2 created=1600000000")


_constant("model", 'chunk@2 model="other"')


@case(
    "stream.first_role",
    "The first chunk of a choice has the role assistant.",
    source=f"{OBSERVED}; openai-node fails without",
    level=MUST,
    fault="chunk@0 -choices.0.delta.role",
)
def first_role(probe: Probe) -> None:
    stream = probe.chat_stream()
    equal(stream.delta(dig(stream.parts(), "0")).get("role"), "assistant", "the first delta's role")


@case(
    "stream.first_content",
    "The first chunk's content is empty text, not null.",
    source=f"{OBSERVED}; llama.cpp sends null",
    level=SHOULD,
    fault="chunk@0 choices.0.delta.content=null",
)
def first_content(probe: Probe) -> None:
    stream = probe.chat_stream()
    first = stream.delta(dig(stream.parts(), "0"))
    expect(isinstance(first.get("content"), str), "text as the first delta's content", first)


@case(
    "stream.role_once",
    "The role comes once.",
    source=f"{OBSERVED}; Ollama tests it",
    level=SHOULD,
    fault='chunk choices.0.delta.role="assistant"',
)
def role_once(probe: Probe) -> None:
    stream = probe.chat_stream()
    roles = [part for part in stream.parts() if "role" in stream.delta(part)]
    equal(len(roles), 1, "the number of deltas with a role")


@case(
    "stream.finish_once",
    "A choice finishes once, with a known finish_reason.",
    source=f"{SPEC}; openclaw#98575",
    level=MUST,
    fault="chunk@-1 choices.0.finish_reason=null",
)
def finish_once(probe: Probe) -> None:
    finishes = probe.chat_stream().finishes()
    expect(len(finishes) == 1 and finishes[0] in ("stop", "length"), "one finish_reason", finishes)


@case(
    "stream.finish_key",
    "finish_reason is present and null before the end.",
    source=f"{SPEC}: required",
    level=SHOULD,
    fault="chunk@1 -choices.0.finish_reason",
)
def finish_key(probe: Probe) -> None:
    for part in probe.chat_stream().parts():
        expect("finish_reason" in part, "the key finish_reason in every choice", part)


@case(
    "stream.finish_last",
    "Nothing of a choice follows its finish.",
    source=OBSERVED,
    level=MUST,
    fault='chunk@1 choices.0.finish_reason="stop"',
)
def finish_last(probe: Probe) -> None:
    parts = probe.chat_stream().parts()
    ends = [at for at, part in enumerate(parts) if part.get("finish_reason") is not None]
    equal(ends, [len(parts) - 1], "the places of finish_reason")


@case(
    "stream.finish_delta_empty",
    "The chunk that finishes has an empty delta.",
    source=OBSERVED,
    level=SHOULD,
    fault='chunk@-1 choices.0.delta={"content":"!"}',
)
def finish_delta_empty(probe: Probe) -> None:
    last = probe.chat_stream().parts()[-1]
    expect(not any(dig(last, "delta", dict).values()), "an empty delta", last)


@case(
    "stream.finish_equal",
    "A stream finishes as the whole answer does.",
    source="same request, same answer",
    level=MUST,
    fault='chunk@-1 choices.0.finish_reason="content_filter"',
)
def finish_equal(probe: Probe) -> None:
    whole, stream = probe.chat(), probe.chat_stream()
    equal(stream.finishes(), [whole.finish], "finish_reason of the stream")


@case(
    "stream.text_equal",
    "The deltas of a greedy stream join to the whole greedy answer.",
    source="webai; temperature 0",
    level=SHOULD,
    fault="loses the tail",
)
def text_equal(probe: Probe) -> None:
    for prompt in PROMPTS[:2]:
        equal(probe.chat_stream(prompt).text(), probe.chat(prompt).text(), "the text of the stream")


@case(
    "stream.no_message",
    "Chunks carry `delta`, not `message`.",
    source=f"{SPEC}; foundry-local#144",
    level=MUST,
    fault='chunk@1 choices.0.message={"content":"x"}',
)
def no_message(probe: Probe) -> None:
    for part in probe.chat_stream().all_parts:
        expect("message" not in part and "delta" in part, "delta and no message", part)


@case(
    "stream.pieces_are_text",
    "Contents of deltas are text or null.",
    source=SPEC,
    level=MUST,
    fault="chunk@1 choices.0.delta.content=5",
)
def pieces_are_text(probe: Probe) -> None:
    for part in probe.chat_stream().parts():
        content = dig(part, "delta", dict).get("content")
        expect(content is None or isinstance(content, str), "text or null", content)
