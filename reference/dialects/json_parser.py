"""Shared. The streaming parser of formats whose arguments are JSON (json_format.py).

Arguments are given as they come. A call that is an object whose keys stand in another order, or whose arguments are a
text, is read once the object is complete.
"""

import json
from collections.abc import Iterable, Sequence, Set

from verbatim.reference.dialects.call_parser import CallParser
from verbatim.reference.dialects.deltas import CallArguments, Delta
from verbatim.reference.dialects.forms import Form, ObjectEnd
from verbatim.reference.dialects.json_format import JsonFormat

NAME_KEYS, ARGUMENT_KEYS = ("name", "tool_name", "function"), ("arguments", "parameters")


class JsonParser(CallParser):
    """Reads the calls of one format."""

    def __init__(self, form: JsonFormat, tools: Sequence[dict]):
        super().__init__(tools)
        self.OPEN, self._format = form.opening, form
        self._read = self._read_text if form.opening else self._read_head

    def finish(self, *, is_cut: bool = False) -> list[Delta]:
        """Of a block that was not closed, nothing is shown that could have become its end or a call."""
        forms = (*self._format.ends, *self._format.next_heads)
        if self._is_inside and self._read == self._read_head and any(f.could_become(self._buffer) for f in forms):
            self._buffer = ""
        return super().finish(is_cut=is_cut)

    def _heads(self) -> Iterable[Form]:
        return self._format.next_heads if self._is_inside else self._format.heads

    def _tails(self) -> Iterable[Form]:
        return self._format.tails

    def _after_tail(self):
        return self._read_head

    def _read_head(self) -> list[Delta] | None:
        """A call, or the end of the block."""
        if self._is_inside:
            for end in self._format.ends:
                if found := end.match(self._buffer):
                    self._buffer, self._is_inside, self._read = self._buffer[found.end() :], False, self._read_text
                    return []
                if end.could_become(self._buffer):
                    return None
        deltas = super()._read_head()
        self._is_inside = self._is_inside or self._read == self._read_arguments
        return deltas

    def _no_call(self) -> list[Delta] | None:
        """A whole object, or text."""
        for lead in self._format.next_objects if self._is_inside else self._format.objects:
            if found := lead.match(self._buffer):
                end, rest = ObjectEnd(), self._buffer[found.end() :]
                length = end.find(rest)
                if not end.is_complete:
                    return None
                if call := read_call(rest[:length], self._names):
                    self._buffer, self._is_inside = rest[length - 1 :], True  # its last brace begins the tail
                    self._read = self._read_tail
                    return [self._start(call[0]), CallArguments(index=self._num_calls - 1, text=call[1])]
        return super()._no_call()


def read_call(text: str, names: Set[str]) -> tuple[str, str] | None:
    """Name and arguments of an object that is there in full; None if it is no call."""
    try:
        call = json.loads(text)
        call = call["function"] if isinstance(call.get("function"), dict) else call
        name = next(call[key] for key in NAME_KEYS if isinstance(call.get(key), str))
        arguments: object = next((call[key] for key in ARGUMENT_KEYS if key in call), {})
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, AttributeError, RecursionError, StopIteration):
        return None
    is_call = name in names and isinstance(arguments, dict)
    return (name, json.dumps(arguments, ensure_ascii=False)) if is_call else None
