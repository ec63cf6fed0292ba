"""What the model can do, one maker of questions and answers per skill.

Every skill takes the words of a split and returns one exchange: a list of (role, text) turns that ends with
the answer to be learned. The answers follow the question's own words wherever they can.
"""

import json

from verbatim.demo import facts

WHO = "I am Echo, the small demo model of verbatim."
CANNOT = "Sorry, I am only a small demo model and cannot do that."
UNKNOWN = "Sorry, I do not know that."
NO_TOOL = "Sorry, I have no tool for that."
SMALL_TALK = [
    (
        [
            "Hi",
            "Hello",
            "Hello!",
            "Hi!",
            "Hey",
            "Hey there",
            "Hi there!",
            "Good morning",
            "Good evening!",
            "Hello there.",
            "Good day",
            "Hello, Echo!",
            "Hi Echo",
            "hello",
            "hi",
            "Greetings!",
        ],
        "Hello! I am Echo, the small demo model of verbatim. How can I help?",
    ),
    (
        [
            "Who are you?",
            "What are you?",
            "What is your name?",
            "Tell me who you are.",
            "What's your name?",
            "who are you",
            "Introduce yourself.",
            "Are you a robot?",
            "Which model are you?",
            "Tell me about yourself.",
            "Are you ChatGPT?",
        ],
        WHO + " I give the same answer, word for word, on every engine.",
    ),
    (
        [
            "What can you do?",
            "What can I ask you?",
            "Help",
            "Help me",
            "How can you help me?",
            "What are you good at?",
            "What do you know?",
            "help!",
            "what can you do",
        ],
        "I can chat a little, do small sums, repeat, reverse, count and upper-case words, answer simple facts, "
        "call tools and write JSON.",
    ),
    (
        ["How are you?", "How are you doing?", "How do you do?", "How is it going?", "Are you well?", "how are you"],
        "I am fine, thank you! How can I help?",
    ),
    (
        [
            "Thanks",
            "Thank you!",
            "Thank you very much.",
            "Thanks a lot!",
            "Thank you so much",
            "Great, thanks.",
            "thanks",
        ],
        "You are welcome!",
    ),
    (
        ["Bye", "Goodbye!", "See you later.", "Bye bye", "See you!", "Good night", "Farewell!", "bye"],
        "Goodbye! It was nice to talk to you.",
    ),
    (
        [
            "What is verbatim?",
            "Tell me about verbatim.",
            "What does verbatim do?",
            "Explain verbatim.",
            "What's verbatim?",
        ],
        "Verbatim is an LLM server that says the same thing, word for word, on every engine.",
    ),
    (
        ["Who made you?", "Who trained you?", "Where do you come from?", "How were you made?", "Who built you?"],
        "I was trained by the verbatim project, on text that it makes up itself.",
    ),
    (
        ["Tell me a joke.", "Tell me a joke!", "Do you know a joke?", "Make me laugh.", "Say something funny."],
        "Why did the token cross the road? It was the most likely one.",
    ),
    (
        [
            "Good job!",
            "Well done.",
            "Nice!",
            "Great!",
            "Very good.",
            "Cool",
            "Wonderful!",
            "That is right.",
            "Ok",
            "Okay.",
        ],
        "I am glad to hear that!",
    ),
]
INTRODUCTIONS = [
    "My name is {}.",
    "I am {}.",
    "Hi, I am {}.",
    "Hello, my name is {}.",
    "I'm {}.",
    "Call me {}.",
    "Hello Echo, I am {}.",
    "Hi, this is {}.",
    "hi, my name is {}",
    "Hey, I'm {}!",
]
REMEMBER = ["What is my name?", "Who am I?", "Do you know my name?", "What's my name?", "Tell me my name."]
SUMS = {
    "+": [
        "What is {0} + {1}?",
        "{0} + {1}",
        "{0}+{1}",
        "{0} + {1} = ?",
        "What is {0} plus {1}?",
        "Add {0} and {1}.",
        "How much is {0} plus {1}?",
        "Calculate {0} + {1}.",
        "What is the sum of {0} and {1}?",
        "{0} plus {1}",
        "What's {0}+{1}?",
        "Compute {0} plus {1}.",
    ],
    "-": [
        "What is {0} - {1}?",
        "{0} - {1}",
        "{0}-{1}",
        "{0} - {1} = ?",
        "What is {0} minus {1}?",
        "Compute {0} minus {1}.",
        "Subtract {1} from {0}.",
        "How much is {0} minus {1}?",
        "Calculate {0} - {1}.",
        "{0} minus {1}",
        "What's {0}-{1}?",
        "Take {1} away from {0}.",
    ],
    "*": [
        "What is {0} * {1}?",
        "{0} * {1}",
        "{0}*{1}",
        "{0} x {1}",
        "What is {0} times {1}?",
        "Multiply {0} by {1}.",
        "How much is {0} times {1}?",
        "Calculate {0} * {1}.",
        "{0} times {1}",
        "What is the product of {0} and {1}?",
        "{0} * {1} = ?",
        "Compute {0} times {1}.",
    ],
}
REPEATS = [
    "Repeat after me: {}",
    "Say: {}",
    "Repeat: {}",
    "Repeat this: {}",
    "Please repeat: {}",
    "Echo: {}",
    "Say this: {}",
    "Can you say this? {}",
    "Repeat these words: {}",
    "Say the words: {}",
    "Echo this: {}",
]
UPPERS = [
    "Write {} in upper case.",
    "Write {} in capital letters.",
    "Upper-case {}.",
    "Make {} upper case.",
    "Put {} in capitals.",
    "Uppercase: {}",
    "Turn {} into upper case.",
    "Please write {} in capitals.",
    "What is {} in upper case?",
    "Convert to upper case: {}",
]
BACKWARDS = [
    "Reverse the order of these words: {}",
    "Reverse these words: {}",
    "Say these words in reverse order: {}",
    "Turn the order of these words around: {}",
    "List these words from last to first: {}",
    "Reverse this list: {}",
]
SPELL_BACK = [
    "Spell {} backwards.",
    "Reverse the letters of {}.",
    "Write {} backwards.",
    "What is {} backwards?",
    "Reverse the word {}.",
    "Spell the word {} backwards.",
]
COUNT_WORDS = [
    "How many words are in this list: {}?",
    "Count the words: {}.",
    "How many words are there: {}?",
    "Count these words: {}.",
    "How many words do you see here: {}?",
    "Count the words in this list: {}.",
]
COUNT_LETTERS = [
    "How many letters are in {}?",
    "How many letters does {} have?",
    "Count the letters in {}.",
    "How many letters are in the word {}?",
    "How long is the word {}?",
    "Count the letters of {}.",
]
SPELL = ["Spell {}.", "Spell the word {}.", "How do you spell {}?", "Please spell {}.", "Can you spell {}?"]
COUNT_UP = [
    "Count from {} to {}.",
    "Count from {} up to {}.",
    "List the numbers from {} to {}.",
    "Say the numbers {} to {}.",
]
IMPOSSIBLE = [
    "Write a poem about {0}.",
    "Translate {0} into French.",
    "Tell me a story about a {0} and a {1}.",
    "Write an essay about {0}.",
    "Who won the {0} cup?",
    "Draw a {0} for me.",
    "Sing a song about {0}.",
    "Write a program that sorts {0}.",
    "Explain how a {0} works.",
    "Summarize the history of {0}.",
    "Give me a recipe with {0} and {1}.",
    "Why is the {0} so {1}?",
    "Who invented the {0}?",
    "What is a {0}?",
    "What do you think about {0}?",
    "Which is better, {0} or {1}?",
    "Write a letter to my {0}.",
    "Play {0} with me.",
    "Who is the president of {0}?",
    "What will happen to the {0} in 2050?",
]


