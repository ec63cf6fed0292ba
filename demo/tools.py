"""Invents tools, the sentences that ask for them and the answers they give.

A sentence shares words with the tool that it means (its verb or its noun) and with the parameters that it
fills, so that choosing a tool is finding a word again, and filling it is copying the right ones.
"""

import json
from dataclasses import dataclass
from typing import Callable

PLACES = "city town place location country destination address region area".split()
PERSONS = "name person user customer guest contact recipient author owner".split()
THINGS = "item product topic subject symbol keyword query id category".split()
COUNTS = "people days hours minutes nights seats copies guests pages items weeks rooms".split()
AMOUNTS = "amount quantity limit number size count year level floor".split()
MEASURES = "price weight height distance speed length volume budget rate temperature".split()
TEXTS = "text message title note comment subject body label query content".split()
SWITCHES = "breakfast insurance delivery sound details wrapping parking music backup reminder".split()
CHOICES = "unit mode style color priority format type kind language category".split()
FAMILIAR = "weather time temperature price".split()
POLITE = ["{}.", "{}.", "{}", "Please {}.", "Can you {}?", "Could you {}?", "Could you please {}?",
          "I want you to {}.", "I would like you to {}.", "{}, please.", "Hey, {}!"]
LOOKUPS = ["What is the {noun} {place}?", "What's the {noun} {place}?", "Tell me the {noun} {place}.",
           "I need the {noun} {place}.", "{Noun} {place}?", "Can you check the {noun} {place}?",
           "Please find the {noun} {place}.", "Get the {noun} {place}.", "Show me the {noun} {place}, please.",
           "How is the {noun} {place}?", "Look up the {noun} {place}.", "Do you know the {noun} {place}?",
           "I want to know the {noun} {place}.", "what is the {noun} {place}"]
LOOKUP_DESCRIPTIONS = ["Get the {noun} {of} a {name}.", "Returns the {noun} {of} the given {name}.",
                       "Look up the {noun} {of} a {name}", "Current {noun} {of} a {name}.", "Find the {noun}.",
                       "Get the current {noun} {of} a given {name}", "Tells the {noun} {of} one {name}."]
LOOKUP_NAMES = ["get_{}", "get_{}", "find_{}", "check_{}", "fetch_{}", "lookup_{}", "{}_lookup", "get_current_{}",
                "{}", "search_{}", "read_{}", "{}_info"]


@dataclass
class Slot:
    """One parameter: its name, its JSON schema, and how a sentence mentions a value for it."""

    name: str
    schema: dict
    mention: Callable[[], tuple[str, object]]
    prepositions: tuple = ()


@dataclass
class Tool:
    """A tool as the API lists it, and a maker of sentences that ask for it with their calls' arguments."""

    definition: dict
    ask: Callable[[], tuple[str, list[dict]]]

    @property
    def name(self):
        return self.definition["function"]["name"]


def entity(words):
    """A string parameter for a place, a person or a thing, mentioned by its value alone."""
    choice = words.random.choice
    names, draw, prepositions = choice([
        (PLACES, words.city, ("in", "for", "in", "at")), (PLACES, words.city, ("in", "for", "of")),
        (PERSONS, words.name, ("of", "for")), (THINGS, words.word, ("of", "for")),
    ])
    name = words.noun() if words.random.random() < 0.2 else choice(names)
    schema = described(words, {"type": "string"}, choice([f"The {name}", f"Name of the {name}", name,
                                                          f"The {name}, for example {draw()}"]))
    return Slot(name, schema, lambda: one(draw()), prepositions)


def one(value):
    return str(value), value


def described(words, schema, description):
    """Most parameters have a description, some have none; some schemas carry a title as pydantic's do."""
    if words.random.random() < 0.55:
        schema["description"] = description
    elif words.random.random() < 0.1:
        schema = {"title": description, **schema}
    return schema


