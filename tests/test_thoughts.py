"""Thoughts: the same however the text is cut, one format a template, and what a guide allows token by token."""

import pytest

from verbatim.reference.dialects import CallArguments, CallStart, TextDelta, ThoughtDelta, choose_dialect
from verbatim.reference.dialects.thoughts import FORMATS, ThoughtParser, choose_thoughts
from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.thinking import Ending, Thinking

CALL = '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'
THINK = {"opening": "<think>", "endings": (Ending("</think>"),), "forced": "</think>"}
OPEN, CLOSED = Thinking(**THINK, is_open=True), Thinking(**THINK)
HARMONY = next(each for each in FORMATS if each.name == "harmony")


TOOLS = [{"type": "function", "function": {"name": "look"}}]


def read(text, thinking, *, size=None, tools=TOOLS, is_cut=False, **settings):
    """The thought, the text, and the calls of an answer that comes in pieces of `size` characters."""
    calls = choose_dialect("<tool_call>").parser(tools) if tools else None
    parser, size = ThoughtParser(thinking, calls, **settings), size or len(text)
    deltas = [delta for at in range(0, len(text), size) for delta in parser.push(text[at : at + size])]
    deltas += parser.finish(is_cut=is_cut)
    thought = "".join(delta.text for delta in deltas if isinstance(delta, ThoughtDelta))
    said = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
    found = [[delta.name, ""] for delta in deltas if isinstance(delta, CallStart)]
    for delta in deltas:
        if isinstance(delta, CallArguments):
            found[delta.index][1] += delta.text
    return thought, said, found


@pytest.mark.parametrize(
    ("text", "thinking", "expected"),
    [
        ("<think>\nHm.\n</think>\n\nNo.", CLOSED, ("Hm.", "No.", [])),
        ("\n <think>Hm. \n two\n\n</think>No.", CLOSED, ("Hm. \n two", "No.", [])),
        ("Hm.\n</think>\n\nNo.", OPEN, ("Hm.", "No.", [])),
        ("No <think> at all </think>.", CLOSED, ("", "No <think> at all </think>.", [])),
        ("<think>\n\n</think>\n\nNo.", CLOSED, ("", "No.", [])),
        ("</think>\n\nNo.", CLOSED, ("", "No.", [])),
        ("</think>No </think> more", OPEN, ("", "No </think> more", [])),
        (f"<think>\nI could write {CALL} but need not.\n</think>\n\nIt is noon.", CLOSED,
         (f"I could write {CALL} but need not.", "It is noon.", [])),
        (f"<think>\nI may use <tool_call> for it.\n</think>\n\n{CALL}", CLOSED,
         ("I may use <tool_call> for it.", "", [["look", "{}"]])),
        ("Only thought, </thi and", OPEN, ("Only thought, </thi and", "", [])),
        ("<thinking about it", CLOSED, ("", "<thinking about it", [])),
        ("  \n", CLOSED, ("", "  \n", [])),
    ],
)  # fmt: skip
def test_the_parts_are_the_same_however_the_text_is_cut(text, thinking, expected):
    for size in range(1, len(text) + 1):
        assert read(text, thinking, size=size) == expected


def test_a_mark_that_was_cut_off_is_not_shown():
    assert read("Hm. </thi", OPEN, is_cut=True) == ("Hm.", "", [])
    assert read("<thi", CLOSED, is_cut=True) == ("", "", [])
    assert read("1 <", CLOSED, is_cut=True) == ("", "1 <", [])


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_thought_that_is_not_apart_is_text_with_its_marks(size):
    text = f"<think>\nHm {CALL}\n</think>\n\nNo. {CALL}"
    thought, said, calls = read(text, CLOSED, size=size, is_apart=False)
    assert (thought, said, calls) == ("", f"<think>\nHm {CALL}\n</think>\n\nNo.", [["look", "{}"]])


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_channels(size):
    """Analysis is thought, the final channel is the answer, and a call in the commentary is left to its own parser."""
    thinking = Thinking(opening=HARMONY.opening, endings=HARMONY.endings, forced=HARMONY.endings[0].mark)
    end, begin = "<|end|><|start|>assistant", "<|channel|>analysis<|message|>"
    final = f"{begin}Hm.{end}<|channel|>final<|message|>No."
    assert read(final, thinking, size=size, tools=()) == ("Hm.", "No.", [])
    assert read("<|channel|>final<|message|>No.", thinking, size=size, tools=()) == ("", "No.", [])
    call = "<|channel|>commentary to=functions.look <|constrain|>json<|message|>{}"
    assert read(f"{begin}Hm.{end}{call}", thinking, size=size, tools=()) == ("Hm.", call, [])


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{{ '<think>\n' if enable_thinking }}", "think"), ("[THINK]{{ thought }}[/THINK]", "magistral"),
        ("<seed:think>{{ '<think>' }}", "seed_oss"), ("<|channel|>analysis<|message|>", "harmony"),
        ("{{ messages }}", None), ("Here is my thought process: Here is my response:", "granite"),
    ],
)  # fmt: skip
def test_a_template_shows_its_format(template, name):
    found = choose_thoughts(template)
    assert (found and found.name) == name
    assert choose_thoughts(template, "none") is None and choose_thoughts(template, "qwen3").name == "think"


def test_marks_that_say_nothing_are_refused():
    for wrong in ({"opening": ""}, {"endings": ()}, {"endings": (Ending(""),)}, {"forced": "x"}, {"budget": -1}):
        with pytest.raises(RequestError):
            Thinking(**THINK | wrong)