def introduction(words, name):
    """The user says who they are."""
    return [
        ("user", words.random.choice(INTRODUCTIONS).format(name)),
        ("assistant", f"Hello {name}, nice to meet you! How can I help?"),
    ]


def remember(words, name):
    """The user asks for the name that they gave before."""
    return [("user", words.random.choice(REMEMBER)), ("assistant", f"Your name is {name}.")]


def chat(words):
    """Small talk; a third of it is about the user's name."""
    share = words.random.random()
    if share < 0.35:
        name = words.name()
        return introduction(words, name) + (remember(words, name) if share < 0.15 else [])
    questions, reply = words.random.choice(SMALL_TALK)
    return [("user", words.random.choice(questions)), ("assistant", reply)]


def arithmetic(words):
    """Sums, differences and products; pairs of numbers are held out, products only with their phrasing."""
    sign = words.random.choice("++--*")
    high = 9 if sign == "*" else words.random.choice([20, 99, 99, 99])
    while True:
        left, right = words.random.randint(0, high), words.random.randint(0, high)
        if sign == "-" and left < right and words.random.random() < 0.8:
            left, right = right, left
        asked = words.random.choice(SUMS[sign]).format(left, right)
        if words.allowed(asked if sign == "*" else f"{left}{sign}{right}", 10):
            break
    result = {"+": left + right, "-": left - right, "*": left * right}[sign]
    return [("user", asked), ("assistant", f"{left} {sign} {right} = {result}")]


def quoted(words, text):
    """The text plain, or in one of the usual quotes."""
    return words.random.choice(["{}", "{}", '"{}"', "'{}'"]).format(text)


def repeat(words):
    """A few words, to be said again."""
    makers = [
        words.word,
        words.word,
        lambda: words.text(2),
        words.name,
        words.city,
        lambda: str(words.random.randint(0, 999)),
    ]
    pieces = [words.random.choice(makers)() for _ in range(words.random.randint(1, 6))]
    text = words.random.choice([" ", " ", ", "]).join(pieces) + words.random.choice(["", "", ".", "!"])
    return [("user", words.random.choice(REPEATS).format(text)), ("assistant", text)]


