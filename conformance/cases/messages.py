"""Anthropic's Messages, where a server has them: content blocks, why an answer ends, the count of tokens."""

from verbatim.conformance.answers import Whole
from verbatim.conformance.case import MUST, SHOULD, SkipError, case, dig, equal, expect
from verbatim.conformance.probe import Probe

PATH = "/messages"
API = "Anthropic's API reference, Messages"
SDK = "anthropic-sdk-python 2.14"
CLAUDE = "Claude Code 2.1"
VERSION = {"anthropic-version": "2023-06-01"}
LONG = "Tell me a long story about a lamp, a river and a bird."
EPHEMERAL = {"cache_control": {"type": "ephemeral"}}


def body(probe: Probe, content: object = "Hello", **fields) -> dict:
    """A request with one message of the user; a field of ... is left out."""
    merged = {"model": probe.settings.model, "max_tokens": 16, "temperature": 0}
    merged |= {"messages": [{"role": "user", "content": content}]} | fields
    return {name: item for name, item in merged.items() if item is not ...}


def ask(probe: Probe, content: object = "Hello", **fields) -> Whole:
    """A whole message."""
    return Whole(probe.post(PATH, body(probe, content, **fields), headers=VERSION))


def input_tokens(answer: Whole) -> int:
    """All tokens of the prompt, cached or not."""
    usage = answer.at("usage", dict)
    cached = (usage.get(f"cache_{name}_input_tokens") or 0 for name in ("read", "creation"))
    return dig(usage, "input_tokens", int) + sum(cached)


def text_of(answer: object) -> str:
    """The text of all blocks."""
    return "".join(dig(block, "text", str) for block in dig(answer, "content", list) if block.get("type") == "text")


def present(probe: Probe) -> None:
    """Skip the case on a server that has no Messages."""
    if probe.send("POST", PATH, body(probe, max_tokens=1), headers=VERSION).status in (404, 405, 501):
        raise SkipError("a server with /messages", "it has none")


@case(
    "messages.whole",
    "A message has an id, a type, a role, the model, content blocks, the reason of its end and usage.",
    source=API,
    level=MUST,
    fault='body type="msg"',
    optional=True,
)
def whole(probe: Probe) -> None:
    answer = ask(probe)
    equal(answer.at("type"), "message", "the type")
    equal(answer.at("role"), "assistant", "the role")
    for name in ("id", "model", "stop_reason"):
        expect(answer.at(name, str), name, answer.body)
    answer.at("stop_sequence")


@case(
    "messages.text_block",
    "A plain question is answered by a block of text.",
    source=API,
    level=MUST,
    fault='body content.0.type="output_text"',
    optional=True,
)
def text_block(probe: Probe) -> None:
    types = [dig(block, "type", str) for block in ask(probe).at("content", list)]
    expect("text" in types and set(types) <= {"text", "thinking", "redacted_thinking"}, "a block of text", types)


@case(
    "messages.id_unique",
    "Every message has an id of its own.",
    source=API,
    level=MUST,
    fault='body id="msg_1"',
    optional=True,
)
def id_unique(probe: Probe) -> None:
    ids = [ask(probe).at("id", str) for _ in range(2)]
    expect(ids[0] != ids[1], "different ids", ids)


@case(
    "messages.usage",
    "usage counts the tokens of prompt and answer, not more of these than allowed.",
    source=API,
    level=MUST,
    fault="body usage.output_tokens=1000",
    optional=True,
)
def usage(probe: Probe) -> None:
    answer = ask(probe, LONG)
    expect(input_tokens(answer) > 0, "input tokens", answer.body)
    expect(answer.usage("output_tokens") <= 16, "at most 16 output tokens", answer.body)


@case(
    "messages.max_tokens_reason",
    "An answer cut by max_tokens says so.",
    source=API,
    level=MUST,
    fault='body stop_reason="length"',
    optional=True,
)
def max_tokens_reason(probe: Probe) -> None:
    answer = ask(probe, LONG, max_tokens=4)
    if answer.usage("output_tokens") < 4:
        raise SkipError("an answer longer than 4 tokens", "the model answers briefly")
    equal(answer.at("stop_reason"), "max_tokens", "stop_reason")


