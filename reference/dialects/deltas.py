"""Shared. What a dialect's parser says: plain text, the start of a call, more of its arguments.

However a text is cut into pieces, the deltas joined are the same. Arguments are JSON text, not parsed.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """Text that is not part of a call."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ThoughtDelta:
    """Text of a thought, which stands in front of the answer."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStart:
    """A call begins: `index` counts calls from 0, `name` is one of the tools' names."""

    index: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallArguments:
    """More of a call's arguments; joined they are one JSON object, unless the answer was cut short."""

    index: int
    text: str


Delta = TextDelta | ThoughtDelta | CallStart | CallArguments


class DialectParser(Protocol):
    """What every dialect implements; one parser reads one answer."""

    def push(self, text: str) -> list[Delta]:
        """What new text adds, as far as it can be told."""

    def finish(self, *, is_cut: bool = False) -> list[Delta]:
        """What was held back, once no more text can come; `is_cut` if only a bound ended it."""


def joined(deltas: list[Delta]) -> list[Delta]:
    """The same deltas with neighbouring texts in one."""
    result: list[Delta] = []
    for delta in deltas:
        if result and isinstance(delta, TextDelta) and isinstance(result[-1], TextDelta):
            result[-1] = TextDelta(text=result[-1].text + delta.text)
        else:
            result.append(delta)
    return result