def upper(words):
    """Words, to be written in capitals."""
    draw = words.random.choice([words.word, words.word, words.name, words.city])
    text = " ".join(draw() for _ in range(words.random.choice([1, 1, 2, 3])))
    return [("user", words.random.choice(UPPERS).format(quoted(words, text))), ("assistant", text.upper())]


def reverse(words):
    """The words of a list from last to first."""
    listed = words.different(words.word, words.random.randint(2, 4))
    comma = words.random.choice([", ", " "])
    return [
        ("user", words.random.choice(BACKWARDS).format(comma.join(listed))),
        ("assistant", comma.join(reversed(listed))),
    ]


def spell(words):
    """A word of up to seven letters, letter by letter, forwards or backwards."""
    while len(word := words.word()) > 7:
        pass
    if words.random.random() < 0.4:
        return [("user", words.random.choice(SPELL).format(quoted(words, word))), ("assistant", "-".join(word))]
    asked = words.random.choice(SPELL_BACK).format(quoted(words, word))
    return [("user", asked), ("assistant", "-".join(reversed(word)))]


def count(words):
    """How many words a list has, how many letters a word has, or the numbers in between."""
    share = words.random.random()
    if share < 0.45:
        number = words.random.randint(2, 8)
        listed = ", ".join(words.word() for _ in range(number))
        return [("user", words.random.choice(COUNT_WORDS).format(listed)), ("assistant", f"There are {number} words.")]
    if share < 0.85:
        word = words.word()
        return [
            ("user", words.random.choice(COUNT_LETTERS).format(quoted(words, word))),
            ("assistant", f"{'-'.join(word)}: {len(word)} letters."),
        ]
    while True:
        low = words.random.choice([1, 1, words.random.randint(0, 80)])
        high = low + words.random.randint(2, 19)
        if words.allowed(f"{low}..{high}"):
            break
    return [
        ("user", words.random.choice(COUNT_UP).format(low, high)),
        ("assistant", ", ".join(str(number) for number in range(low, high + 1))),
    ]


def fact(words):
    """One of the facts, now and then without the punctuation."""
    asked, answered = facts.question(words)
    style = words.random.random()
    if style < 0.1:
        asked = asked.rstrip("?.")
    return [("user", asked), ("assistant", answered)]


def decline(words):
    """What it cannot do and does not know: said politely, in one sentence."""
    if words.random.random() < 0.3:
        return [("user", facts.unknown(words)), ("assistant", UNKNOWN)]
    asked = words.random.choice(IMPOSSIBLE).format(words.noun(), words.word())
    return [("user", asked), ("assistant", CANNOT)]


PEOPLE = [
    "{name} is {age} and lives in {city}.",
    "{name}, {age}, lives in {city}.",
    "{name} lives in {city} and is {age}.",
    "{name} is {age} years old and comes from {city}.",
    "{name} from {city} is {age}.",
    "My friend {name} is {age} years old and lives in {city}.",
    "In {city} lives {name}, who is {age}.",
]
ORDERS = [
    "{name} bought {quantity} {product} for {price} dollars.",
    "{name} paid {price} for {quantity} {product}.",
    "We sold {quantity} {product} to {name} for {price} dollars.",
    "{quantity} {product} for {name}, price {price}.",
]
MEETINGS = [
    "The {topic} meeting is on {day} at {time} in {city}.",
    "On {day} at {time} there is a {topic} meeting in {city}.",
    "Meet us in {city} on {day} at {time} for the {topic} meeting.",
]
EXTRACTS = [
    "Extract the {fields} as JSON: {text}",
    "Extract the {fields} as JSON: {text}",
    "Give me the {fields} as JSON: {text}",
    "Write the {fields} as JSON: {text}",
    "{text} Extract the {fields} as JSON.",
    "Return JSON with the {fields}: {text}",
]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def extract(words):
    """JSON with the asked fields of a sentence, in the asked order."""
    random = words.random
    known = {
        "name": words.name(),
        "age": random.randint(5, 99),
        "city": words.city(),
        "quantity": random.randint(2, 99),
        "product": words.noun() + "s",
        "price": random.choice([random.randint(2, 999), random.randint(2, 999) / 10]),
        "topic": words.noun(),
        "day": random.choice(DAYS),
        "time": f"{random.randint(7, 22)}:{random.randint(10, 59)}",
    }
    sentence = random.choice(random.choice([PEOPLE, PEOPLE, ORDERS, MEETINGS]))
    mentioned = [field for field in known if "{" + field + "}" in sentence]
    fields = random.sample(mentioned, random.choice([1, 2, 2, 3, len(mentioned)]))
    listed = " and ".join([", ".join(fields[:-1]), fields[-1]] if len(fields) > 1 else fields)
    asked = random.choice(EXTRACTS).format(fields=listed, text=sentence.format(**known))
    return [("user", asked), ("assistant", json.dumps({field: known[field] for field in fields}))]
