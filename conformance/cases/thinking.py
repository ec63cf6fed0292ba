"""Models that think: thoughts stand apart from the answer, in chats, responses and messages.

A case is skipped where the model does not think.
"""

from verbatim.conformance.answers import Whole, parsed
from verbatim.conformance.case import SHOULD, SkipError, case, dig, equal, expect
from verbatim.conformance.cases.messages import VERSION, text_of
from verbatim.conformance.cases.messages import body as message_body
from verbatim.conformance.probe import Probe

NAMES = ("reasoning_content", "reasoning")
PEERS = "DeepSeek's reasoning_content, which vLLM, SGLang and llama.cpp send; vLLM's newer reasoning"
MARKS = ("<think>", "</think>", "[THINK]", "[/THINK]", "<|channel|>", "<seed:think>", "◁think▷")
SUMS = "Think, then answer: what is 2 plus 3?"
ROOM = 256  # tokens for a thought and an answer
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}


def asked(**fields) -> dict:
    """The fields of a chat with a thinking model."""
    return {"messages": SUMS, "reasoning_effort": "medium", "max_tokens": ROOM} | fields


def thought_in(message: dict) -> str:
    """The thought of a message or a delta; the same in both of its names, where it has both."""
    found = {dig(message, name, str) for name in NAMES if message.get(name) is not None}
    expect(len(found) < 2, "one thought under both names", message)
    return found.pop() if found else ""


def needs(thought: object) -> None:
    """Skip the case where there is no thought."""
    if not thought:
        raise SkipError("a thought", "the model did not think")


def without_marks(text: str) -> None:
    """The server fails if marks of thoughts are left in a text."""
    expect(not any(mark in text for mark in MARKS), "text without the marks of a thought", text)


@case(
    "thinking.apart",
    "A thought stands in reasoning_content or reasoning, and no mark of it in the content.",
    source=PEERS,
    level=SHOULD,
    fault='body choices.0.message.content="<think>\\nhm\\n</think>5"',
    optional=True,
)
def apart(probe: Probe) -> None:
    answer = probe.chat(**asked())
    without_marks(answer.text())
    thought = thought_in(answer.at("choices.0.message", dict))
    without_marks(thought)
    needs(thought)


@case(
    "thinking.stream",
    "A stream brings the same thought and the same content as the whole answer, the thought first.",
    source=PEERS,
    level=SHOULD,
    fault='chunk@-2 choices.0.delta.reasoning_content="more"',
    optional=True,
)
def stream(probe: Probe) -> None:
    whole = probe.chat(**asked())
    wanted = thought_in(whole.at("choices.0.message", dict))
    needs(wanted)
    streamed = probe.chat_stream(**asked())
    deltas = [streamed.delta(part) for part in streamed.parts()]
    equal("".join(map(thought_in, deltas)), wanted, "the thought")
    equal(streamed.text(), whole.text(), "the content")
    begun = next((at for at, delta in enumerate(deltas) if delta.get("content")), len(deltas))
    expect(not any(map(thought_in, deltas[begun:])), "no thought behind the content", deltas[begun:])


@case(
    "thinking.usage",
    "The tokens of a thought are counted, as part of the completion.",
    source="OpenAI's API description 2.3.0: completion_tokens_details.reasoning_tokens",
    level=SHOULD,
    fault="body usage.completion_tokens_details.reasoning_tokens=0",
    optional=True,
)
def usage(probe: Probe) -> None:
    answer = probe.chat(**asked())
    needs(thought_in(answer.at("choices.0.message", dict)))
    tokens = answer.at("usage.completion_tokens_details.reasoning_tokens", int)
    expect(0 < tokens <= answer.usage(), "reasoning_tokens from 1 to completion_tokens", answer.at("usage"))


@case(
    "thinking.structured",
    "A schema holds the content and not the thought.",
    source="vLLM's and SGLang's structured output of models that think",
    level=SHOULD,
    fault='body choices.0.message.content="{"',
    optional=True,
)
def structured(probe: Probe) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "sum", "strict": True, "schema": SCHEMA}}
    answer = probe.chat(**asked(response_format=form))
    needs(thought_in(answer.at("choices.0.message", dict)))
    if answer.finish == "length":
        raise SkipError("an answer behind the thought", "the thought took all tokens")
    dig(parsed(answer.text(), "the content"), "answer", int)


@case(
    "thinking.off",
    "An effort of none is answered without a thought.",
    source="OpenAI's API description 2.3.0: reasoning_effort",
    level=SHOULD,
    fault="thinks always",
    optional=True,
)
def off(probe: Probe) -> None:
    message = probe.chat(**asked(reasoning_effort="none", max_tokens=64)).at("choices.0.message", dict)
    equal(thought_in(message), "", "the thought")


@case(
    "thinking.response",
    "A response has the thought as an item of reasoning in front of the message.",
    source="OpenAI's API description 2.3.0: ReasoningItem",
    level=SHOULD,
    fault="thought behind",
    optional=True,
)
def response(probe: Probe) -> None:
    fields = {"input": SUMS, "reasoning": {"effort": "medium"}, "max_output_tokens": ROOM, "temperature": 0}
    exchange = probe.send("POST", "/responses", {"model": probe.settings.model} | fields)
    if exchange.status in (404, 405, 501):
        raise SkipError("a server with /responses", "it has none")
    types = [dig(item, "type", str) for item in Whole(probe.accepted(exchange)).at("output", list)]
    needs("reasoning" in types)
    if "message" in types:
        expect(types.index("reasoning") < types.index("message"), "the reasoning first", types)


@case(
    "thinking.message",
    "A message has the thought as a block in front of the text, with a signature.",
    source="Anthropic's API reference, extended thinking",
    level=SHOULD,
    fault="body -content.0.signature",
    optional=True,
)
def message(probe: Probe) -> None:
    wanted = {"type": "enabled", "budget_tokens": 1024}
    fields = message_body(probe, SUMS, thinking=wanted, max_tokens=2048, temperature=...)
    exchange = probe.send("POST", "/messages", fields, headers=VERSION)
    if exchange.status in (404, 405, 501):
        raise SkipError("a server with /messages", "it has none")
    answer = Whole(probe.accepted(exchange))
    blocks = answer.at("content", list)
    types = [dig(block, "type", str) for block in blocks]
    needs("thinking" in types)
    equal(types[0], "thinking", "the first block")
    dig(blocks, "0.thinking", str)
    dig(blocks, "0.signature", str)
    without_marks(text_of(answer.body))
