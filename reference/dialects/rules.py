"""Shared. The rules that the dialects' Lark grammars have in common: text up to a mark, one rule a tool.

A mark that is a control token of the model's tokenizer is written by its id, `<[5]>`; its characters spelled out in
text are refused, since a parser could not tell the two apart. Any other mark is text.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping

from verbatim.reference.records.grammar_text import PREAMBLE, Grammar, GrammarSyntax, json_rule
from verbatim.reference.records.schema_form import closed, names_all

# The schema of a function that names no parameters: as in OpenAI's API it takes none.
NO_PARAMETERS = {"properties": {}, "additionalProperties": False}
MarkIds = Mapping[str, int]  # the control tokens among a dialect's marks


def grammar(*rules: str) -> Grammar:
    """The grammar of these rules, which begin with `start`."""
    return Grammar(syntax=GrammarSyntax.LARK, source=PREAMBLE + "\n".join(rules), field="tools")


def calls_or_json(calls: Grammar, content: Grammar) -> Grammar:
    """Calls alone, as a grammar of forced ones has them, or else JSON of the schema `content` and no call."""
    rules = calls.source.removeprefix(PREAMBLE).replace("start:", "calls:", 1)
    choice = f"start: calls | content\ncontent: {json_rule(json.loads(content.source))}"
    return Grammar(syntax=GrammarSyntax.LARK, source=f"{PREAMBLE}{choice}\n{rules}", field=content.field)


def mark(text: str, mark_ids: MarkIds) -> str:
    """A mark as it stands in a rule."""
    return f"<[{mark_ids[text]}]>" if text in mark_ids else json.dumps(text)


def expression(text: str) -> str:
    """The regular expression that means just this text, for between slashes."""
    return re.escape(text).replace(r"\ ", " ").replace("/", r"\/").replace("\n", r"\n")


def json_head(name: str, key: str) -> str:
    """The beginning of a call that is one JSON object, up to the arguments, which stand under `key`."""
    return f'{{"name": {json.dumps(name)}, "{key}": '


def text_without(*expressions: str) -> str:
    """The terminal TEXT: anything that none of these expressions matches as a whole."""
    return " & ".join(["TEXT: /(?s:.+)/", *(f"~/{expression}/" for expression in expressions)])


def opening_rules(text: str, mark_ids: MarkIds) -> list[str]:
    """`mark`, the mark alone; `open`, text up to the mark and with it; TEXT without the mark."""
    opening = "open: TEXT? mark" if text in mark_ids else f"open[lazy]: /(?s:.*){expression(text)}/"
    return [f"mark: {mark(text, mark_ids)}", opening, text_without(f"(?s:.*){expression(text)}(?s:.*)")]


def start_rule(block: str, *, is_forced: bool, is_parallel: bool, between: str = "") -> str:
    """Text and then blocks behind their mark, or blocks alone where they are forced: one, or several in parallel.

    `between` stands between two of them where they are forced; elsewhere any text does.
    """
    if is_parallel:
        return f"start: mark {block} ({between} mark {block})*" if is_forced else f"start: (open {block})* TEXT?"
    return f"start: mark {block}" if is_forced else f"start: (open {block} | TEXT)?"


def call_rules(tools: list[dict], call: Callable[[str, str], str], name: str = "call") -> list[str]:
    """The rule `name`, one of the tools; `call(function, arguments)` writes what one of them looks like."""
    parts = range(len(tools))
    rules = [f"{name}: {' | '.join(f'{name}_{part}' for part in parts)}"]
    for part, tool in enumerate(tools):
        rules.append(f"{name}_{part}: {call(tool['function']['name'], f'arguments_{part}')}")
    return rules


def argument_rules(tools: list[dict]) -> Iterable[str]:
    """`arguments_0` and so on: JSON objects of the tools' schemas."""
    for part, tool in enumerate(tools):
        schema = tool["function"].get("parameters", NO_PARAMETERS)
        schema = closed(schema)
        if names_all(schema):
            schema = schema | {"additionalProperties": False}  # no parameter that nobody has named
        yield f"arguments_{part}: {json_rule({'type': 'object'} | schema)}"


def any_name(tools: list[dict]) -> str:
    """The regular expression of the tools' names."""
    return "(?:" + "|".join(expression(tool["function"]["name"]) for tool in tools) + ")"
