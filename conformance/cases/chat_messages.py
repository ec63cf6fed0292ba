"""Whole chat completions: every type of message that clients send is accepted and read."""

from verbatim.conformance.case import MUST, OBSERVED, SHOULD, SPEC, case, dig, equal, expect
from verbatim.conformance.cases.chat import CALL, user
from verbatim.conformance.probe import CHAT, Probe
from verbatim.conformance.schemas import conforms


@case("chat.system_role", "A system message is accepted and read.", source=SPEC, level=MUST, fault="no system")
def system_role(probe: Probe) -> None:
    bare = probe.chat("Hello").usage("prompt_tokens")
    more = probe.chat([{"role": "system", "content": "You are a quiet lamp by a river."}, user("Hello")])
    expect(more.usage("prompt_tokens") > bare, "prompt_tokens grow by the system message", more.body.get("usage"))


@case(
    "chat.developer_role",
    "A developer message is accepted.",
    source=f"{SPEC}; Codex and the Agents SDK send it",
    level=MUST,
    fault="no developer",
)
def developer_role(probe: Probe) -> None:
    probe.chat([{"role": "developer", "content": "Be brief."}, user("Hello")])


@case(
    "chat.developer_counts",
    "A developer message is read like a system message, not dropped.",
    source=SPEC,
    level=SHOULD,
    fault="developer dropped",
)
def developer_counts(probe: Probe) -> None:
    text = "You are a quiet lamp by a river. Answer in words of one syllable."
    bare = probe.chat("Hello", max_tokens=1).usage("prompt_tokens")
    system, developer = (
        probe.chat([{"role": role, "content": text}, user("Hello")], max_tokens=1).usage("prompt_tokens")
        for role in ("system", "developer")
    )
    expect(developer > bare, f"more than {bare} prompt tokens", f"{developer}, with system {system}")


def _orders() -> dict[str, list[dict]]:
    system, hi = {"role": "system", "content": "Be brief."}, user("Hello")
    assistant = {"role": "assistant", "content": "Yes"}
    return {
        "system_last": [hi, system],
        "only_system": [system],
        "only_assistant": [assistant],
        "ends_with_assistant": [hi, assistant],
        "user_twice": [hi, hi],
        "assistant_twice": [hi, assistant, assistant, hi],
    }


def _register_order(name: str) -> None:
    @case(
        f"chat.order.{name}",
        f"The order of messages {name.replace('_', ' ')} is answered or refused cleanly.",
        source=f"{OBSERVED}: accepted; templates differ",
        level=SHOULD,
        fault="order 500",
    )
    def order(probe: Probe) -> None:
        exchange = probe.send("POST", CHAT, probe.chat_body(_orders()[name]))
        if exchange.status == 200:
            conforms(dig(exchange.json(), "usage"), "CompletionUsage")
        else:
            probe.refused(exchange)
            expect(exchange.error(), "an error object", exchange.summary())


for _name in _orders():
    _register_order(_name)


@case("chat.empty_content", "Empty text is content, too.", source=OBSERVED, level=SHOULD, fault="no empty content")
def empty_content(probe: Probe) -> None:
    probe.chat("")
    probe.chat([{"role": "system", "content": ""}, user("Hello")])


@case(
    "chat.parts_equal_text",
    "Content as one text part is the same as plain text.",
    source=f"{SPEC}; ninfer#56",
    level=MUST,
    fault="parts dropped",
)
def parts_equal_text(probe: Probe) -> None:
    text = "Name a lamp, a river and a bird."
    plain, parts = probe.chat(text), probe.chat([{"role": "user", "content": [{"type": "text", "text": text}]}])
    equal(parts.usage("prompt_tokens"), plain.usage("prompt_tokens"), "prompt_tokens of the same text as a part")


@case("chat.all_parts_count", "Every text part is read.", source=SPEC, level=MUST, fault="parts dropped")
def all_parts_count(probe: Probe) -> None:
    def tokens(*texts: str) -> int:
        parts = [{"type": "text", "text": text} for text in texts]
        return probe.chat([{"role": "user", "content": parts}], max_tokens=1).usage("prompt_tokens")

    single = tokens("a lamp by a river")
    double = tokens("a lamp by a river", " a bird on a stone wall")
    expect(double > single, f"more than {single} prompt tokens with a second part", double)


