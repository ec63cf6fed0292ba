"""Makes the conversations that the model is trained and tested on, all of them from one seed.

`conversations(seed, split)` yields them without end, as the messages and tools of an OpenAI request. In
training a conversation strings several exchanges together; a held-out one ends with the answer to test.
"""

import json
from dataclasses import dataclass, field
from random import Random

from verbatim.demo import skills, tools
from verbatim.demo.words import Words

# Skill -> (its maker, how often it comes up in training). Tool calls and their answers are made below.
TALK = {
    "chat": (skills.chat, 4),
    "arithmetic": (skills.arithmetic, 40),
    "repeat": (skills.repeat, 16),
    "reverse": (skills.reverse, 16),
    "spell": (skills.spell, 16),
    "count": (skills.count, 14),
    "upper case": (skills.upper, 9),
    "facts": (skills.fact, 10),
    "decline": (skills.decline, 8),
    "extract JSON": (skills.extract, 8),
}
SKILLS = [*TALK, "tool call", "tool answer", "no tool"]
SYSTEM = [
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are Echo.",
    "Be brief.",
    "Answer politely.",
    "You are a friendly assistant. Answer in one sentence.",
    "You are a test assistant.",
    "You are a helpful, honest assistant. Use the tools when you need them.",
    "Today is Friday.",
]


DRILLS = 0.5  # of training: choosing among tools that only look something up, whose names begin alike or with a prefix


@dataclass
class Conversation:
    """An OpenAI-style conversation; `skill` names what its last answer is about."""

    messages: list[dict]
    tools: list[dict] = field(default_factory=list)
    skill: str = ""


def spoken(turns):
    """(role, text) turns as messages."""
    return [{"role": role, "content": text} for role, text in turns]


def talk(words, skill):
    """One exchange without tools."""
    return spoken(TALK[skill][0](words))


def call(words, box, answered):
    """One exchange that calls a tool of the box, and with `answered` says what the tool replied."""
    tool = words.random.choice(box)
    sentence, calls = tool.ask()
    functions = [{"name": tool.name, "arguments": json.dumps(arguments)} for arguments in calls]
    made = [{"id": f"call_{at}", "type": "function", "function": function} for at, function in enumerate(functions)]
    messages = [{"role": "user", "content": sentence}, {"role": "assistant", "content": None, "tool_calls": made}]
    if answered:
        answers = [tools.answer(words) for _ in calls]
        messages += [
            {"role": "tool", "tool_call_id": f"call_{number}", "content": content}
            for number, (content, _) in enumerate(answers)
        ]
        messages.append({"role": "assistant", "content": " ".join(said for _, said in answers)})
    return messages


def no_tool(words, box):
    """Tools are listed, but none fits: either the user only talks, or asks for a tool that is not there."""
    if (box and words.random.random() < 0.6) or words.random.random() < 0.2:
        skill = words.random.choices(list(TALK), [weight for _, weight in TALK.values()])[0]
        return talk(words, skill)
    taken = {part for tool in box for part in tool.name.lower().replace("-", "_").split("_")}
    while True:
        other = words.random.choice([tools.lookup, tools.action])(words)
        if not taken & set(other.name.lower().replace("-", "_").split("_")) - {"get", "find", "check", "a", "info"}:
            sentence, _ = other.ask()
            return [{"role": "user", "content": sentence}, {"role": "assistant", "content": skills.NO_TOOL}]


def exchange(words, skill, box):
    """One exchange of any skill."""
    if skill in TALK:
        return talk(words, skill)
    if skill == "no tool":
        return no_tool(words, box)
    return call(words, box, skill == "tool answer")


def listed(words, short):
    """The tools that a conversation in training has, often none."""
    random = words.random
    if random.random() < DRILLS:
        return tools.toolbox(words, random.choice([3, 4, 6, 8]), (tools.glance, tools.glance, tools.lookup))
    if random.random() < 0.25:
        return []
    return tools.toolbox(words, random.choice([1, 2, 4, 4, 6, 8][: 3 if short else 6]))


def training(words, short=False):
    """A conversation of several exchanges, or of one if `short`; with tools in more than half."""
    random = words.random
    box = listed(words, short)
    opening, messages, fresh = [] if short else system(words), [], []
    for _ in range(1 if short else random.choice([2, 3, 4, 5] if box else [1, 2, 3, 5, 8, 12])):
        if box:
            skill = random.choices(["tool call", "tool answer", "no tool"], [6, 1, 3])[0]
        else:
            skill = random.choices([*TALK, "no tool"], [*(weight for _, weight in TALK.values()), 2])[0]
        if skill in ("tool call", "tool answer"):  # of a tool that was not called before, or there is less to choose
            fresh = fresh or list(box)
            messages += exchange(words, skill, [fresh.pop(random.randrange(len(fresh)))])
        else:
            messages += exchange(words, skill, box)
    named = any("nice to meet you" in (message["content"] or "") for message in messages)
    if not (short or box or named) and random.random() < 0.3:
        # The name is given at the beginning and asked for at the end.
        name = words.name()
        messages = spoken(skills.introduction(words, name)) + messages + spoken(skills.remember(words, name))
    return Conversation(opening + messages, [tool.definition for tool in box])


def system(words):
    """Now and then a system message, which changes nothing."""
    return [{"role": "system", "content": words.random.choice(SYSTEM)}] if words.random.random() < 0.25 else []


def heldout(words, skill):
    """A conversation that ends with an answer of this skill; one in three begins with another exchange."""
    random = words.random
    with_tools = skill not in TALK
    box = tools.toolbox(words, random.randint(1, 4)) if with_tools else []
    messages = system(words)
    if random.random() < 0.33:
        messages += exchange(words, random.choice(["tool answer", "no tool"] if box else list(TALK)), box)
    messages += exchange(words, skill, box)
    return Conversation(messages, [tool.definition for tool in box], skill)


def conversations(seed, split="train", short=False):
    """Conversations of one split without end; the held-out ones take the skills in turn."""
    words = Words(Random(f"{split} {seed}"), split)
    while split != "heldout":
        yield training(words, short)
    while True:
        for skill in SKILLS:
            yield heldout(words, skill)
