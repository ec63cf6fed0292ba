"""Shared. The grammar of formats with parameters between marks (xml_format.py).

Names are known, parameters come in the order of the schema, required ones are there. A string is any text without the
closing mark, or one of the schema's `enum`; other values are JSON of their schema. What a schema says further of a
string (`pattern`, `minLength`, ...) such text cannot hold: it is named, and left to the model or refused.
"""

import json
import re
from typing import Any

from verbatim.reference.dialects.parameters import PLAIN, chain_rules, check, definitions, narrowed, refuse
from verbatim.reference.dialects.rules import (
    MarkIds,
    call_rules,
    expression,
    grammar,
    mark,
    opening_rules,
    start_rule,
    text_without,
)
from verbatim.reference.dialects.schema_branches import BINDING, branches, is_listed
from verbatim.reference.dialects.typed_values import types_of
from verbatim.reference.dialects.xml_format import KEY, XmlFormat
from verbatim.reference.records.grammar_text import Grammar, json_rule
from verbatim.reference.records.schema_form import closed

PYTHONS = {"boolean": '("true" | "false" | "True" | "False")', "null": '("null" | "None")'}  # as some templates write
GAP, PAD = "gap: GAP?\nGAP: /\\n{1,2}/", 'pad: "\\n"?'


def xml_narrowed(schema: dict) -> tuple[dict, list[str]]:
    """What of a schema parameters between marks can hold, and the paths of what they cannot."""
    return narrowed(schema, is_key, lambda value, path: [f"{path}.{word}" for word in unheld(value, schema)])


def is_key(key: str) -> bool:
    """Whether a parameter's name can stand between marks."""
    return re.fullmatch(KEY, key) is not None and key == key.strip()


def unheld(schema: Any, root: dict) -> list[str]:
    """The keywords of a parameter's schema that bind its text and cannot be held."""
    parts = list(branches(schema, root)) if isinstance(schema, dict) else []
    if not any("string" in types_of(part, root) and not is_listed(part) for part in parts):
        return []
    direct = [word for word in schema if word in BINDING]
    inner = any(word in BINDING for part in parts for word in part) and not direct
    return direct + [word for word in ("$ref", "allOf", "anyOf", "oneOf") if inner and word in schema]


class XmlRules:
    """Writes the rules of one format for a tokenizer that has some of its marks as control tokens."""

    def __init__(self, form: XmlFormat, mark_ids: MarkIds):
        self._format, self._mark_ids = form, mark_ids
        self._close = self._word(form.parameter_close)

    def grammar(self, tools: list[dict], *, is_forced: bool, is_parallel: bool) -> Grammar:
        """Text and then calls, or calls alone where they are forced."""
        form = self._format
        words = form.call_open if form.block_open else form.call_open[1:]
        head = self._row(words) if form.block_open else " ".join(map(self._word, words))
        block_end = f"gap {self._word(form.block_close)}" if form.block_close else ""
        calls = "call+" if is_parallel and form.block_open else "call"

        def call(name: str, arguments: str) -> str:
            named = " gap ".join(map(self._word, form.call_named))
            return f"{head} {json.dumps(name)} {named} {arguments} {self._row(form.call_close)}"

        return grammar(
            start_rule("block", is_forced=is_forced, is_parallel=is_parallel, between="gap"),
            f"block: {calls} {block_end}",
            *opening_rules(form.opening, self._mark_ids),
            GAP,
            PAD,
            *self._text_rules(),
            *call_rules(tools, call),
            *(rule for part, tool in enumerate(tools) for rule in self._parameter_rules(part, tool["function"])),
        )

    def _text_rules(self) -> list[str]:
        """`text`, that of a string up to its closing mark and with it."""
        close = self._format.parameter_close
        if close not in self._mark_ids:
            return [f"text[lazy]: /(?s:.*){expression(close)}/"]
        terminal = text_without(f"(?s:.*){expression(close)}(?s:.*)").replace("TEXT:", "VALUE:", 1)
        return [f"text: VALUE? {self._close}", terminal]

    def _parameter_rules(self, part: int, function: dict) -> list[str]:
        form, root = self._format, function.get("parameters", {})
        check(function, is_key, form.name)
        for value in root.get("properties", {}).values():
            for word in unheld(value, root):
                refuse(word, function["name"], form.name)

        def parameter(key: str, schema: dict | bool) -> str:
            begun = f"gap {self._word(form.parameter_open)} {json.dumps(key, ensure_ascii=False)}"
            return f"{begun} ({self._value(schema, root)})"

        return chain_rules(f"arguments_{part}", function, parameter)

    def _value(self, schema: dict | bool, root: dict) -> str:
        """What stands behind the name of a parameter: its marks, the value, the closing mark."""
        found = list(branches(schema, root))
        texts = [part for part in found if "string" in types_of(part, root)]
        if not texts:
            return " | ".join(self._json_value(part, root) for part in found)
        if any(not is_listed(part) for part in texts):
            string = f"{self._keyed(self._format.string_keyed)} text"
            others = [part for part in found if part not in texts] if self._format.string_keyed else []
            return " | ".join((string, *(self._json_value(part, root) for part in others)))
        listed = [value for part in texts for value in (part["enum"] if "enum" in part else [part["const"]])]
        others = [{"const": value} for value in listed if not isinstance(value, str)]
        others += [part for part in found if part not in texts]
        strings = " | ".join(json.dumps(value, ensure_ascii=False) for value in listed if isinstance(value, str))
        pad = "pad" if self._format.is_padded else ""
        string = f"{self._keyed(self._format.string_keyed)} {pad} ({strings}) {pad} {self._close}"
        return " | ".join((string, *(self._json_value(part, root) for part in others)))

    def _json_value(self, schema: dict, root: dict) -> str:
        named = schema.get("type")
        rule = PYTHONS.get(named) if isinstance(named, str) and PLAIN.issuperset(schema) else None
        rule = rule or f"({json_rule(definitions(root) | closed(schema))})"
        return f"{self._keyed(self._format.json_keyed)} pad {rule} pad {self._close}"

    def _keyed(self, keyed: str) -> str:
        """The marks between the name of a parameter and its value."""
        if keyed:
            return self._word(keyed)
        first, *others = self._format.parameter_keyed
        return " gap ".join((self._word(first), *map(self._word, others)))

    def _row(self, words: tuple[str, ...]) -> str:
        """Words with white space that may stand in front of each."""
        return " ".join(f"gap {self._word(word)}" for word in words)

    def _word(self, word: str) -> str:
        return mark(word, self._mark_ids) if word else ""