@case("chat.system_parts", "A system message may be text parts.", source=SPEC, level=MUST, fault="no system parts")
def system_parts(probe: Probe) -> None:
    probe.chat([{"role": "system", "content": [{"type": "text", "text": "Be brief."}]}, user("Hello")])


def _call_history(content: object) -> list[dict]:
    assistant = {"role": "assistant", "content": content, "tool_calls": [CALL]}
    if content is ...:
        del assistant["content"]
    return [user("Look it up."), assistant, {"role": "tool", "tool_call_id": CALL["id"], "content": "42"}]


@case(
    "chat.assistant_null_content",
    "An assistant's message with calls may have content null, none or empty.",
    source=f"{SPEC}; lmstudio#261; vercel/ai#13744",
    level=MUST,
    fault="no null content",
)
def assistant_null_content(probe: Probe) -> None:
    for content in (None, ..., ""):
        probe.chat(_call_history(content), max_tokens=4)


@case(
    "chat.tool_content_parts",
    "A tool's answer as text parts is read like plain text.",
    source=f"{SPEC}; strands#1878",
    level=MUST,
    fault="parts dropped",
)
def tool_content_parts(probe: Probe) -> None:
    plain, parts = _call_history(None), _call_history(None)
    text = "a lamp, a river, a bird and a stone"
    plain[-1]["content"], parts[-1]["content"] = text, [{"type": "text", "text": text}]
    whole, split = (probe.chat(messages, max_tokens=1).usage("prompt_tokens") for messages in (plain, parts))
    equal(split, whole, "prompt_tokens of the same tool answer as parts")


@case(
    "chat.assistant_parts",
    "An assistant's earlier text may be text parts.",
    source=SPEC,
    level=SHOULD,
    fault="parts dropped",
)
def assistant_parts(probe: Probe) -> None:
    text = "a lamp, a river, a bird and a stone"
    whole, split = (
        probe.chat([user("Hello"), {"role": "assistant", "content": content}, user("And?")], max_tokens=1).usage(
            "prompt_tokens"
        )
        for content in (text, [{"type": "text", "text": text}])
    )
    equal(split, whole, "prompt_tokens of the same words as parts")


@case("chat.name_field", "A message may carry a name.", source=SPEC, level=SHOULD, fault="no names")
def name_field(probe: Probe) -> None:
    probe.chat([{"role": "user", "name": "ada", "content": "Hello"}])


@case(
    "chat.own_message_back",
    "A message that the server wrote is accepted as history, unchanged.",
    source="every agent loop does so",
    level=MUST,
    fault="no annotations",
    optional=False,
)
def own_message_back(probe: Probe) -> None:
    first = probe.chat("Hello")
    mine = first.at("choices.0.message", dict) | {"refusal": None, "annotations": []}
    second = probe.chat([user("Hello"), mine, user("Go on.")])
    expect(second.usage("prompt_tokens") > first.usage("prompt_tokens"), "a longer prompt", second.body.get("usage"))


@case(
    "chat.turns_grow",
    "Every further message makes the prompt longer.",
    source="meaning of a conversation",
    level=MUST,
    fault="body usage.prompt_tokens=9",
)
def turns_grow(probe: Probe) -> None:
    messages, counts = [], []
    for number in range(4):
        messages += [user(f"Word {number}: lamp"), {"role": "assistant", "content": "river"}]
        counts.append(probe.chat(messages[:-1], max_tokens=1).usage("prompt_tokens"))
    expect(counts == sorted(set(counts)), "prompt_tokens grow with each message", counts)


@case(
    "chat.prompt_matters",
    "The messages are read: another question has another count or answer.",
    source="meaning of a prompt",
    level=MUST,
    fault='ask messages=[{"role":"user","content":"same"}]',
)
def prompt_matters(probe: Probe) -> None:
    short, long = probe.chat("Hi"), probe.chat("Tell me of the lamp and the river and the bird on the wall.")
    expect(
        long.usage("prompt_tokens") > short.usage("prompt_tokens"),
        "more prompt_tokens for a longer question",
        [short.body.get("usage"), long.body.get("usage")],
    )
