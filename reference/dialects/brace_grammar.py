"""Shared. The grammar of formats with braces and bare keys (brace_format.py).

Names are known, required parameters are there, values fit their types. Keys come in the alphabet's order, as the
templates of these models write them. What a schema says further of a string, a list or an object cannot be held, and is
named.
"""

import json
import re
from collections.abc import Iterator

from verbatim.reference.dialects.brace_format import BARE_KEY, BraceFormat
from verbatim.reference.dialects.parameters import chain_rules, check, definitions, narrowed, refuse
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
from verbatim.reference.records.grammar_text import Grammar, json_rule
from verbatim.reference.records.schema_form import children

UNHELD = frozenset((
    *BINDING, "uniqueItems", "contains", "prefixItems", "patternProperties", "minProperties",
    "maxProperties", "propertyNames", "dependentRequired", "dependentSchemas",
))  # fmt: skip
MAX_DEPTH = 16


def brace_narrowed(schema: dict) -> tuple[dict, list[str]]:
    """What of a schema braces can hold, and the paths of what they cannot."""
    return narrowed(schema, is_key, lambda value, path: [f"{path}.{word}" for word in _unheld(value)])


def is_key(key: str) -> bool:
    """Whether a property's name can stand bare."""
    return BARE_KEY.fullmatch(key + ":") is not None and key == key.strip()


def _unheld(schema: dict) -> list[str]:
    """The keywords of a parameter's schema that cannot be held, or under which there is such a keyword."""
    inner = [key for key, _, child in children(schema) if isinstance(child, dict) and _unheld(child)]
    unnamed = ["properties"] if not all(map(is_key, schema.get("properties", {}))) else []
    return list(dict.fromkeys([word for word in schema if word in UNHELD] + inner + unnamed))


def brace_grammar(
    form: BraceFormat, tools: list[dict], mark_ids: MarkIds, *, is_forced: bool, is_parallel: bool
) -> Grammar:
    """Text and then calls, or calls alone where they are forced."""

    def call(name: str, arguments: str) -> str:
        return f'{json.dumps(f"call:{name}{{")} {arguments} "}}" {mark(form.closing, mark_ids)}'

    rules = _Rules(form, mark_ids)
    return grammar(
        start_rule("call", is_forced=is_forced, is_parallel=is_parallel),
        *opening_rules(form.opening, mark_ids),
        *rules.shared(),
        *call_rules(tools, call),
        *(rule for part, tool in enumerate(tools) for rule in rules.of_function(part, tool["function"])),
    )


class _Rules:
    """The rules of values."""

    def __init__(self, form: BraceFormat, mark_ids: MarkIds):
        self._form, self._quote = form, mark(form.quote, mark_ids)
        self._has_id = form.quote in mark_ids
        self._num_objects = 0

    def shared(self) -> Iterator[str]:
        """Strings and values of any type."""
        quote = expression(self._form.quote)
        if self._has_id:
            yield f"string: {self._quote} INNER? {self._quote}"
            yield text_without(f"(?s:.*){quote}(?s:.*)").replace("TEXT:", "INNER:", 1)
        else:
            yield f"string: {self._quote} inner\ninner[lazy]: /(?s:.*){quote}/"
        yield f"any: string | ({json_rule({'type': ['number', 'boolean', 'null']})}) | any_list | any_object"
        yield 'any_list: "[" (any ("," any)*)? "]"'
        yield 'any_object: "{" (member ("," member)*)? "}"'
        yield "member: KEY any\nKEY: /[A-Za-z_][A-Za-z0-9_]{0,63}:/"

    def of_function(self, part: int, function: dict) -> list[str]:
        """The rules of a function's arguments."""
        check(function, is_key, self._form.name)
        root = function.get("parameters", {})
        for value in root.get("properties", {}).values():
            for word in _unheld(value) if isinstance(value, dict) else ():
                refuse(word, function["name"], self._form.name)
        return self._object(f"arguments_{part}", root, root, 0)

    def _object(self, name: str, schema: dict, root: dict, depth: int) -> list[str]:
        further: list[str] = []

        def member(key: str, value: dict | bool) -> str:
            return f"{json.dumps(key + ':', ensure_ascii=False)} ({self._value(value, root, depth + 1, further)})"

        properties = schema.get("properties", {})
        ordered = {key: properties[key] for key in sorted(properties, key=str.lower)}
        rules = chain_rules(name, {"parameters": schema | {"properties": ordered}}, member, '","')
        return [*rules, *further]

    def _value(self, schema: dict | bool, root: dict, depth: int, further: list[str]) -> str:
        if depth > MAX_DEPTH:
            return "any"
        return " | ".join(self._branch(part, root, depth, further) for part in branches(schema, root))

    def _branch(self, schema: dict, root: dict, depth: int, further: list[str]) -> str:
        types = types_of(schema, root)
        if is_listed(schema):
            listed = schema["enum"] if "enum" in schema else [schema["const"]]
            return " | ".join(self._listed(value) for value in listed)
        if types == {"string"}:
            return "string"
        if types == {"array"}:
            item = self._value(schema.get("items", True), root, depth + 1, further)
            return _list(f"({item})", schema.get("minItems", 0), schema.get("maxItems"))
        if types == {"object"} and schema.get("properties"):
            self._num_objects += 1
            name = f"object_{self._num_objects}"
            further += self._object(name, schema, root, depth)
            return f'"{{" {name} "}}"'
        if types == {"object"}:
            return "any_object"
        is_plain = types and not types & {"string", "array", "object"}
        return f"({json_rule(definitions(root) | schema)})" if is_plain else "any"

    def _listed(self, value: object) -> str:
        if isinstance(value, str):
            return f"{self._quote} {json.dumps(value, ensure_ascii=False)} {self._quote}"
        return f"({json_rule({'const': value})})" if not isinstance(value, list | dict) else "any"


def _list(item: str, least: int, most: int | None) -> str:
    """The rule of a list of at least and at most so many items."""
    if most == 0:
        return '"[" "]"'
    further = f"{{{max(least - 1, 0)},{'' if most is None else most - 1}}}"
    return f'"[" ({item} ("," {item}){further}){"" if least else "?"} "]"'


def quotes(form: BraceFormat) -> tuple[str, ...]:
    """The marks of a format that may be control tokens."""
    return tuple(word for word in (form.opening, form.closing, form.quote) if re.fullmatch("<.*>", word))
