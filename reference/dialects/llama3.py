"""Shared. Llama 3: `{"name": "f", "parameters": {...}}` and nothing else, several of them with `;` between.

An object that names a tool is a call: where an answer begins, after `<|python_tag|>`, after another call, and behind
text, but not within another value. `name` comes first, then `parameters` (some say `arguments`); with a `type` in
front, or in another order, the keys are understood once the object is complete. Code behind the tag is text. The
grammar offers calls at the beginning and behind the tag.
"""

import re
from collections.abc import Iterable, Sequence

from verbatim.reference.dialects.call_parser import CallParser
from verbatim.reference.dialects.deltas import CallArguments, Delta
from verbatim.reference.dialects.forms import NAME, SPACE, Form, ObjectEnd, marked, spaced
from verbatim.reference.dialects.json_parser import read_call
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
LATER = (*FIRST, *_heads_after(marked(";")))
OBJECT = Form(r"\s*", f"(?:{re.escape(TAG)})?", SPACE, r"(?=\{)")
NEXT = Form(r"\s*", ";?", SPACE, r"(?=\{)")
KEYS = tuple(Form(r"\{", SPACE, '"', *key, '"') for key in ("type", "name", "function", "parameters", "arguments"))
WITHIN = re.compile(r"""(?:"\s*:|[,\[{(`"'])\s*\Z""")  # how text ends in which a brace begins a value
NUM_KEPT = 40  # characters of text in which that is seen
TAIL = Form(*spaced("}"))


class Llama3Parser(CallParser):
    """Reads Llama 3's calls."""

    OPEN = TAG

    def __init__(self, tools: Sequence[dict]):
        super().__init__(tools)
        self._last = ""  # text that has been given
        self._read = self._read_head

    def _heads(self) -> Iterable[Form]:
        return LATER if self._is_after_call else FIRST

    def _tails(self) -> Iterable[Form]:
        return (TAIL,)

    def _after_tail(self):
        return self._read_head

    def _read_text(self) -> list[Delta] | None:
        """Up to the tag, or to a brace, in front of which white space belongs to it."""
        if self._is_after_call:
            self._buffer = self._buffer.lstrip()
        brace = self._buffer.find("{")
        if brace < 0 or 0 <= self._buffer.find(TAG) < brace:
            return super()._read_text()
        if WITHIN.search(self._last + self._buffer[:brace]):
            return self._take_text(brace + 1)
        self._read = self._read_head
        return self._take_text(len(self._buffer[:brace].rstrip()))

    def _take_text(self, length: int) -> list[Delta]:
        self._last = (self._last + self._buffer[:length])[-NUM_KEPT:]
        return super()._take_text(length)

    def _no_call(self) -> list[Delta] | None:
        """A whole object whose keys stand in another way, or text up to the next that may be one."""
        found = (NEXT if self._is_after_call else OBJECT).match(self._buffer)
        rest = self._buffer[found.end() :] if found else ""
        if any(key.match(rest) for key in KEYS):
            end = ObjectEnd()
            length = end.find(rest)
            if not end.is_complete:
                return None
            if call := read_call(rest[:length], self._names):
                self._buffer, self._is_after_call = rest[length:], True
                self._read = self._read_head
                return [self._start(call[0]), CallArguments(index=self._num_calls - 1, text=call[1])]
        elif found and any(key.could_become(rest) for key in KEYS):
            return None
        self._read = self._read_text
        if found:
            return self._take_text(found.end() + 1)
        return super()._no_call()


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