def integer(words, high=200):
    while True:
        number = words.random.randint(1, words.random.choice([9, 31, high, 9999]))
        if words.allowed(str(number)) or number < 10:
            return number


def count_slot(words):
    name = words.noun() + "s" if words.random.random() < 0.2 else words.random.choice(COUNTS)
    ways = ["for {1} {0}", "with {1} {0}", "{1} {0}", "{0} {1}", "with {0} {1}"]
    schema = described(words, {"type": "integer"}, words.random.choice([f"How many {name}", f"Number of {name}"]))
    return filled(words, name, schema, ways, lambda: integer(words))


def amount_slot(words):
    name = words.random.choice(AMOUNTS)
    ways = ["with {0} {1}", "{0} {1}", "with a {0} of {1}", "for {0} {1}", "with the {0} {1}"]
    return filled(words, name, described(words, {"type": "integer"}, f"The {name}"), ways, lambda: integer(words))


def measure_slot(words):
    name = words.random.choice(MEASURES)
    ways = ["with {0} {1}", "with a {0} of {1}", "at a {0} of {1}", "{0} {1}"]

    def value():
        return integer(words) if words.random.random() < 0.3 else words.random.randint(1, 999) / 10

    return filled(words, name, described(words, {"type": "number"}, f"The {name}"), ways, value)


def text_slot(words):
    name = words.random.choice(TEXTS)
    mark = words.random.choice(["'", "'", "‘’"])
    ways = ["with the {0} " + mark[0] + "{1}" + mark[-1], "{0} " + mark[0] + "{1}" + mark[-1],
            "with {0} " + mark[0] + "{1}" + mark[-1], "saying " + mark[0] + "{1}" + mark[-1]]

    def value():
        return " ".join(words.word() for _ in range(words.random.randint(1, 4)))

    return filled(words, name, described(words, {"type": "string"}, f"The {name}"), ways, value)


def person_slot(words):
    ways, names = words.random.choice([(["for {1}"], PERSONS), (["to {1}"], ["recipient", "to", "contact"]),
                                       (["with {0} {1}", "{0} {1}"], PERSONS)])
    name = words.random.choice(names)
    return filled(words, name, described(words, {"type": "string"}, f"The {name}"), ways, words.name)


def place_slot(words):
    name = words.random.choice(PLACES)
    ways = ["in {1}", "in {1}", "at {1}", "with {0} {1}", "{0} {1}"]
    return filled(words, name, described(words, {"type": "string"}, f"The {name}"), ways, words.city)


def switch_slot(words):
    name = words.noun() if words.random.random() < 0.3 else words.random.choice(SWITCHES)
    schema = described(words, {"type": "boolean"}, words.random.choice([f"With {name} or not", f"Whether with {name}"]))

    def mention():
        value = words.random.random() < 0.5
        return f"{'with' if value else 'without'} {name}", value

    return Slot(name, schema, mention)


def choice_slot(words):
    name = words.random.choice(CHOICES)
    options = words.different(words.random.choice([words.adjective, words.word]), words.random.randint(2, 4))
    schema = described(words, {"type": "string", "enum": options}, f"The {name}")
    ways = ["in {1} {0}", "with {0} {1}", "{0} {1}", "with {1} {0}", "in {1}"]
    return filled(words, name, schema, ways, lambda: words.random.choice(options))


def filled(words, name, schema, ways, draw):
    """A slot whose mention puts its name and a value into one of `ways`."""

    def mention():
        value = draw()
        return words.random.choice(ways).format(name, value), value

    return Slot(name, schema, mention)


SLOTS = [count_slot, amount_slot, measure_slot, text_slot, person_slot, place_slot, switch_slot, choice_slot]


def slots(words, count):
    """`count` slots with names, and with types or prepositions, that cannot be mixed up."""
    made = []
    for make in words.random.sample(SLOTS, count):
        slot = make(words)
        if slot.name not in [other.name for other in made]:
            made.append(slot)
    return made


