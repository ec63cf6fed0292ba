"""Shared. Functionary: `<function=f>{...}</function>`, as functionary 3.1 and Llama 3.1's own style write it."""

import json
from collections.abc import Iterable

from verbatim.reference.dialects.call_parser import CallParser
from verbatim.reference.dialects.forms import NAME, SPACE, Form, marked, spaced
from verbatim.reference.dialects.rules import MarkIds, argument_rules, call_rules, grammar, opening_rules
from verbatim.reference.records.grammar_text import Grammar

OPEN, CLOSE = "<function=", "</function>"
HEAD = Form(*marked(OPEN), NAME, ">", SPACE, r"(?=\{)")
TAIL = Form(*spaced(CLOSE))


class FunctionaryParser(CallParser):
    """Reads functionary's calls, of which several stand one after the other."""

    OPEN = OPEN

    def _heads(self) -> Iterable[Form]:
        return (HEAD,)

    def _tails(self) -> Iterable[Form]:
        return (TAIL,)


def functionary_grammar(tools: list[dict], mark_ids: MarkIds, *, is_forced: bool, is_parallel: bool) -> Grammar:
    """Text and then calls, or calls alone where they are forced; names are known and arguments fit."""
    if is_parallel:
        start = "(mark call)+" if is_forced else "(open call)* TEXT?"
    else:
        start = "mark call" if is_forced else "(open call | TEXT)?"

    def call(name: str, arguments: str) -> str:
        return f"{json.dumps(name + '>')} {arguments} {json.dumps(CLOSE)}"

    return grammar(f"start: {start}", *opening_rules(OPEN, mark_ids), *call_rules(tools, call), *argument_rules(tools))
