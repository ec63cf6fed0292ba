"""The few dozen facts that the model knows, each with the ways to ask for it.

A group is (ways to ask, the answer's sentence, what is asked -> what is answered). One in five combinations
of a question and its subject is never trained on: those make the held-out questions. The first way to ask is always
for training, so that no fact is held out whole.
"""

CAPITALS = (
    [
        "What is the capital of {}?",
        "Which city is the capital of {}?",
        "Name the capital of {}.",
        "Capital of {}?",
        "Tell me the capital of {}.",
        "Do you know the capital of {}?",
        "What's the capital city of {}?",
    ],
    "The capital of {} is {}.",
    {
        "France": "Paris",
        "Germany": "Berlin",
        "Italy": "Rome",
        "Spain": "Madrid",
        "Portugal": "Lisbon",
        "Austria": "Vienna",
        "Greece": "Athens",
        "Poland": "Warsaw",
        "Norway": "Oslo",
        "Sweden": "Stockholm",
        "Finland": "Helsinki",
        "Denmark": "Copenhagen",
        "Ireland": "Dublin",
        "England": "London",
        "Hungary": "Budapest",
        "Switzerland": "Bern",
        "Belgium": "Brussels",
        "Japan": "Tokyo",
        "China": "Beijing",
        "Egypt": "Cairo",
        "Kenya": "Nairobi",
        "Canada": "Ottawa",
        "Peru": "Lima",
        "Cuba": "Havana",
    },
)

COLOURS = (
    [
        "What colour is {}?",
        "What color is {}?",
        "Which colour does {} have?",
        "Tell me the colour of {}.",
        "What is the color of {}?",
        "Do you know what colour {} is?",
    ],
    "The colour of {} is {}.",
    {
        "the sky": "blue",
        "grass": "green",
        "snow": "white",
        "coal": "black",
        "blood": "red",
        "a lemon": "yellow",
        "the sun": "yellow",
        "chocolate": "brown",
        "an orange": "orange",
        "a tomato": "red",
        "a flamingo": "pink",
        "an elephant": "gray",
    },
)

SOUNDS = (
    [
        "What does a {} say?",
        "What sound does a {} make?",
        "Which sound does a {} make?",
        "How does a {} sound?",
        "Tell me what a {} says.",
        "Do you know what a {} says?",
    ],
    "A {} says {}.",
    {
        "cat": "meow",
        "dog": "woof",
        "cow": "moo",
        "sheep": "baa",
        "duck": "quack",
        "lion": "roar",
        "frog": "croak",
        "pig": "oink",
    },
)

OPPOSITES = (
    [
        "What is the opposite of {}?",
        "Tell me the opposite of {}.",
        "Name the opposite of {}.",
        "Opposite of {}?",
        "Do you know the opposite of {}?",
        "Which word is the opposite of {}?",
    ],
    "The opposite of {} is {}.",
    {
        "hot": "cold",
        "cold": "hot",
        "big": "small",
        "small": "big",
        "up": "down",
        "down": "up",
        "day": "night",
        "night": "day",
        "yes": "no",
        "open": "closed",
        "fast": "slow",
        "slow": "fast",
        "young": "old",
        "light": "dark",
    },
)

NUMBERS = (
    [
        "How many {}?",
        "Tell me how many {}.",
        "Do you know how many {}?",
        "Can you tell me how many {}?",
        "Please say how many {}.",
    ],
    None,
    {
        "days are in a week": "A week has 7 days.",
        "months are in a year": "A year has 12 months.",
        "days are in a year": "A year has 365 days.",
        "hours are in a day": "A day has 24 hours.",
        "minutes are in an hour": "An hour has 60 minutes.",
        "seconds are in a minute": "A minute has 60 seconds.",
        "legs does a spider have": "A spider has 8 legs.",
        "legs does an ant have": "An ant has 6 legs.",
        "legs does a horse have": "A horse has 4 legs.",
        "letters are in the alphabet": "The alphabet has 26 letters.",
        "sides does a triangle have": "A triangle has 3 sides.",
        "sides does a square have": "A square has 4 sides.",
        "seasons are in a year": "A year has 4 seasons.",
        "years are in a century": "A century has 100 years.",
    },
)

GROUPS = [CAPITALS, COLOURS, SOUNDS, OPPOSITES, NUMBERS]


def question(words):
    """A question of the wanted split and its answer."""
    while True:
        ways, sentence, pairs = words.random.choice([CAPITALS, CAPITALS, COLOURS, SOUNDS, OPPOSITES, NUMBERS])
        subject = words.random.choice(list(pairs))
        way = words.random.choice(ways)
        asked = way.format(subject)
        if words.split != "heldout" if way == ways[0] else words.allowed(asked):
            return asked, sentence.format(subject, pairs[subject]) if sentence else pairs[subject]


def unknown(words):
    """A question of the same form about something that the list does not have."""
    ways, _, _ = words.random.choice([CAPITALS, SOUNDS, OPPOSITES])
    subject = words.city() if ways is CAPITALS[0] else words.noun()
    return words.random.choice(ways).format(subject)


def subjects():
    """The words that the facts are about."""
    pairs = [pair for _, sentence, known in GROUPS if sentence for pair in known.items()]
    return {word.lower() for pair in pairs for text in pair for word in text.split()} - {"a", "an", "the", "no", "up"}
