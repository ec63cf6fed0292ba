"""Shared. The grammar of formats in which calls are written as in Python (python_format.py).

Names are known and arguments fit. Arguments come in the order of the schema's properties, and no others than those; a
boolean or null by itself is written as Python does, inside of other values as JSON does. Where a schema says more of
the arguments as a whole than these rules can hold, UnsupportedError names the keyword.
"""

import json
import re

from verbatim.reference.dialects.forms import SPACE
from verbatim.reference.dialects.literals import KEY
from verbatim.reference.dialects.parameters import PLAIN, chain_rules, check, definitions, narrowed
from verbatim.reference.dialects.python_format import PythonFormat
from verbatim.reference.dialects.rules import (
    MarkIds,
    any_name,
    call_rules,
    expression,
    grammar,
    mark,
    opening_rules,
    text_without,
)
from verbatim.reference.dialects.schema_branches import branches
from verbatim.reference.records.grammar_text import Grammar, json_rule


def keyword_arguments(schema: dict) -> tuple[dict, list[str]]:
    """What of a schema keyword arguments can hold, and the keywords and properties that they cannot."""
    return narrowed(schema, is_keyword, lambda value, path: [])


def is_keyword(key: str) -> bool:
    """Whether a property's name can be a keyword."""
    return re.fullmatch(KEY, key) is not None


def python_grammar(
    form: PythonFormat, tools: list[dict], mark_ids: MarkIds, *, is_forced: bool, is_parallel: bool
) -> Grammar:
    """Calls, or text where they are not forced."""
    build = _bare_rules if form.is_bare else _marked_rules
    return grammar(*build(form, tools, mark_ids, is_forced, is_parallel), *_argument_rules(form, tools))


def _bare_rules(
    form: PythonFormat, tools: list[dict], mark_ids: MarkIds, is_forced: bool, is_parallel: bool
) -> list[str]:
    """Calls where an answer begins, or behind a mark where the format has one."""
    space = "" if is_forced else r"[ \n]{0,8}"  # a call that is forced begins at once
    calls = 'first (", " call)* "]"' if is_parallel else 'first "]"'
    listed = rf"{SPACE}\[{SPACE}{any_name(tools)}\((?s:.*)"

    def first(name: str, arguments: str) -> str:
        return f'/{space}\\[{expression(name)}\\(/ {arguments} ")"'

    rules = [*call_rules(tools, first, "first"), *call_rules(tools, _call)]
    if not form.opening:
        return [f"start: {calls}" if is_forced else f"start: ({calls} | TEXT)?", text_without(listed), *rules]
    opening = expression(form.opening)
    text = text_without(f"(?s:.*){opening}(?s:.*)", listed)
    opened = "open: TEXT? mark"
    if form.opening not in mark_ids:  # the same, without a lazy rule that would go on beyond a list's beginning
        opened = f"open: OPEN\nOPEN: /(?s:.*){opening}/ & ~/(?s:.*){opening}(?s:.+)/ & ~/{listed}/"
    marked = f"{_block(form, is_parallel)} {_optional(form.closing, mark_ids)}"
    start = f"mark {marked} | {calls}" if is_forced else f"(open {marked} | {calls} | TEXT)?"
    return [f"start: {start}", f"mark: {mark(form.opening, mark_ids)}", opened, text, *rules]


def _marked_rules(
    form: PythonFormat, tools: list[dict], mark_ids: MarkIds, is_forced: bool, is_parallel: bool
) -> list[str]:
    """Calls between marks."""
    block = f"{_block(form, is_parallel)} gap {mark(form.closing, mark_ids)}"
    free = f"(open {block})* TEXT?" if is_parallel else f"(open {block} | TEXT)?"
    return [
        f"start: mark {block}" if is_forced else f"start: {free}",
        *opening_rules(form.opening, mark_ids),
        "gap: GAP?\nGAP: /[ \\n]{1,2}/",
        *call_rules(tools, _call),
    ]


def _block(form: PythonFormat, is_parallel: bool) -> str:
    if form.is_listed:
        return '"[" call (", " call)* "]"' if is_parallel else '"[" call "]"'
    return 'gap call ("\\n" call)*' if is_parallel else "gap call"


def _optional(text: str, mark_ids: MarkIds) -> str:
    return f"({mark(text, mark_ids)})?" if text else ""


def _call(name: str, arguments: str) -> str:
    return f'{json.dumps(name + "(")} {arguments} ")"'


def _argument_rules(form: PythonFormat, tools: list[dict]) -> list[str]:
    rules = []
    for part, tool in enumerate(tools):
        function = tool["function"]
        check(function, is_keyword, form.name)
        shared = definitions(function.get("parameters", {}))

        def argument(key: str, schema: dict | bool, shared: dict = shared) -> str:
            return f"{json.dumps(key + '=', ensure_ascii=False)} {_value_rule(schema, shared)}"

        rules += chain_rules(f"arguments_{part}", function, argument, '", "')
    return rules


def _value_rule(schema: dict | bool, shared: dict) -> str:
    """A value of a schema, or of one of its alternatives."""
    parts = list(branches(schema, shared))
    if len(parts) < 2:
        return _literal(schema, shared)
    return f"({' | '.join(_literal(part, shared) for part in parts)} | {_json(schema, shared)})"


def _literal(schema: dict | bool, shared: dict) -> str:
    value_type = schema.get("type") if isinstance(schema, dict) and PLAIN.issuperset(schema) else None
    if value_type == "boolean":
        return '("True" | "False")'
    return '"None"' if value_type == "null" else _json(schema, shared)


def _json(schema: dict | bool, shared: dict) -> str:
    return f"({json_rule(shared | schema if isinstance(schema, dict) else {'anyOf': [schema]})})"
