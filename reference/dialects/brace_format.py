"""Shared. Formats in which a call is a name and braces with bare keys: `call:f{city:<|"|>Bern<|"|>,days:2}`.

Strings stand between marks of their own, so that nothing in them needs an escape; numbers, lists and objects are
written as in JSON otherwise. The JSON of the arguments comes out as the text comes in.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from verbatim.reference.dialects.call_parser import CallParser
from verbatim.reference.dialects.deltas import CallArguments, Delta
from verbatim.reference.dialects.forms import NAME, SPACE, Form, marked, spaced
from verbatim.reference.dialects.typed_values import ANY, value_to_json
from verbatim.reference.text.marks import num_undecided

BARE_KEY = re.compile(r"([^:{}\[\],<>\"]{1,256}):")
BARE_VALUE = re.compile(r"([^,{}\[\]<>]{1,256})(?=[,}\]])")
BEGUN = re.compile(r"[^:,{}\[\]<>]{0,256}\Z")  # a key or a value of which more may come
CLOSES = {"{": "}", "[": "]"}


@dataclass(frozen=True, kw_only=True)
class BraceFormat:
    """The marks around a call and around a string in it."""

    name: str
    opening: str
    closing: str
    quote: str

    @cached_property
    def head(self) -> Form:
        """How a call begins, up to its arguments."""
        return Form(*marked(self.opening), SPACE, *"call:", NAME, SPACE, r"\{")

    @cached_property
    def close(self) -> Form:
        """What ends a call."""
        return Form(*spaced(self.closing))


class BraceParser(CallParser):
    """Reads the calls of one format."""

    def __init__(self, form: BraceFormat, tools: Sequence[dict]):
        super().__init__(tools)
        self.OPEN, self._format = form.opening, form
        self._stack: list[str] = []  # the brackets that are open
        self._is_string, self._wants = False, ""  # what comes next: "key", "value" or "" for a comma or the end
        self._is_first = True  # in the innermost bracket

    def finish(self, *, is_cut: bool = False) -> list[Delta]:
        """What was held back; the end of the JSON of a call that the answer did not close, unless it is cut."""
        if self._read != self._read_arguments:
            return super().finish(is_cut=is_cut)
        self._buffer = ""
        return [] if is_cut else self._end_call()

    def _read_head(self) -> list[Delta] | None:
        if (found := self._format.head.match(self._buffer)) and found["name"] in self._names:
            self._buffer, self._read = self._buffer[found.end() :], self._read_arguments
            start = self._start(found["name"])
            return [start, *self._open("{")]
        return None if self._format.head.could_become(self._buffer) else self._no_call()

    def _tails(self) -> tuple[Form, ...]:
        return (self._format.close,)

    def _read_arguments(self) -> list[Delta] | None:
        """One piece of the arguments: of a string, a bracket, a comma, a key or a value."""
        if self._is_string:
            return self._read_string()
        self._buffer = self._buffer.lstrip(" \t\r\n")
        sign = self._buffer[:1]
        if not sign:
            return None
        if sign == CLOSES[self._stack[-1]] and (self._is_first or not self._wants):
            return self._close()
        if sign == "," and not self._wants:
            self._buffer, self._wants = self._buffer[1:], "key" if self._stack[-1] == "{" else "value"
            return []
        if self._wants and self._buffer.startswith(self._format.quote):
            return self._read_quoted()
        if self._wants and self._format.quote.startswith(self._buffer):
            return None
        if self._wants == "key":
            return self._read_key()
        return self._read_value(sign) if self._wants else self._end_call()

    def _read_quoted(self) -> list[Delta] | None:
        """The beginning of a string, or a whole key that is written as one."""
        quote = self._format.quote
        if self._wants == "value":
            self._buffer, self._is_string = self._buffer[len(quote) :], True
            return self._add(self._comma() + '"')
        end = self._buffer.find(quote + ":", len(quote))
        if end < 0:
            return None
        key, self._buffer = self._buffer[len(quote) : end], self._buffer[end + len(quote) + 1 :]
        return self._add_key(key)

    def _read_string(self) -> list[Delta] | None:
        quote = self._format.quote
        end = self._buffer.find(quote)
        held = num_undecided(self._buffer, quote)
        text = self._buffer[:end] if end >= 0 else self._buffer[: len(self._buffer) - held]
        self._buffer = self._buffer[len(text) :]
        escaped = json.dumps(text, ensure_ascii=False)[1:-1]
        if end >= 0:
            self._buffer, self._is_string, self._wants = self._buffer[len(quote) :], False, ""
            return self._add(escaped + '"')
        return self._add(escaped) if text else None

    def _read_key(self) -> list[Delta] | None:
        if found := BARE_KEY.match(self._buffer):
            self._buffer = self._buffer[found.end() :]
            return self._add_key(found[1].strip())
        return None if BEGUN.match(self._buffer) else self._end_call()

    def _read_value(self, sign: str) -> list[Delta] | None:
        if sign in CLOSES:
            self._buffer = self._buffer[1:]
            return self._open(sign)
        if found := BARE_VALUE.match(self._buffer):
            self._buffer = self._buffer[found.end() :]
            comma, self._wants = self._comma(), ""
            return self._add(comma + value_to_json(found[1].strip(), ANY))
        return None if BEGUN.match(self._buffer.replace(":", "")) else self._end_call()

    def _add_key(self, key: str) -> list[Delta]:
        comma = self._comma()
        self._wants = "value"
        return self._add(f"{comma}{json.dumps(key, ensure_ascii=False)}: ")

    def _comma(self) -> str:
        """What stands in front of a member of an object or of an item of a list."""
        is_value = self._wants == "value" and self._stack[-1] == "{"
        comma = "" if self._is_first or is_value else ", "
        self._is_first = False
        return comma

    def _open(self, bracket: str) -> list[Delta]:
        comma = self._comma() if self._stack else ""
        self._stack.append(bracket)
        self._wants, self._is_first = "key" if bracket == "{" else "value", True
        return self._add(comma + bracket)

    def _close(self) -> list[Delta]:
        self._buffer, self._wants, self._is_first = self._buffer[1:], "", False
        closed = CLOSES[self._stack.pop()]
        if not self._stack:
            self._read, self._is_after_call = self._read_tail, True
        return self._add(closed)

    def _end_call(self) -> list[Delta]:
        """The end of the JSON of a call that goes on in no way that this format knows; the rest is text."""
        end = '"' if self._is_string else "null" if self._wants == "value" and self._stack[-1] == "{" else ""
        end += "".join(CLOSES[bracket] for bracket in reversed(self._stack))
        self._stack, self._is_string, self._read, self._is_after_call = [], False, self._read_text, True
        return self._add(end)

    def _add(self, text: str) -> list[Delta]:
        return [CallArguments(index=self._num_calls - 1, text=text)]
