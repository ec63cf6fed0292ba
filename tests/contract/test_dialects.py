"""Tool-call dialects: the same calls however a text is cut; what only looks like a call stays text."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from call_texts import read_calls
from verbatim.reference.dialects import DIALECTS, CallArguments, CallStart, TextDelta, choose_dialect

TOOLS = [{"type": "function", "function": {"name": name}} for name in ("f", "get_weather")]
OTHERS = ("llama3", "mistral", "pythonic", "functionary")


def parse(pieces, dialect="hermes", *, is_cut=False):
    """Text, and calls as [name, arguments], of everything that the parser gave."""
    text, calls = read_calls(pieces, dialect, TOOLS, is_cut=is_cut)
    return text, list(map(list, calls))


def call(name="f", arguments='{"a": 1}'):
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


WHOLE = [
    ("Hello", ("Hello", [])),
    ("", ("", [])),
    (call(), ("", [["f", '{"a": 1}']])),
    (call("get_weather", "{}"), ("", [["get_weather", "{}"]])),
    ("Sure.\n" + call(), ("Sure.", [["f", '{"a": 1}']])),
    (call() + "\nDone.", ("Done.", [["f", '{"a": 1}']])),
    (call() + "\n" + call("get_weather") + "\n", ("", [["f", '{"a": 1}'], ["get_weather", '{"a": 1}']])),
    (call(arguments='{"a": {"b": "}</tool_call>\\"{"}}'), ("", [["f", '{"a": {"b": "}</tool_call>\\"{"}}']])),
    (call(arguments='{"city": "Zürich 🙂"}'), ("", [["f", '{"city": "Zürich 🙂"}']])),
    ('<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', ("", [["f", '{"a": 1}']])),
    ('<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', ("", [["f", '{"a": 1}']])),
    ('<tool_call>{"name": "f"}</tool_call>', ("", [["f", "{}"]])),
    (call() * 2, ("", [["f", '{"a": 1}']] * 2)),
]

TEXTS = [
    "a < b and <tool",
    "  white space  \n",
    "<tool_call>",
    "<tool_call>not JSON</tool_call>",
    '<tool_call>{"name": "unknown", "arguments": {"a": 1}}</tool_call>',
    '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
    '<tool_call>{"name": "f", "argu',
    "Use \n <tool_call> and </tool_call> so.",
    "<tool_call>[1]</tool_call> <tool_call>",
    "</tool_call>",
]


@pytest.mark.parametrize(("text", "expected"), WHOLE)
def test_calls_are_found_whole_and_character_by_character(text, expected):
    assert parse([text]) == expected
    assert parse(text) == expected


@pytest.mark.parametrize("text", TEXTS)
def test_what_only_looks_like_a_call_is_text(text):
    assert parse([text]) == (text, [])
    assert parse(text) == (text, [])


def test_a_call_that_is_cut_short_keeps_its_arguments():
    whole = call(arguments='{"city": "Paris"}')
    assert parse([whole[: whole.index("ris")]]) == ("", [["f", '{"city": "Pa']])
    assert parse([whole[: whole.index("</tool")]]) == ("", [["f", '{"city": "Paris"}']])


def test_arguments_are_streamed_before_the_call_has_ended():
    parser = choose_dialect("", "hermes").parser(TOOLS)
    assert parser.push('<tool_call>{"name": "f", "arguments": ') == []
    start, arguments = parser.push('{"city": "Pa')
    assert start == CallStart(index=0, name="f")
    assert arguments == CallArguments(index=0, text='{"city": "Pa')
    assert parser.push('ris"}') == [CallArguments(index=0, text='ris"}')]


def test_plain_text_is_not_held_back():
    parser = choose_dialect("", "hermes").parser(TOOLS)
    assert parser.push("Hello") == [TextDelta(text="Hello")]
    assert parser.push(" <") == []
    assert parser.push("b>") == [TextDelta(text=" <b>")]


FRAGMENTS = st.sampled_from(
    [
        "<tool_call>",
        "</tool_call>",
        '{"name": "f", "arguments": ',
        '{"a": 1}',
        "}",
        "{",
        " ",
        "\n",
        '"',
        "text",
        "<",
        call(),
    ]
)


@settings(deadline=None)
@given(st.lists(FRAGMENTS, max_size=12).map("".join), st.data())
def test_pieces_do_not_matter(text, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert parse(pieces) == parse([text]) == parse(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda v: st.lists(v) | st.dictionaries(st.text(), v),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.text(), VALUES), min_size=1, max_size=3), st.booleans())
def test_any_arguments_survive(arguments, ascii_only):
    texts = [json.dumps(value, ensure_ascii=ascii_only) for value in arguments]
    text = "\n".join(call("f", value) for value in texts)
    assert parse(text) == ("", [["f", value] for value in texts])


ONE, TWO = '{"a": 1}', '{"city": "Zürich 🙂", "b": {"c": [true, "}]);</function>[TOOL_CALLS]\\\\\\"{"]}}'


def write(dialect, *calls):
    """Calls as a model would write them; for pythonic, names and texts of arguments."""
    if dialect == "llama3":
        return "; ".join(f'{{"name": "{name}", "parameters": {arguments}}}' for name, arguments in calls)
    if dialect == "mistral":
        items = (f'{{"name": "{name}", "arguments": {arguments}}}' for name, arguments in calls)
        return "[TOOL_CALLS] [" + ", ".join(items) + "]"
    if dialect == "functionary":
        return "".join(f"<function={name}>{arguments}</function>" for name, arguments in calls)
    keywords = ((name, [f"{key}={json.dumps(value)}" for key, value in json.loads(a).items()]) for name, a in calls)
    return "[" + ", ".join(f"{name}({', '.join(values)})" for name, values in keywords) + "]"


@pytest.mark.parametrize("dialect", OTHERS)
@pytest.mark.parametrize(
    "calls", [[("f", ONE)], [("f", "{}")], [("get_weather", TWO)], [("f", ONE), ("get_weather", TWO), ("f", TWO)]]
)
def test_calls_of_every_dialect(dialect, calls):
    text = write(dialect, *calls)
    for pieces in ([text], text, [text, "\n"]):
        content, found = parse(pieces, dialect)
        assert content == ""
        assert [(name, json.loads(a)) for name, a in found] == [(name, json.loads(a)) for name, a in calls]


CALL_F = [["f", ONE]]
LLAMA = '{"name": "f", "parameters": {"a": 1}}'
FURTHER = [
    ("llama3", "<|python_tag|>" + LLAMA, ("", CALL_F)),
    ("llama3", "Wait.\n<|python_tag|>" + LLAMA, ("Wait.", CALL_F)),
    ("llama3", LLAMA + "\n" + LLAMA, ("", CALL_F * 2)),
    ("llama3", LLAMA + ";" + LLAMA.replace('"f"', '"x"'), (";" + LLAMA.replace('"f"', '"x"'), CALL_F)),
    ("llama3", LLAMA + "; Done.", ("; Done.", CALL_F)),
    ("llama3", LLAMA + "\xa0; " + LLAMA, ("", CALL_F * 2)),
    ("llama3", ' \n{ "name" : "f","arguments":{"a": 1} } ', ("", CALL_F)),
    ("llama3", LLAMA[:-4], ("", [["f", '{"a":']])),
    ("mistral", "Well.\n" + write("mistral", ("f", ONE)) + "\nDone.", ("Well.", "Done.", CALL_F)),
    ("mistral", '[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}, "id": "abcdefghi"}]', ("", CALL_F)),
    ("mistral", '[TOOL_CALLS]f[ARGS]{"a": 1}', ("", CALL_F)),
    ("mistral", '[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{"a": 1}', ("", CALL_F * 2)),
    ("mistral", '[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}, {"name": "x"', (', {"name": "x"', CALL_F)),
    ("mistral", '[TOOL_CALLS][{"name": "f", "arguments": {"a', ("", [["f", '{"a']])),
    ("functionary", "Well.\n<function=f>" + ONE + " </function>\n", ("Well.", CALL_F)),
    ("functionary", "<function=f>" + ONE + " </func", ("", CALL_F)),
    ("functionary", "<function=f>" + ONE + "</b>", ("</b>", CALL_F)),
    ("pythonic", "[f(a=1)]", ("", CALL_F)),
    ("pythonic", " [ f( a = 1, ) , ]\n", ("", CALL_F)),
    ("pythonic", "[f(a='it\\'s', b=True, c=None, d=(1, -2.5), e={'x': ['])']})]",
     ("", [["f", '{"a": "it\'s", "b": true, "c": null, "d": [1, -2.5], "e": {"x": ["])"]}}']])),
    ("pythonic", "[f(a=1e999)]", ("", [["f", '{"a": 1e999}']])),
    ("pythonic", "[f(a=1), x(a=2)]", (", x(a=2)]", CALL_F)),
    ("pythonic", "[f(a=1), f(a=", (", f(a=", CALL_F)),
    ("pythonic", "[f(a=1.10, b=1e2, c=true)]", ("", [["f", '{"a": 1.10, "b": 1e2, "c": true}']])),
    ("pythonic", '[f(a="\\/\\ud83d\\ude42")]', ("", [["f", '{"a": "\\/\\ud83d\\ude42"}']])),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "text", "expected"), FURTHER)
def test_other_ways_of_a_dialect(dialect, text, expected):
    *texts, calls = expected
    assert parse([text], dialect) == parse(text, dialect) == ("".join(texts), calls)


NO_CALLS = {
    "llama3": [
        '{"name": "unknown", "parameters": {}}', '{"name": "Ada", "age": 3}', '{"name": "f"', "{}", " \n",
        '{"a": ' + LLAMA + "}", "<|python_tag|>print(1)", "a <|pyth", '{"name": "f", "parameters": [1]}',
        "<|python_tag|>" * 2,
    ],
    "mistral": [
        "[TOOL_CALLS]", "[TOOL_CALLS] []", "[TOOL_", '[TOOL_CALLS][{"name": "x", "arguments": {}}]', "f[ARGS]{}",
        '[TOOL_CALLS]x[ARGS]{"a": 1}', '[{"name": "f", "arguments": {}}]', "see [TOOL_CALLS] f{}", "[1, 2]",
    ],
    "pythonic": [
        "[1, 2]", "[x(a=1)]", "[f(1)]", "[f(a=1) + 1]", "[f(a=g())]", "[f(a=1, a=2)]", "[f(a=1)", "f(a=1)", "[]",
        "Say [f(a=1)]", "[f(**{'a': 1})]", "[f(a=(1e999,))]", "[f(a=__import__('os'))]", "[f(a={1})]", "[f(a=b'')]",
        "[f", "[f(a=)]", "[f(,)]", "[f(a=NaN)]", "[f(a=1;b=2)]", "[f(a=" + "(" * 300 + ")" * 300 + ")]",
    ],
    "functionary": [
        "<function=", "<function=x>{}</function>", "<function=f>[1]</function>", "</function>", "<function=f>", "a < b",
        "<function>f</function>",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("dialect", "text"), [(name, text) for name, texts in NO_CALLS.items() for text in texts])
def test_what_only_looks_like_a_call_of_a_dialect_is_text(dialect, text):
    assert parse([text], dialect) == parse(text, dialect) == (text, [])


PARTS = {
    "llama3": ["<|python_tag|>", LLAMA, '{"name": "f", "parameters": ', '"arguments"', "; ", ";"],
    "mistral": [
        "[TOOL_CALLS]",
        "[",
        "]",
        '{"name": "f", "arguments": ',
        ', "id": "a"',
        ", ",
        "f[ARGS]",
        "f",
        "[CALL_ID]a",
    ],
    "pythonic": ["[", "]", "f(", ")", "a=", "b=1", ", ", "'", "\\", "[f(a=1)", "x()", "True"],
    "functionary": ["<function=", "f>", "<function=f>", "</function>", "</"],
}
COMMON = ["{", "}", ONE, "{}", '"', " ", "\n", "\xa0", "text", "<"]


@pytest.mark.parametrize("dialect", OTHERS)
@settings(deadline=None)
@given(data=st.data())
def test_pieces_do_not_matter_to_any_dialect(dialect, data):
    whole = st.sampled_from([write(dialect, ("f", ONE)), write(dialect, ("f", ONE), ("get_weather", TWO))])
    parts = st.sampled_from(PARTS[dialect] + COMMON) | whole
    text = data.draw(st.lists(parts, max_size=12).map("".join))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    content, calls = parse(text, dialect)
    assert parse(pieces, dialect) == parse([text], dialect) == (content, calls)
    if not calls:
        assert content == text


KEYS = st.from_regex(r"[a-z]{1,6}", fullmatch=True)


@pytest.mark.parametrize("dialect", OTHERS)
@settings(deadline=None)
@given(arguments=st.lists(st.dictionaries(KEYS, VALUES), min_size=1, max_size=3))
def test_any_arguments_survive_in_every_dialect(dialect, arguments):
    text = write(dialect, *(("f", json.dumps(value)) for value in arguments))
    content, calls = parse([text], dialect)
    assert (content, [json.loads(found) for _, found in calls]) == ("", arguments)


@settings(deadline=None)
@given(arguments=st.dictionaries(KEYS, VALUES, max_size=3))
def test_python_literals_become_json(arguments):
    text = "[f(" + ", ".join(f"{key}={value!r}" for key, value in arguments.items()) + ")]"
    content, [[name, found]] = parse(text, "pythonic")
    assert (content, name, json.loads(found)) == ("", "f", arguments)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("{{ messages[0].content }}", "hermes"),
        ("", "hermes"),
        ("{{ '<tool_call>\\n' + call | tojson }}", "hermes"),
        ("{{ '[TOOL_CALLS] [' }}{{ tool_call.function | tojson }}", "mistral"),
        ("{{ '<function=' + name + '>' + arguments + '</function>' }} {{ '<|python_tag|>' }}", "functionary"),
        ("You answer [func_name1(params_name1=params_value1, ...), func_name2(params)]", "pythonic"),
        ("{{ '<|python_tag|>' + call.name }}", "llama3"),
        ('Respond in the format {"name": function name, "parameters": dictionary of arguments}', "llama3"),
    ],
)
def test_a_template_shows_its_dialect_and_a_name_goes_before_it(source, name):
    assert choose_dialect(source).name == name
    for dialect in DIALECTS:
        assert choose_dialect(source, dialect.name) is dialect


CALLS = {  # two calls, as each dialect writes them, and text in front where it may have some
    "hermes": "Sure.\n" + call() + "\n" + call("get_weather"),
    "mistral": 'Sure. [TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}}, '
    '{"name": "get_weather", "arguments": {"a": 1}}]',
    "functionary": 'Sure. <function=f>{"a": 1}</function><function=get_weather>{"a": 1}</function>',
    "llama3": '{"name": "f", "parameters": {"a": 1}}; {"name": "get_weather", "parameters": {"a": 1}}',
    "pythonic": "[f(a=1), get_weather(a=1)]",
}
LONELY = ("<", "[", "{", '{"')  # may begin a text as well as a call


@pytest.mark.parametrize("dialect", CALLS)
def test_a_call_that_is_cut_never_shows_its_marks(dialect):
    text = CALLS[dialect]
    for length in range(len(text) + 1):
        shown, calls = parse(text[:length], dialect, is_cut=True)
        rest = shown.removeprefix("Sure.").strip()
        assert rest in ("", *LONELY) or (text.startswith(shown) and shown in "Sure."), (text[:length], shown)
        assert [name for name, _ in calls] == ["f", "get_weather"][: len(calls)]
        whole = parse([text[:length]], dialect, is_cut=True)
        assert whole == (shown, calls)


@pytest.mark.parametrize("dialect", CALLS)
@pytest.mark.parametrize("text", ["a < b", "[1, 2] and {3}", "x <y> z", "Hello", "", "  white  space "])
def test_text_that_is_cut_is_shown(dialect, text):
    assert parse(text, dialect, is_cut=True) == (text, [])