def mentions(words, chosen):
    """The words of a sentence that fill the chosen slots, and the arguments in the order of the schema."""
    arguments, texts = {}, []
    for slot in chosen:
        text, arguments[slot.name] = slot.mention()
        texts.append(text)
    if words.random.random() < 0.3:
        words.random.shuffle(texts)
    return "".join(text if i == 0 else words.random.choice([" ", " ", " and ", ", "]) + text
                   for i, text in enumerate(texts)), arguments


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
    extra = [slot for slot in slots(words, words.random.choice([0, 0, 0, 1, 1, 2]))
             if slot.name not in (main.name, noun) and (slot.schema["type"] != "string" or "enum" in slot.schema)]
    description = words.random.choice(LOOKUP_DESCRIPTIONS).format(
        noun=noun, name=main.name, of=words.random.choice(main.prepositions))
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

    return Tool(define(words, name, description, [main, *extra], [main.name]), ask)


def action(words, noun=None):
    """A tool that does something with a thing: a verb, a noun and one to three typed parameters."""
    verb, noun = words.verb(), noun or words.noun()
    parameters = slots(words, words.random.choice([1, 1, 2, 2, 3]))
    kept = [slot for slot in parameters if slot.name != noun] or [place_slot(words)]
    article = words.random.choice(["a", "the"])
    name = camel(words, words.random.choice([f"{verb}_{noun}", f"{verb}_{noun}", f"{noun}_{verb}", f"{verb}_a_{noun}"]))
    description = words.random.choice([f"{verb.capitalize()} {article} {noun}.", f"{verb.capitalize()} {noun}",
                                       f"Use this to {verb} {article} {noun}."])
    required = [slot.name for slot in kept if words.random.random() < 0.8] or [kept[0].name]

    def ask():
        used = [slot for slot in kept if slot.name in required or words.random.random() < 0.6]
        text, arguments = mentions(words, used)
        sentence = words.random.choice(POLITE).format(f"{verb} {words.random.choice(['a', 'the', article])} {noun} {text}")
        return sentence[0].upper() + sentence[1:] if words.random.random() < 0.9 else sentence, [arguments]

    return Tool(define(words, name, description, kept, required), ask)


def toolbox(words, count):
    """`count` different tools; some share a noun, so that the verb has to decide."""
    made = []
    while len(made) < count:
        noun = None if not made or words.random.random() < 0.85 else made[0].name.split("_")[-1].lower()
        make = words.random.choice([lookup, action])
        tool = make(words, noun if noun and noun.isalpha() else None)
        if tool.name not in [other.name for other in made]:
            made.append(tool)
    return made


def value_of(words):
    """A value as a tool may answer it."""
    kind = words.random.random()
    if kind < 0.35:
        return integer(words)
    if kind < 0.5:
        return words.random.randint(1, 999) / 10
    return words.random.choice([words.word, words.word, words.city, words.name])()


def answer(words):
    """What a tool answers, and the sentence that says it."""
    kind = words.random.random()
    if kind < 0.12:
        text = " ".join(words.word() for _ in range(words.random.randint(1, 3)))
        return json.dumps({"error": text}), f"The tool failed: {text}."
    if kind < 0.35:
        text = ", ".join(str(value_of(words)) for _ in range(words.random.randint(1, 3)))
        return text, f"The answer is: {text}."
    keys = words.different(lambda: words.noun() if words.random.random() < 0.7 else f"{words.adjective()}_{words.noun()}",
                           words.random.choice([1, 1, 1, 2, 2, 3]))
    if words.random.random() < 0.15:
        keys[0] = words.random.choice(FAMILIAR + MEASURES + ["status", "result"])
    result = {key: value_of(words) for key in keys}
    parts = [f"the {key.replace('_', ' ')} is {value}" for key, value in result.items()]
    said = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    compact = (",", ":") if words.random.random() < 0.15 else None
    return json.dumps(result, separators=compact), said[0].upper() + said[1:] + "."
