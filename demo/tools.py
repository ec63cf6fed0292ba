"""Invents tools, the sentences that ask for them and the answers they give.

A sentence shares words with the tool that it means (its verb or its noun) and with the parameters that it
fills, so that choosing a tool is finding a word again, and filling it is copying the right ones.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from verbatim.demo.slots import MEASURES, entity, integer, mentions, place_slot, slots

FAMILIAR = ["weather", "time", "temperature", "price"]
POLITE = [
    "{}.",
    "{}.",
    "{}",
    "Please {}.",
    "Can you {}?",
    "Could you {}?",
    "Could you please {}?",
    "I want you to {}.",
    "I would like you to {}.",
    "{}, please.",
    "Hey, {}!",
]
LOOKUPS = [
    "What is the {noun} {place}?",
    "What's the {noun} {place}?",
    "Tell me the {noun} {place}.",
    "I need the {noun} {place}.",
    "{Noun} {place}?",
    "Can you check the {noun} {place}?",
    "Please find the {noun} {place}.",
    "Get the {noun} {place}.",
    "Show me the {noun} {place}, please.",
    "How is the {noun} {place}?",
    "Look up the {noun} {place}.",
    "Do you know the {noun} {place}?",
    "I want to know the {noun} {place}.",
    "what is the {noun} {place}",
]
LOOKUP_DESCRIPTIONS = [
    "Get the {noun} {of} a {name}.",
    "Returns the {noun} {of} the given {name}.",
    "Look up the {noun} {of} a {name}",
    "Current {noun} {of} a {name}.",
    "Find the {noun}.",
    "Get the current {noun} {of} a given {name}",
    "Tells the {noun} {of} one {name}.",
]
LOOKUP_NAMES = [
    "get_{}",
    "get_{}",
    "find_{}",
    "check_{}",
    "fetch_{}",
    "lookup_{}",
    "{}_lookup",
    "get_current_{}",
    "{}",
    "search_{}",
    "read_{}",
    "{}_info",
]


@dataclass
class Tool:
    """A tool as the API lists it, and a maker of sentences that ask for it with their calls' arguments.

    `wish` is what such a sentence asks for: to know or to do what, and with what thing.
    """

    definition: dict
    ask: Callable[[], tuple[str, list[dict]]]
    wish: tuple[str, str]

    @property
    def name(self):
        """What the model has to call it."""
        return self.definition["function"]["name"]


def define(words, name, description, parameters, required):
    """A tool in the shape of the OpenAI API, with the extra keys that some clients add."""
    schema = {"type": "object", "properties": {slot.name: slot.schema for slot in parameters}, "required": required}
    if words.random.random() < 0.08:
        schema["additionalProperties"] = False
    function = {"name": name, "description": description, "parameters": schema}
    if words.random.random() < 0.05:
        function["strict"] = True
    return {"type": "function", "function": function}


def camel(words, name):
    """Now and then a name in camel case or with hyphens instead of underscores."""
    style = words.random.random()
    if style < 0.06:
        first, *rest = name.split("_")
        return first + "".join(word.capitalize() for word in rest)
    return name.replace("_", "-") if style < 0.09 else name


def lookup(words, noun=None):
    """A tool that finds something out about a place, a person or a thing."""
    noun = noun or (words.random.choice(FAMILIAR) if words.random.random() < 0.1 else words.noun())
    main = entity(words)
    extra = [
        slot
        for slot in slots(words, words.random.choice([0, 0, 0, 1, 1, 2]))
        if slot.name not in (main.name, noun) and (slot.schema["type"] != "string" or "enum" in slot.schema)
    ]
    description = words.random.choice(LOOKUP_DESCRIPTIONS).format(
        noun=noun, name=main.name, of=words.random.choice(main.prepositions)
    )
    name = camel(words, words.random.choice(LOOKUP_NAMES).format(noun))

    def ask():
        first, value = main.mention()
        calls = [{main.name: value}]
        if not extra and words.random.random() < 0.15:
            second, value = main.mention()
            if second != first:
                calls.append({main.name: value})
                first += f" and {words.random.choice(['in ', '']) if main.prepositions[0] == 'in' else ''}{second}"
        place = f"{words.random.choice(main.prepositions)} {first}"
        used = [slot for slot in extra if words.random.random() < 0.7]
        text, arguments = mentions(words, used)
        calls[0].update(arguments)
        place += words.random.choice([" ", ", "]) + text if text else ""
        return words.random.choice(LOOKUPS).format(noun=noun, Noun=noun.capitalize(), place=place), calls

    return Tool(define(words, name, description, [main, *extra], [main.name]), ask, ("know", noun))


def glance(words, noun=None):
    """A tool without parameters, which tells one thing: all there is to it is which of them is meant."""
    noun = noun or words.noun()
    description = words.random.choice(["Get the {}.", "Returns the {}.", "Current {}.", "Find the {}.", "The {}"])
    name = camel(words, words.random.choice(LOOKUP_NAMES).format(noun))

    def ask():
        sentence = words.random.choice(LOOKUPS).replace(" {place}", "")
        return sentence.format(noun=noun, Noun=noun.capitalize()), [{}]

    return Tool(define(words, name, description.format(noun), [], []), ask, ("know", noun))


def action(words, noun=None):
    """A tool that does something with a thing: a verb, a noun and one to three typed parameters."""
    verb, noun = words.verb(), noun or words.noun()
    parameters = slots(words, words.random.choice([1, 1, 2, 2, 3]))
    kept = [slot for slot in parameters if slot.name != noun] or [place_slot(words)]
    article = words.random.choice(["a", "the"])
    name = camel(words, words.random.choice([f"{verb}_{noun}", f"{verb}_{noun}", f"{noun}_{verb}", f"{verb}_a_{noun}"]))
    description = words.random.choice(
        [
            f"{verb.capitalize()} {article} {noun}.",
            f"{verb.capitalize()} {noun}",
            f"Use this to {verb} {article} {noun}.",
        ]
    )
    required = [slot.name for slot in kept if words.random.random() < 0.8] or [kept[0].name]

    def ask():
        used = [slot for slot in kept if slot.name in required or words.random.random() < 0.6]
        text, arguments = mentions(words, used)
        wish = f"{verb} {words.random.choice(['a', 'the', article])} {noun} {text}"
        sentence = words.random.choice(POLITE).format(wish)
        return sentence[0].upper() + sentence[1:] if words.random.random() < 0.9 else sentence, [arguments]

    return Tool(define(words, name, description, kept, required), ask, (verb, noun))


def toolbox(words, count, makers=(lookup, action)):
    """`count` tools of different names and wishes; some share a noun, so that the verb has to decide."""
    made = []
    while len(made) < count:
        noun = None if not made or words.random.random() < 0.85 else made[0].wish[1]
        tool = words.random.choice(makers)(words, noun)
        if tool.name not in [other.name for other in made] and tool.wish not in [other.wish for other in made]:
            made.append(tool)
    return made


def value_of(words):
    """A value as a tool may answer it."""
    share = words.random.random()
    if share < 0.35:
        return integer(words)
    if share < 0.5:
        return words.random.randint(1, 999) / 10
    return words.random.choice([words.word, words.word, words.city, words.name])()


def answer(words):
    """What a tool answers, and the sentence that says it."""
    share = words.random.random()
    if share < 0.12:
        text = " ".join(words.word() for _ in range(words.random.randint(1, 3)))
        return json.dumps({"error": text}), f"The tool failed: {text}."
    if share < 0.35:
        text = ", ".join(str(value_of(words)) for _ in range(words.random.randint(1, 3)))
        return text, f"The answer is: {text}."

    def key():
        return words.noun() if words.random.random() < 0.7 else f"{words.adjective()}_{words.noun()}"

    keys = words.different(key, words.random.choice([1, 1, 1, 2, 2, 3]))
    if words.random.random() < 0.15:
        keys[0] = words.random.choice(FAMILIAR + MEASURES + ["status", "result"])
    result = {key: value_of(words) for key in keys}
    parts = [f"the {key.replace('_', ' ')} is {value}" for key, value in result.items()]
    said = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    compact = (",", ":") if words.random.random() < 0.15 else None
    return json.dumps(result, separators=compact), said[0].upper() + said[1:] + "."
