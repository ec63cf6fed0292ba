"""Shared. The streaming parser under every dialect: a buffer, and the reader whose turn it is.

Text runs on to a mark; a head names a call; its arguments are one JSON object, given as they come; a tail closes it.
A call counts from where its head is there, with the name of a tool, up to the brace of its arguments. What only looks
like a call is text, to the last character; white space around calls belongs to their marks. A dialect says what its
mark, heads and tails are.
"""

from collections.abc import Iterable, Sequence

from verbatim.reference.dialects.deltas import CallArguments, CallStart, Delta, TextDelta, joined
from verbatim.reference.dialects.forms import Form, ObjectEnd, held_length


class CallParser:
    """What dialects with JSON arguments share. `OPEN` is the mark that begins calls, "" where there is none."""

    OPEN = ""

    def __init__(self, tools: Sequence[dict]):
        """`tools` are those that may be called, as OpenAI's API writes them."""
        self._names = frozenset(tool["function"]["name"] for tool in tools)
        self._buffer = ""
        self._num_calls = 0
        self._is_after_call = False
        self._is_inside = False  # a list or block of calls, that has an end of its own
        self._read = self._read_text
        self._arguments = ObjectEnd()

    def push(self, text: str) -> list[Delta]:
        """What new text adds, as far as it can be told."""
        self._buffer += text
        deltas: list[Delta] = []
        while (found := self._read()) is not None:
            deltas += found
        return joined(deltas)

    def finish(self, *, is_cut: bool = False) -> list[Delta]:
        """A call that was cut short keeps what it has; anything else held back was text after all.

        If the answer `is_cut`, it might have gone on: then what could only have become a call is no text either.
        """
        is_begun = is_cut and self._has_begun_call()
        rest, self._buffer = self._buffer.lstrip() if self._is_after_call else self._buffer, ""
        return [TextDelta(text=rest)] if rest and not is_begun and self._read != self._read_tail else []

    def _has_begun_call(self) -> bool:
        """Whether the buffer holds a mark, or more of a mark or a head than a text may well end with."""
        if self._read == self._read_head:
            return self._is_after_call or self._buffer.strip() not in ("{", '{"', self.OPEN[:1])  # a text's, too
        return self._read == self._read_text and len(self._buffer.strip()) > 1

    def _heads(self) -> Iterable[Form]:
        """How a call may begin here, up to the brace of its arguments; the group `name` is its name."""
        raise NotImplementedError

    def _tails(self) -> Iterable[Form]:
        """What may close the call."""
        raise NotImplementedError

    def _after_tail(self):
        """The reader for what comes after a call."""
        return self._read_text

    # Each reader takes what it can from the buffer, and returns None when it needs more text.

    def _read_text(self) -> list[Delta] | None:
        """Up to white space, and a mark, that may begin a call."""
        if self._is_after_call:
            self._buffer = self._buffer.lstrip()
        if not self.OPEN:
            return self._take_text(len(self._buffer)) or None
        if (at := self._buffer.find(self.OPEN)) >= 0:
            start = len(self._buffer[:at].rstrip())
            self._read = self._read_head
            return self._take_text(start)
        safe = len(self._buffer) - held_length(self._buffer, self.OPEN)
        return self._take_text(safe) if safe else None

    def _read_head(self) -> list[Delta] | None:
        """The name of a call."""
        heads = tuple(self._heads())
        for head in heads:
            if (found := head.match(self._buffer)) and found["name"] in self._names:
                self._buffer = self._buffer[found.end() :]
                self._read, self._arguments = self._read_arguments, ObjectEnd()
                return [self._start(found["name"])]
        if any(head.could_become(self._buffer) for head in heads):
            return None
        return self._no_call()

    def _read_arguments(self) -> list[Delta] | None:
        """The arguments, up to the brace that ends them."""
        if not self._buffer:
            return None
        end = self._arguments.find(self._buffer)
        text, self._buffer = self._buffer[:end], self._buffer[end:]
        if self._arguments.is_complete:
            self._read = self._read_tail
        return [CallArguments(index=self._num_calls - 1, text=text)]

    def _read_tail(self) -> list[Delta] | None:
        """The end of a call; text in its place is text."""
        for tail in self._tails():
            if found := tail.match(self._buffer):
                self._buffer, self._is_after_call = self._buffer[found.end() :], True
                self._read = self._after_tail()
                return []
        if any(tail.could_become(self._buffer) for tail in self._tails()):
            return None
        self._read = self._read_text
        return []

    def _no_call(self) -> list[Delta] | None:
        """What looked like a call was none: its mark, if there is one, is text, and so on from there.

        Inside a block no mark was looked for: the block ends here, and a mark may begin another.
        """
        self._read = self._read_text
        if self._is_inside:
            self._is_inside = False
            return []
        is_marked = self.OPEN and self._buffer.lstrip().startswith(self.OPEN)
        return self._take_text(self._buffer.index(self.OPEN) + len(self.OPEN) if is_marked else 0)

    def _start(self, name: str) -> CallStart:
        self._num_calls += 1
        return CallStart(index=self._num_calls - 1, name=name)

    def _take_text(self, length: int) -> list[Delta]:
        text, self._buffer = self._buffer[:length], self._buffer[length:]
        self._is_after_call = self._is_after_call and not text
        return [TextDelta(text=text)] if text else []
