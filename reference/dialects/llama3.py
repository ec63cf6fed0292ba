"""Shared. Llama 3: `{"name": "f", "parameters": {...}}` and nothing else, several of them with `;` between.

Such an object is a call where an answer begins with it, after `<|python_tag|>`, and after another call; anywhere else
it is text, and so is code behind the tag. `name` comes first, then `parameters` (some say `arguments`).
"""

from collections.abc import Iterable, Set

from verbatim.reference.dialects.call_parser import CallParser
from verbatim.reference.dialects.forms import NAME, SPACE, Form, marked, spaced
from verbatim.reference.dialects.rules import (
    MarkIds,
    any_name,
    argument_rules,
    call_rules,
    expression,
    grammar,
    json_head,
    text_without,
)
from verbatim.reference.records.grammar_text import Grammar

TAG = "<|python_tag|>"


def _heads_after(lead: list[str]) -> list[Form]:
    begin = [*lead, *spaced("{", '"name"', ":", '"'), NAME, '"']
    keys = ('"parameters"', '"arguments"')
    return [Form(*begin, *spaced(",", key, ":"), SPACE, r"(?=\{)") for key in keys]


FIRST = (*_heads_after([]), *_heads_after(marked(TAG)))
LATER = (*FIRST, *_heads_after(spaced(";")))
TAIL = Form(*spaced("}"))


class Llama3Parser(CallParser):
    """Reads Llama 3's calls."""

    OPEN = TAG

    def __init__(self, names: Set[str]):
        super().__init__(names)
        self._read = self._read_head

    def _heads(self) -> Iterable[Form]:
        return LATER if self._is_after_call else FIRST

    def _tails(self) -> Iterable[Form]:
        return (TAIL,)

    def _after_tail(self):
        return self._read_head


def llama3_grammar(tools: list[dict], mark_ids: MarkIds, *, is_forced: bool, is_parallel: bool) -> Grammar:
    """Calls with or without the tag, or text and then the tag with calls; names are known and arguments fit.

    Where the tag is no control token of the tokenizer, it is not offered at all.
    """
    calls = "call more*" if is_parallel else "call"
    if is_forced:
        start = f"mark? {calls}" if TAG in mark_ids else calls
    else:
        start = f"({calls} | TEXT? mark {calls} | TEXT)?" if TAG in mark_ids else f"({calls} | TEXT)?"

    def call(name: str, arguments: str) -> str:
        space = "" if is_forced else r"[ \n]{0,8}"  # a call that is forced begins at once
        return f'/{space}{expression(json_head(name, "parameters"))}/ {arguments} "}}"'

    begin = SPACE.join(("", r"\{", '"name"', ":", f'"{any_name(tools)}"', ",", '"(?:parameters|arguments)"', ":"))
    return grammar(
        f"start: {start}",
        'more: "; " call',
        *([f"mark: <[{mark_ids[TAG]}]>"] if TAG in mark_ids else []),
        text_without(f"{begin}(?s:.*)", f"(?s:.*){expression(TAG)}(?s:.*)"),
        *call_rules(tools, call),
        *argument_rules(tools),
    )
