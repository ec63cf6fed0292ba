"""Tool-call dialects: the same calls however a text is cut; what only looks like a call stays text."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.dialects import CallArguments, CallStart, HermesParser, TextDelta

NAMES = frozenset({"f", "get_weather"})


def parse(pieces):
    """Text, and calls as [name, arguments], of everything that the parser gave."""
    parser = HermesParser(NAMES)
    deltas = [delta for piece in pieces for delta in parser.push(piece)] + parser.finish()
    text, calls = "", []
    for delta in deltas:
        match delta:
            case TextDelta(text=new):
                text += new
            case CallStart(index=index, name=name):
                assert index == len(calls)
                calls.append([name, ""])
            case CallArguments(index=index, text=new):
                assert index == len(calls) - 1
                calls[index][1] += new
    return text, calls


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
    parser = HermesParser(NAMES)
    assert parser.push('<tool_call>{"name": "f", "arguments": ') == []
    start, arguments = parser.push('{"city": "Pa')
    assert start == CallStart(index=0, name="f")
    assert arguments == CallArguments(index=0, text='{"city": "Pa')
    assert parser.push('ris"}') == [CallArguments(index=0, text='ris"}')]


def test_plain_text_is_not_held_back():
    parser = HermesParser(NAMES)
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
