"""Shared. Formats whose arguments are a JSON object: one record each, from which parser and grammar follow.

Calls stand in a block or by themselves, in a list or not; each is an opening, the function's name, what stands between
it and the arguments, the arguments, a closing. A call that is an object is read with its keys in any order, too.
"""

import json
import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from functools import cache

from verbatim.reference.dialects.call_parser import CallParser
from verbatim.reference.dialects.deltas import CallArguments, Delta
from verbatim.reference.dialects.dialect import names_of
from verbatim.reference.dialects.forms import SPACE, Form, ObjectEnd, marked, spaced
from verbatim.reference.dialects.rules import (
    MarkIds,
    argument_rules,
    call_rules,
    grammar,
    mark,
    opening_rules,
    text_without,
)
from verbatim.reference.records.grammar_text import Grammar

NUMBER = "\0number"  # a piece that stands for a whole number
NAME = r"(?P<name>[\w.-]{1,64})"
NAME_KEYS, ARGUMENT_KEYS = ("name", "tool_name"), ("arguments", "parameters")
WITH_ID = Form(*spaced(",", '"id"', ":", '"'), r'[^"\\]{0,64}', '"', *spaced("}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One call in pieces: what stands before its name, between name and arguments, and behind the arguments."""

    opening: tuple[str, ...]
    named: tuple[str, ...]
    closing: tuple[str, ...] = ()

    @property
    def is_object(self) -> bool:
        """Whether the call is one JSON object."""
        return self.closing[-1:] == ("}",) and '"name"' in "".join(self.opening).replace("tool_name", "name")


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonFormat:
    """A format. `block` are its outer marks; `begin`, `between` and `end` stand around the calls in it.

    `item` is how a call is written, `read` are all forms that are understood. A piece that may be a control token is a
    piece by itself.
    """

    name: str
    item: Item
    read: tuple[Item, ...] = ()
    block: tuple[str, str] = ("", "")
    begin: str = ""
    between: str = ""
    end: str = ""

    @property
    def opening(self) -> str:
        """The mark that begins calls, "" where there is none."""
        return self.block[0] or ("" if self.begin else self.item.opening[0])

    @property
    def marks(self) -> tuple[str, ...]:
        """The pieces that may be control tokens."""
        items = (self.item, *self.read)
        pieces = [*self.block, *(p for i in items for part in (i.opening, i.named, i.closing) for p in part)]
        return tuple(dict.fromkeys(piece for piece in pieces if piece.startswith("<") and piece.endswith(">")))


def _atoms(*pieces: str) -> list[str]:
    """Pieces as atoms of a form; white space between their words may be there or not."""
    found: list[str] = []
    for piece in pieces:
        found += [r"\d{1,6}"] if piece == NUMBER else spaced(*piece.split())
    return found


@cache
def _leads(form: JsonFormat, is_inside: bool) -> tuple[list[str], ...]:
    """What may stand before a call: the block's beginning, or what separates it from the call before."""
    if is_inside:
        return ([], _atoms(form.between)) if form.between.strip() else ([],)
    return ([*(marked(form.block[0]) if form.block[0] else []), *_atoms(form.begin)],)


@cache
def _heads(form: JsonFormat, is_inside: bool) -> tuple[Form, ...]:
    return tuple(
        Form(*lead, *_atoms(*item.opening), SPACE, NAME, *_atoms(*item.named), SPACE, r"(?=\{)")
        for lead in _leads(form, is_inside)
        for item in (form.item, *form.read)
    )


@cache
def _objects(form: JsonFormat, is_inside: bool) -> tuple[Form, ...]:
    """The beginning of a call that is an object."""
    return tuple(Form(*lead, SPACE, r"(?=\{)") for lead in _leads(form, is_inside))


@cache
def _tails(form: JsonFormat) -> tuple[Form, ...]:
    found = tuple(dict.fromkeys(item.closing for item in (form.item, *form.read) if item.closing))
    ids = (WITH_ID,) if form.item.is_object else ()
    return (*(Form(*_atoms(*closing)) for closing in found), *ids) or (Form(""),)


@cache
def _ends(form: JsonFormat) -> tuple[Form, ...]:
    """The end of the block, and of the list in it, if somebody forgets the mark behind."""
    whole = Form(*_atoms(form.end), *_atoms(form.block[1]))
    return (whole, Form(*_atoms(form.end))) if form.end.strip() and form.block[1] else (whole,)


class JsonParser(CallParser):
    """Reads the calls of one format."""

    def __init__(self, form: JsonFormat, tools: Sequence[dict]):
        super().__init__(names_of(tools))
        self._form, self._is_inside = form, False
        self.OPEN = form.opening
        if not self.OPEN:
            self._read = self._read_head

    def finish(self, *, is_cut: bool = False) -> list[Delta]:
        """Of a block that was not closed, nothing is shown that could have become its end or a call."""
        forms = (*_ends(self._form), *_heads(self._form, True))
        if self._is_inside and self._read == self._read_head and any(f.could_become(self._buffer) for f in forms):
            self._buffer = ""
        return super().finish(is_cut=is_cut)

    def _heads(self) -> Iterable[Form]:
        return _heads(self._form, self._is_inside)

    def _tails(self) -> Iterable[Form]:
        return _tails(self._form)

    def _after_tail(self):
        return self._read_head

    def _read_head(self) -> list[Delta] | None:
        """A call, or the end of the block."""
        if self._is_inside:
            for end in _ends(self._form):
                if found := end.match(self._buffer):
                    self._buffer, self._is_inside, self._read = self._buffer[found.end() :], False, self._read_text
                    return []
                if self._buffer.strip() and end.could_become(self._buffer):
                    return None
            if not self._buffer.strip():
                return None
        deltas = super()._read_head()
        self._is_inside = self._is_inside or self._read == self._read_arguments
        return deltas

    def _no_call(self) -> list[Delta] | None:
        """A whole object with its keys in another order, or text."""
        for lead in _objects(self._form, self._is_inside) if self._form.item.is_object else ():
            if found := lead.match(self._buffer):
                end, rest = ObjectEnd(), self._buffer[found.end() :]
                length = end.find(rest)
                if not end.is_complete:
                    return None
                if call := read_call(rest[:length], self._names):
                    self._buffer, self._is_inside, self._is_after_call = rest[length:], True, True
                    self._read = self._read_head
                    return [self._start(call[0]), CallArguments(index=self._num_calls - 1, text=call[1])]
        self._is_inside = False
        return super()._no_call()


def read_call(text: str, names: Set[str]) -> tuple[str, str] | None:
    """Name and arguments of an object that is there in full; None if it is no call."""
    try:
        call = json.loads(text)
        call = call["function"] if isinstance(call.get("function"), dict) else call
        name = next(call[key] for key in (*NAME_KEYS, "function") if isinstance(call.get(key), str))
        arguments: object = next((call[key] for key in ARGUMENT_KEYS if key in call), {})
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, AttributeError, RecursionError, StopIteration):
        return None
    is_call = name in names and isinstance(arguments, dict)
    return (name, json.dumps(arguments, ensure_ascii=False)) if is_call else None


def json_grammar(
    form: JsonFormat, tools: list[dict], mark_ids: MarkIds, *, is_forced: bool, is_parallel: bool
) -> Grammar:
    """Text and then calls, or calls alone where they are forced; names are known and arguments fit."""
    has_block = form.opening != form.item.opening[0]
    opening = form.item.opening if has_block else form.item.opening[1:]

    def written(*pieces: str) -> str:
        return " ".join("/[0-9]{1,4}/" if piece == NUMBER else mark(piece, mark_ids) for piece in pieces if piece)

    def call(name: str, arguments: str) -> str:
        head = f"{written(*opening)} {json.dumps(name)} {written(*form.item.named)}"
        return f"{head} {arguments} {written(*form.item.closing)}"

    if has_block:
        more = f"({written(form.between)} call)*" if is_parallel else ""
        calls = f"{written(form.begin)} call {more} {written(form.end, form.block[1])}"
        forced, free = f"mark {calls}", f"(open {calls} | TEXT)?"
    else:
        forced = "mark call (mark call)*" if is_parallel else "mark call"
        free = "(open call)* TEXT?" if is_parallel else "(open call | TEXT)?"
    rules = opening_rules(form.opening, mark_ids) if form.opening else []
    if not form.opening:
        forced, free = forced.removeprefix("mark "), free.replace("open ", "")
        rules = [text_without(rf"{SPACE}\[{SPACE}\{{(?s:.*)")]
    return grammar(f"start: {forced if is_forced else free}", *rules, *call_rules(tools, call), *argument_rules(tools))


def words_of(template: str) -> re.Pattern[str]:
    """A sign: these words in this order, with anything between."""
    return re.compile(".*?".join(map(re.escape, template.split())), re.DOTALL)