@case(
    "messages.stop_sequence",
    "A stop sequence ends the answer, is not in it, and is named.",
    source=API,
    level=MUST,
    fault="body stop_sequence=null",
    optional=True,
)
def stop_sequence(probe: Probe) -> None:
    words = text_of(ask(probe, LONG, max_tokens=24).body).split()
    if len(words) < 4:
        raise SkipError("an answer of 4 words or more", "the model answers briefly")
    answer = ask(probe, LONG, max_tokens=24, stop_sequences=[words[2]])
    equal(answer.at("stop_reason"), "stop_sequence", "stop_reason")
    equal(answer.at("stop_sequence"), words[2], "stop_sequence")
    expect(words[2] not in text_of(answer.body), f"a text without {words[2]!r}", answer.body)


@case(
    "messages.text_is_block",
    "Text as content equals a single block of text.",
    source=API,
    level=MUST,
    fault="blocks dropped",
    optional=True,
)
def text_is_block(probe: Probe) -> None:
    plain, blocks = ask(probe, LONG), ask(probe, [{"type": "text", "text": LONG}])
    equal(input_tokens(blocks), input_tokens(plain), "input tokens of the block")


@case(
    "messages.system",
    "`system` is read, as text and as blocks.",
    source=API,
    level=MUST,
    fault="system ignored",
    optional=True,
)
def system(probe: Probe) -> None:
    plain, words = input_tokens(ask(probe)), "You are a lamp by a river. Be brief."
    count = input_tokens(ask(probe, system=words))
    expect(count > plain, f"more than {plain} input tokens", count)
    equal(input_tokens(ask(probe, system=[{"type": "text", "text": words}])), count, "input tokens with a block")


@case(
    "messages.cache_control",
    "cache_control is accepted in system, in blocks and in tools.",
    source=f"{API}; {CLAUDE}",
    level=MUST,
    fault="refuse cache_control",
    optional=False,
)
def cache_control(probe: Probe) -> None:
    present(probe)
    block = {"type": "text", "text": "Hello"} | EPHEMERAL
    tool = {"name": "probe", "input_schema": {"type": "object"}} | EPHEMERAL
    ask(probe, [block], system=[block], tools=[tool], tool_choice={"type": "none"})


@case(
    "messages.count_tokens",
    "count_tokens gives the input tokens that an answer's usage has.",
    source=f"{API}, Count tokens",
    level=MUST,
    fault="counts wrong",
    optional=True,
)
def count_tokens(probe: Probe) -> None:
    fields = {"system": "Be brief.", "temperature": ..., "max_tokens": ...}
    counted = Whole(probe.post(f"{PATH}/count_tokens", body(probe, LONG, **fields), headers=VERSION))
    answer = ask(probe, LONG, system="Be brief.")
    equal(counted.at("input_tokens"), input_tokens(answer), "input_tokens")


@case(
    "messages.claude_code",
    "The settings that Claude Code sends with every request are accepted.",
    source=f"{CLAUDE}: adaptive thinking, effort, context management, metadata, a system message at the end",
    level=SHOULD,
    fault="refuse context_management",
    optional=False,
)
def claude_code(probe: Probe) -> None:
    present(probe)
    user, more = {"role": "user", "content": "Hello"}, {"role": "system", "content": "These agents are there: none."}
    ask(
        probe, messages=[user, more], max_tokens=32000, stop_sequences=None, thinking={"type": "adaptive"},
        output_config={"effort": "high"}, context_management={"edits": []},
        metadata={"user_id": '{"device_id":"0","session_id":"1"}'},
        system=[{"type": "text", "text": "x-billing: 1"}, {"type": "text", "text": "Be brief."} | EPHEMERAL],
    )  # fmt: skip
