"""Shared. The streaming parser of formats with parameters between marks (xml_format.py).

Arguments come out as JSON as they come: a parameter whose schema allows only a string is escaped piece by piece, any
other once its closing mark is there. An answer that ends by itself inside of a call gives one valid JSON object all the
same; one that is cut keeps what it has. No mark of an open call is ever text.
"""

import json
from collections.abc import Sequence

from verbatim.reference.dialects.call_parser import CallParser
from verbatim.reference.dialects.deltas import CallArguments, Delta
from verbatim.reference.dialects.forms import held_length
from verbatim.reference.dialects.typed_values import ANY, STRING, types_of, value_to_json
from verbatim.reference.dialects.xml_format import XmlFormat
from verbatim.reference.text.marks import num_undecided


class XmlParser(CallParser):
    """Reads the calls of one format."""

    def __init__(self, form: XmlFormat, tools: Sequence[dict]):
        super().__init__(tools)
        self._format = form
        self._schemas = {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in tools}
        self._schema: dict = {}  # of the open call's parameters
        self._key, self._types = "", ANY  # of the open parameter
        self._has_parameters = self._is_value_begun = self._is_bare = False

    def finish(self, *, is_cut: bool = False) -> list[Delta]:
        """What was held back; the end of the JSON of a call that the answer did not close, unless it is cut."""
        if self._read not in (self._read_parameters, self._read_value):
            return super().finish(is_cut=is_cut)
        rest, self._buffer = self._buffer, ""
        if is_cut:
            return []
        end = "}"
        if self._read == self._read_value:
            end = ('"' if self._types == STRING else self._member(rest) if rest.strip() else "") + end
        self._read, self._is_after_call = self._read_text, True
        return self._arguments_delta(end)

    def _read_text(self) -> list[Delta] | None:
        if self._is_after_call:
            self._buffer = self._buffer.lstrip()
        if found := self._format.any_opening.search(self._buffer):
            self._read = self._read_head
            return self._take_text(len(self._buffer[: found.start()].rstrip()))
        held = max(held_length(self._buffer, mark) for mark in self._format.openings)
        return self._take_text(len(self._buffer) - held) or None

    def _read_head(self) -> list[Delta] | None:
        for index, head in enumerate(self._format.heads):
            if (found := head.match(self._buffer)) and found["name"] in self._names:
                self._is_bare = index > 0
                return self._open_call(found["name"], found.end())
        if any(head.could_become(self._buffer) for head in self._format.heads):
            return None
        return self._no_call()

    def _no_call(self) -> list[Delta] | None:
        self._read = self._read_text
        found = self._format.any_opening.search(self._buffer)
        return self._take_text(found.end() if found else 0)

    def _open_call(self, name: str, end: int) -> list[Delta]:
        self._buffer, self._read = self._buffer[end:], self._read_parameters
        self._schema, self._has_parameters = self._schemas[name], False
        start = self._start(name)
        return [start, *self._arguments_delta("{")]

    def _read_parameters(self) -> list[Delta] | None:
        """The name of a parameter, or the end of the call; anything else ends the call, too, and is text."""
        for head, marked_type in self._format.parameter_heads:
            if found := head.match(self._buffer):
                self._buffer, self._read = self._buffer[found.end() :], self._read_value
                self._key, self._is_value_begun = found["key"].strip(), False
                self._types = self._types_of(self._key, marked_type)
                return self._arguments_delta(self._member_head() + '"') if self._types == STRING else []
        if found := self._format.call_end.match(self._buffer):
            self._buffer, self._read = self._buffer[found.end() :], self._read_tail
            return self._arguments_delta("}")
        forms = (self._format.call_end, *(head for head, _ in self._format.parameter_heads))
        if any(form.could_become(self._buffer) for form in forms):
            return None
        self._read, self._is_after_call = self._read_text, True
        return self._arguments_delta("}")

    def _types_of(self, key: str, marked_type: str) -> frozenset[str]:
        if marked_type == "string":
            return STRING
        properties = self._schema.get("properties")
        types = types_of(properties.get(key) if isinstance(properties, dict) else None, self._schema)
        return types if not marked_type else (types - STRING) or ANY

    def _read_value(self) -> list[Delta] | None:
        close = self._buffer.find(self._format.parameter_close)
        if self._types == STRING:
            return self._read_string(close)
        if close < 0:
            return None
        text = self._close_value(close)
        return self._arguments_delta(self._member(text))

    def _read_string(self, close: int) -> list[Delta] | None:
        if self._format.is_padded and not self._is_value_begun and close:
            if not self._buffer:
                return None
            self._is_value_begun, self._buffer = True, self._buffer.removeprefix("\n")
            return []
        if close >= 0:
            self._is_value_begun = True
            return self._arguments_delta(_escaped(self._close_value(close)) + '"')
        safe = len(self._buffer) - self._held_of_value()
        text, self._buffer = self._buffer[:safe], self._buffer[safe:]
        return self._arguments_delta(_escaped(text)) if text else None

    def _held_of_value(self) -> int:
        """The length of what may be the end of a string's value, or its closing mark."""
        mark = self._format.parameter_close
        length = num_undecided(self._buffer, mark)
        is_padded = self._format.is_padded and self._buffer[: len(self._buffer) - length].endswith("\n")
        return length + is_padded

    def _close_value(self, close: int) -> str:
        """The text of a value up to its closing mark, which is read over."""
        text, self._buffer = self._buffer[:close], self._buffer[close + len(self._format.parameter_close) :]
        self._read = self._read_parameters
        if self._format.is_padded:
            text = text.removesuffix("\n") if self._is_value_begun else text.removeprefix("\n").removesuffix("\n")
        return text

    def _read_tail(self) -> list[Delta] | None:
        """The end of a block, or its next call; text in its place is text."""
        self._is_after_call = True
        if not self._format.block_close:
            self._read = self._read_text
            return []
        if found := self._format.block_end.match(self._buffer):
            self._buffer, self._read = self._buffer[found.end() :], self._read_text
            return []
        heads = () if self._is_bare else (self._format.next_head,)
        for head in heads:
            if (found := head.match(self._buffer)) and found["name"] in self._names:
                return self._open_call(found["name"], found.end())
        if any(form.could_become(self._buffer) for form in (self._format.block_end, *heads)):
            return None
        self._read = self._read_text
        return []

    def _member_head(self) -> str:
        """The key of a parameter, a comma in front of it where it is not the first."""
        comma, self._has_parameters = ", " if self._has_parameters else "", True
        return f"{comma}{json.dumps(self._key, ensure_ascii=False)}: "

    def _member(self, text: str) -> str:
        """A parameter that is there in full."""
        return self._member_head() + value_to_json(text, self._types)

    def _arguments_delta(self, text: str) -> list[Delta]:
        return [CallArguments(index=self._num_calls - 1, text=text)]


def _escaped(text: str) -> str:
    """Text as it stands inside of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
