"""The parameters of invented tools: their JSON schema, and how a sentence mentions a value for them."""

# ruff: noqa: SIM905 - a list of plain words reads better without the quotes

from collections.abc import Callable
from dataclasses import dataclass

PLACES = "city town place location country destination address region area".split()
PERSONS = "name person user customer guest contact recipient author owner".split()
THINGS = "item product topic subject symbol keyword query id category".split()
COUNTS = "people days hours minutes nights seats copies guests pages items weeks rooms".split()
AMOUNTS = "amount quantity limit number size count year level floor".split()
MEASURES = "price weight height distance speed length volume budget rate temperature".split()
TEXTS = "text message title note comment subject body label query content".split()
SWITCHES = "breakfast insurance delivery sound details wrapping parking music backup reminder".split()
CHOICES = "unit mode style color priority format type kind language category".split()


@dataclass
class Slot:
    """One parameter: its name, its JSON schema, and how a sentence mentions a value for it."""

    name: str
    schema: dict
    mention: Callable[[], tuple[str, object]]
    prepositions: tuple = ()


def entity(words):
    """A string parameter for a place, a person or a thing, mentioned by its value alone."""
    choice = words.random.choice
    names, draw, prepositions = choice(
        [
            (PLACES, words.city, ("in", "for", "in", "at")),
            (PLACES, words.city, ("in", "for", "of")),
            (PERSONS, words.name, ("of", "for")),
            (THINGS, words.word, ("of", "for")),
        ]
    )
    name = words.noun() if words.random.random() < 0.2 else choice(names)
    schema = described(
        words,
        {"type": "string"},
        choice([f"The {name}", f"Name of the {name}", name, f"The {name}, for example {draw()}"]),
    )
    return Slot(name, schema, lambda: written(draw()), prepositions)


def written(value):
    """A value and how it is written."""
    return str(value), value


def described(words, schema, description):
    """Most parameters have a description, some have none; some schemas carry a title as pydantic's do."""
    if words.random.random() < 0.55:
        schema["description"] = description
    elif words.random.random() < 0.1:
        schema = {"title": description, **schema}
    return schema


def integer(words, high=200):
    """A whole number, most often a small one."""
    while True:
        number = words.random.randint(1, words.random.choice([9, 31, high, 9999]))
        if words.allowed(str(number)) or number < 10:
            return number


def count_slot(words):
    """How many of something."""
    name = words.noun() + "s" if words.random.random() < 0.2 else words.random.choice(COUNTS)
    ways = ["for {1} {0}", "with {1} {0}", "{1} {0}", "{0} {1}", "with {0} {1}"]
    schema = described(words, {"type": "integer"}, words.random.choice([f"How many {name}", f"Number of {name}"]))
    return filled(words, name, schema, ways, lambda: integer(words))


def amount_slot(words):
    """Some other whole number."""
    name = words.random.choice(AMOUNTS)
    ways = ["with {0} {1}", "{0} {1}", "with a {0} of {1}", "for {0} {1}", "with the {0} {1}"]
    return filled(words, name, described(words, {"type": "integer"}, f"The {name}"), ways, lambda: integer(words))


def measure_slot(words):
    """A number that may have a decimal."""
    name = words.random.choice(MEASURES)
    ways = ["with {0} {1}", "with a {0} of {1}", "at a {0} of {1}", "{0} {1}"]

    def value():
        return integer(words) if words.random.random() < 0.3 else words.random.randint(1, 999) / 10

    return filled(words, name, described(words, {"type": "number"}, f"The {name}"), ways, value)


def text_slot(words):
    """A text in quotes."""
    name = words.random.choice(TEXTS)
    mark = words.random.choice(["'", "'", "‘’"])
    ways = [
        "with the {0} " + mark[0] + "{1}" + mark[-1],
        "{0} " + mark[0] + "{1}" + mark[-1],
        "with {0} " + mark[0] + "{1}" + mark[-1],
        "saying " + mark[0] + "{1}" + mark[-1],
    ]

    def value():
        return words.text(words.random.randint(1, 4))

    return filled(words, name, described(words, {"type": "string"}, f"The {name}"), ways, value)


def person_slot(words):
    """A person besides the entity of a lookup."""
    ways, names = words.random.choice(
        [(["for {1}"], PERSONS), (["to {1}"], ["recipient", "to", "contact"]), (["with {0} {1}", "{0} {1}"], PERSONS)]
    )
    name = words.random.choice(names)
    return filled(words, name, described(words, {"type": "string"}, f"The {name}"), ways, words.name)


def place_slot(words):
    """A place."""
    name = words.random.choice(PLACES)
    ways = ["in {1}", "in {1}", "at {1}", "with {0} {1}", "{0} {1}"]
    return filled(words, name, described(words, {"type": "string"}, f"The {name}"), ways, words.city)


def switch_slot(words):
    """True with a thing, false without it."""
    name = words.noun() if words.random.random() < 0.3 else words.random.choice(SWITCHES)
    schema = described(words, {"type": "boolean"}, words.random.choice([f"With {name} or not", f"Whether with {name}"]))

    def mention():
        value = words.random.random() < 0.5
        return f"{'with' if value else 'without'} {name}", value

    return Slot(name, schema, mention)


def choice_slot(words):
    """One of a few words."""
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
    return "".join(
        text if i == 0 else words.random.choice([" ", " ", " and ", ", "]) + text for i, text in enumerate(texts)
    ), arguments
