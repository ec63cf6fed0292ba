"""Shared. The grammar of formats whose arguments are JSON (json_format.py): names are known and arguments fit."""

import json

from verbatim.reference.dialects.forms import SPACE
from verbatim.reference.dialects.json_format import NUMBER, JsonFormat
from verbatim.reference.dialects.rules import (
    MarkIds,
    argument_rules,
    call_rules,
    grammar,
    mark,
    opening_rules,
    start_rule,
    text_without,
)
from verbatim.reference.records.grammar_text import Grammar


def json_grammar(
    form: JsonFormat, tools: list[dict], mark_ids: MarkIds, *, is_forced: bool, is_parallel: bool
) -> Grammar:
    """Text and then calls, or calls alone where they are forced."""
    item, has_block = form.item, bool(form.block[0] or form.begin)
    opening = item.opening if has_block else item.opening[1:]

    def written(*pieces: str) -> str:
        return " ".join("/[0-9]{1,4}/" if piece == NUMBER else mark(piece, mark_ids) for piece in pieces if piece)

    def call(name: str, arguments: str) -> str:
        head = f"{written(*opening)} {json.dumps(name)} {written(*item.named)}"
        return f"{head} {arguments} {written(*item.closing)}"

    rules = [*call_rules(tools, call), *argument_rules(tools)]
    if not has_block:
        between = written(form.between)
        start = start_rule("call", is_forced=is_forced, is_parallel=is_parallel, between=between)
        return grammar(start, *opening_rules(form.opening, mark_ids), *rules)
    more = f"({written(form.between)} call)*" if is_parallel else ""
    calls = f"{written(form.begin)} call {more} {written(form.end, form.block[1])}"
    if form.opening:
        start = start_rule(f"({calls})", is_forced=is_forced, is_parallel=False)
        return grammar(start, *opening_rules(form.opening, mark_ids), *rules)
    start = f"start: {calls}" if is_forced else f"start: ({calls} | TEXT)?"
    return grammar(start, text_without(rf"{SPACE}\[{SPACE}\{{(?s:.*)"), *rules)
