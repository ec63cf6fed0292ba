"""Shared. Formats in which calls are written as in Python: `[f(a=1, b="x"), g()]`, or a call a line between marks.

A call counts once its closing parenthesis is there, and in a list the sign behind it, so its arguments come all at
once. They have keywords, and values that are JSON or Python literals.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from verbatim.reference.dialects.call_parser import CallParser
from verbatim.reference.dialects.deltas import CallArguments, Delta
from verbatim.reference.dialects.forms import NAME, SPACE, Form, held_length, marked, spaced
from verbatim.reference.dialects.literals import CallEnd, arguments_to_json

BEHIND = Form(SPACE, r"[\],]")
LIST_TAIL, LIST_TAIL_WITH_COMMA = Form(*spaced("]")), Form(*spaced(",", "]"))


@dataclass(frozen=True, kw_only=True)
class PythonFormat:
    """The marks `opening` and `closing` stand around the calls; "" where there are none.

    Calls are in a list if `is_listed`, else on lines of their own. If `is_bare`, calls may stand without marks where
    an answer begins with them.
    """

    name: str
    opening: str = ""
    closing: str = ""
    is_listed: bool = True
    is_bare: bool = False

    @cached_property
    def first(self) -> Form:
        """How a block of calls between marks begins."""
        return Form(*marked(self.opening, *self._bracket), SPACE, NAME, r"\(")

    @cached_property
    def bare(self) -> Form:
        """How calls without marks begin."""
        return Form(*spaced(*self._bracket), SPACE, NAME, r"\(")

    @cached_property
    def further(self) -> Form:
        """How another call of the same block begins."""
        return Form(*(spaced(",") if self.is_listed else (SPACE, ",?")), SPACE, NAME, r"\(")

    @cached_property
    def tails(self) -> tuple[Form, ...]:
        """What ends the calls of a block."""
        return (LIST_TAIL, LIST_TAIL_WITH_COMMA) if self.is_listed else (Form(*spaced(self.closing)),)

    @cached_property
    def close(self) -> Form:
        """What may stand behind a list."""
        return Form(*spaced(self.closing))

    @property
    def _bracket(self) -> tuple[str, ...]:
        return ("[",) if self.is_listed else ()


class PythonParser(CallParser):
    """Reads the calls of one format."""

    def __init__(self, form: PythonFormat, tools: Sequence[dict]):
        super().__init__(tools)
        self._format, self._is_beginning, self._is_open = form, form.is_bare, False
        self._read = self._read_head if form.is_bare else self._read_text
        self._name, self._end = "", CallEnd(0)

    def _has_begun_call(self) -> bool:
        """A mark, or a list that begins with a tool's name, or with the beginning of one."""
        if self._read == self._read_call or self._is_open:
            return True
        text, opening = self._buffer.strip(), self._format.opening
        if opening and (text.startswith(opening) or (len(text) > 1 and opening.startswith(text))):
            return True
        name = text.removeprefix("[").strip()
        return self._read == self._read_head and any(name and f"{tool}(".startswith(name) for tool in self._names)

    def _read_text(self) -> list[Delta] | None:
        self._is_beginning = False
        if self._is_after_call:
            self._buffer = self._buffer.lstrip()
        opening = self._format.opening
        if not opening:
            return self._take_text(len(self._buffer)) or None
        if (at := self._buffer.find(opening)) >= 0:
            self._read = self._read_head
            return self._take_text(len(self._buffer[:at].rstrip()))
        return self._take_text(len(self._buffer) - held_length(self._buffer, opening)) or None

    def _read_head(self) -> list[Delta] | None:
        """The name of a call, which is kept until all of it is there; or the end of the block."""
        form = self._format
        tails = form.tails if self._is_open else ()
        if end := next(filter(None, (tail.match(self._buffer) for tail in tails)), None):
            self._buffer, self._is_open = self._buffer[end.end() :], False
            self._read = self._read_tail if form.is_listed and form.closing else self._read_text
            return []
        heads = (form.further,) if self._is_open else self._first_heads()
        for head in heads:
            if (found := head.match(self._buffer)) and found["name"] in self._names:
                self._name, self._end = found["name"], CallEnd(found.end())
                self._read = self._read_call
                return []
        if any(each.could_become(self._buffer) for each in (*heads, *tails)):
            return None
        return self._no_call()

    def _first_heads(self) -> tuple[Form, ...]:
        bare = (self._format.bare,) if self._is_beginning else ()
        return (self._format.first, *bare) if self._format.opening else bare

    def _read_call(self) -> list[Delta] | None:
        """A whole call, or text if it is none after all."""
        self._end.scan(self._buffer)
        if not self._end.is_complete:
            return None
        rest = self._buffer[self._end.cuts[-1] :]
        is_listed = not self._format.is_listed or BEHIND.match(rest) is not None
        if not is_listed and BEHIND.could_become(rest):
            return None
        arguments = arguments_to_json(self._end.arguments(self._buffer)) if is_listed else None
        if arguments is None:
            return self._no_call()
        self._buffer, self._is_after_call, self._is_open, self._read = rest, True, True, self._read_head
        return [self._start(self._name), CallArguments(index=self._num_calls - 1, text=arguments)]

    def _no_call(self) -> list[Delta] | None:
        """What looked like a call was none: the mark in front of it, if there is one, is text."""
        self._read, opening = self._read_text, self._format.opening
        is_marked = opening and not self._is_open and self._buffer.lstrip().startswith(opening)
        self._is_open = False
        return self._take_text(self._buffer.index(opening) + len(opening) if is_marked else 0)

    def _tails(self) -> tuple[Form, ...]:
        """The mark behind a list, which may be left out."""
        return (self._format.close,)
