"""Shared. Hermes: `<tool_call>{"name": "f", "arguments": {...}}</tool_call>`, as Hermes and Qwen write it.

Keys in another order, or arguments written as a JSON string, are understood as well, but only once the closing mark
has come.
"""

import json
from collections.abc import Iterable, Set

from verbatim.reference.dialects.call_parser import CallParser
from verbatim.reference.dialects.deltas import CallArguments, Delta
from verbatim.reference.dialects.forms import NAME, SPACE, Form, marked, spaced
from verbatim.reference.dialects.rules import (
    MarkIds,
    argument_rules,
    call_rules,
    grammar,
    json_head,
    mark,
    opening_rules,
)
from verbatim.reference.records.grammar_text import Grammar

OPEN, CLOSE = "<tool_call>", "</tool_call>"
HEAD = Form(*marked(OPEN, "{", '"name"', ":", '"'), NAME, '"', *spaced(",", '"arguments"', ":"), SPACE, r"(?=\{)")
TAIL = Form(*spaced("}", CLOSE))


class HermesParser(CallParser):
    """Reads Hermes's calls."""

    OPEN = OPEN

    def _heads(self) -> Iterable[Form]:
        return (HEAD,)

    def _tails(self) -> Iterable[Form]:
        return (TAIL,)

    def _no_call(self) -> list[Delta] | None:
        """The whole of a call that is written in another way, or text."""
        if (end := self._buffer.find(CLOSE)) < 0:
            return None
        end += len(CLOSE)
        call = _parse_call(self._buffer[:end].strip().removeprefix(OPEN).removesuffix(CLOSE), self._names)
        if call is None:
            return super()._no_call()
        self._read = self._read_text
        self._buffer, self._is_after_call = self._buffer[end:], True
        return [self._start(call[0]), CallArguments(index=self._num_calls - 1, text=call[1])]


def hermes_grammar(tools: list[dict], mark_ids: MarkIds, *, is_forced: bool, is_parallel: bool) -> Grammar:
    """What an assistant with these tools may write: text and then calls, or calls alone where they are forced.

    From the moment a call is opened, its name is one of the tools' and its arguments fit that tool's schema.
    """
    if is_parallel:
        start = "mark call more*" if is_forced else "(open call)* TEXT?"
    else:
        start = "mark call" if is_forced else "(open call | TEXT)?"
    close = f'"}}\\n" {mark(CLOSE, mark_ids)}'

    def call(name: str, arguments: str) -> str:
        head = json.dumps("\n" + json_head(name, "arguments"))
        return f"{head} {arguments} {close}"

    return grammar(
        f"start: {start}",
        'more: "\\n" mark call',
        *opening_rules(OPEN, mark_ids),
        *call_rules(tools, call),
        *argument_rules(tools),
    )


def _parse_call(text: str, names: Set[str]) -> tuple[str, str] | None:
    """Name and arguments of a call that is there in full; None if it is none."""
    try:
        call = json.loads(text)
        arguments = call.get("arguments", {})
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
    except (ValueError, AttributeError, RecursionError):
        return None
    if call.get("name") not in names or not isinstance(arguments, dict):
        return None
    return call["name"], json.dumps(arguments)
