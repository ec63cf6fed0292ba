"""Shared. Mistral: `[TOOL_CALLS][{"name": "f", "arguments": {...}}, ...]`, and newer `[TOOL_CALLS]f[ARGS]{...}`.

The list's calls may carry an `id`, and the newer form a `[CALL_ID]`; both are read over, since calls get ids here.
"""

import json
from collections.abc import Iterable

from verbatim.reference.dialects.call_parser import CallParser
from verbatim.reference.dialects.deltas import Delta
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

OPEN, ARGUMENTS, CALL_ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
MARKS = (OPEN, ARGUMENTS, CALL_ID)
ITEM = (*spaced("{", '"name"', ":", '"'), NAME, '"', *spaced(",", '"arguments"', ":"), SPACE, r"(?=\{)")
FIRST, NEXT = Form(*marked(OPEN, "["), *ITEM), Form(*spaced(","), *ITEM)
NAMED = Form(*marked(OPEN), SPACE, NAME, *spaced(ARGUMENTS), SPACE, r"(?=\{)")
NAMED_WITH_ID = Form(*marked(OPEN), SPACE, NAME, *spaced(CALL_ID), SPACE, r"\w*", *spaced(ARGUMENTS), SPACE, r"(?=\{)")
ITEM_TAIL = Form(*spaced("}"))
ITEM_TAIL_WITH_ID = Form(*spaced(",", '"id"', ":", '"'), r'[^"\\]*', '"', *spaced("}"))
LIST_TAIL = Form(*spaced("]"))
NAMED_TAIL = Form("")


class MistralParser(CallParser):
    """Reads Mistral's calls, in a list or one by one."""

    OPEN = OPEN

    def _heads(self) -> Iterable[Form]:
        return (NEXT,) if self._is_inside else (FIRST, NAMED, NAMED_WITH_ID)

    def _tails(self) -> Iterable[Form]:
        return (ITEM_TAIL, ITEM_TAIL_WITH_ID) if self._is_inside else (NAMED_TAIL,)

    def _after_tail(self):
        return self._read_head if self._is_inside else self._read_text

    def _read_text(self) -> list[Delta] | None:
        """Text, where no list can be open."""
        self._is_inside = False
        return super()._read_text()

    def _read_head(self) -> list[Delta] | None:
        """A call, or the end of the list."""
        if self._is_inside and (end := LIST_TAIL.match(self._buffer)):
            self._buffer = self._buffer[end.end() :]
            self._read = self._read_text
            return []
        is_list = self._is_inside or FIRST.match(self._buffer) is not None
        deltas = super()._read_head()
        if self._read == self._read_arguments:
            self._is_inside = is_list
        return deltas


def mistral_grammar(tools: list[dict], mark_ids: MarkIds, *, is_forced: bool, is_parallel: bool) -> Grammar:
    """Text and then calls, or calls alone where they are forced; names are known and arguments fit.

    The newer form is offered where `[ARGS]` is a control token of the tokenizer.
    """
    bodies = ['list: / ?\\[/ item (", " item)* "]"' if is_parallel else 'list: / ?\\[/ item "]"']

    def item(name: str, arguments: str) -> str:
        return f'{json.dumps(json_head(name, "arguments"))} {arguments} "}}"'

    def named(name: str, arguments: str) -> str:
        call_id = f"({mark(CALL_ID, mark_ids)} /[A-Za-z0-9]{{9}}/)? " if CALL_ID in mark_ids else ""
        return f"{json.dumps(name)} {call_id}{mark(ARGUMENTS, mark_ids)} {arguments}"

    has_named = ARGUMENTS in mark_ids
    if has_named:
        bodies += ["names: named (mark named)*" if is_parallel else "names: named"]
        bodies += call_rules(tools, named, "named")
    body = "(list | names)" if has_named else "list"
    return grammar(
        f"start: mark {body}" if is_forced else f"start: (open {body} | TEXT)?",
        *opening_rules(OPEN, mark_ids),
        *bodies,
        *call_rules(tools, item, "item"),
        *argument_rules(tools),
    )
