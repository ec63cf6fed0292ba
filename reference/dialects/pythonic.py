"""Shared. Pythonic: `[f(a=1, b="x"), g()]`, as Llama 3.2, Llama 4 and Gorilla's followers write it.

A list is made of calls where an answer begins with it. A call counts once its closing parenthesis is there and the
mark behind it, so its arguments come all at once. They have keywords, and values that are JSON or Python literals.
"""

import json
import re
from collections.abc import Set

from verbatim.reference.dialects.call_parser import CallParser
from verbatim.reference.dialects.deltas import CallArguments, Delta
from verbatim.reference.dialects.forms import NAME, SPACE, Form, spaced
from verbatim.reference.dialects.literals import KEY, CallEnd, arguments_to_json
from verbatim.reference.dialects.rules import MarkIds, any_name, call_rules, expression, grammar, text_without
from verbatim.reference.records.errors import RequestError, UnsupportedError
from verbatim.reference.records.grammar_text import Grammar, json_rule

FIRST = Form(*spaced("["), SPACE, NAME, r"\(")
NEXT = Form(*spaced(","), SPACE, NAME, r"\(")
BEHIND = Form(SPACE, r"[\],]")
LIST_TAIL, LIST_TAIL_WITH_COMMA = Form(*spaced("]")), Form(*spaced(",", "]"))
# What a schema may say of the arguments as a whole; anything else could not be held, so it is refused.
PLAIN = frozenset(("type", "title", "description", "default", "examples", "$comment"))
HELD = PLAIN | frozenset(("properties", "required", "additionalProperties", "$schema", "$defs", "definitions"))


class PythonicParser(CallParser):
    """Reads lists of calls."""

    def __init__(self, names: Set[str]):
        super().__init__(names)
        self._read = self._read_head
        self._name, self._end = "", CallEnd(0)

    def _has_begun_call(self) -> bool:
        """A list that begins with a tool's name, or with the beginning of one."""
        if self._read != self._read_head:
            return self._read == self._read_call
        name = self._buffer.strip().removeprefix("[" if not self._is_after_call else ",").strip()
        return self._is_after_call or any(name and f"{tool}(".startswith(name) for tool in self._names)

    def _read_head(self) -> list[Delta] | None:
        """The name of a call, which is kept until all of it is there; or the end of the list."""
        tails = (LIST_TAIL, LIST_TAIL_WITH_COMMA) if self._is_after_call else ()
        head = NEXT if self._is_after_call else FIRST
        if end := next(filter(None, (tail.match(self._buffer) for tail in tails)), None):
            self._buffer, self._read = self._buffer[end.end() :], self._read_text
            return []
        if (found := head.match(self._buffer)) and found["name"] in self._names:
            self._name, self._end = found["name"], CallEnd(found.end())
            self._read = self._read_call
            return []
        if any(form.could_become(self._buffer) for form in (head, *tails)):
            return None
        return self._no_call()

    def _read_call(self) -> list[Delta] | None:
        """A whole call, or text if it is none after all."""
        self._end.scan(self._buffer)
        if not self._end.is_complete:
            return None
        rest = self._buffer[self._end.cuts[-1] :]
        is_listed = BEHIND.match(rest) is not None
        if not is_listed and BEHIND.could_become(rest):
            return None
        arguments = arguments_to_json(self._end.arguments(self._buffer)) if is_listed else None
        if arguments is None:
            return self._no_call()
        self._buffer, self._is_after_call, self._read = rest, True, self._read_head
        return [self._start(self._name), CallArguments(index=self._num_calls - 1, text=arguments)]


def keyword_arguments(schema: dict) -> tuple[dict, list[str]]:
    """What of a schema keyword arguments can hold, and the keywords and properties that they cannot."""
    properties = {key: value for key, value in schema.get("properties", {}).items() if re.fullmatch(KEY, key)}
    required = [key for key in schema.get("required", []) if key in properties]
    kept = {key: value for key, value in schema.items() if key in HELD} | {"properties": properties}
    kept |= {"required": required} if required else {}
    lost = [f"properties.{key}" for key in schema.get("properties", {}) if key not in properties]
    lost += ["required"] if len(required) < len(schema.get("required", [])) else []
    return kept, [*(key for key in schema if key not in HELD), *lost]


def pythonic_grammar(tools: list[dict], mark_ids: MarkIds, *, is_forced: bool, is_parallel: bool) -> Grammar:
    """Calls, or text where they are not forced; names are known and arguments fit.

    Arguments come in the order of the schema's properties, and no others than those; a boolean or null by itself is
    written as Python does, inside of other values as JSON does. Where a schema says more of the arguments as a whole
    than these rules can hold, UnsupportedError names the keyword.
    """
    calls = 'first (", " call)* "]"' if is_parallel else 'first "]"'
    space = "" if is_forced else r"[ \n]{0,8}"  # a call that is forced begins at once

    def first(name: str, arguments: str) -> str:
        return f'/{space}\\[{expression(name)}\\(/ {arguments} ")"'

    def call(name: str, arguments: str) -> str:
        return f'{json.dumps(name + "(")} {arguments} ")"'

    return grammar(
        f"start: {calls}" if is_forced else f"start: ({calls} | TEXT)?",
        text_without(rf"{SPACE}\[{SPACE}{any_name(tools)}\((?s:.*)"),
        *call_rules(tools, first, "first"),
        *call_rules(tools, call),
        *(rule for part, tool in enumerate(tools) for rule in _keyword_rules(f"arguments_{part}", tool["function"])),
    )


def _keyword_rules(name: str, function: dict) -> list[str]:
    """Rules for keyword arguments: `name_i_begun` is what may come from property i on, a comma in front of it."""
    schema = function.get("parameters", {})
    properties, required = schema.get("properties", {}), schema.get("required", [])
    _check(schema, properties, required, function["name"])
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    rules = [f"{name}: {name}_0"]
    for index, (key, value) in enumerate(properties.items()):
        rest, is_required = f"{name}_{index + 1}", key in required
        for state, comma in (("", ""), ("_begun", '", " ')):
            skipped = "" if is_required else f" | {rest}{state}"
            rules.append(f"{name}_{index}{state}: {comma}{name}_{index}_value {rest}_begun{skipped}")
        rules.append(f"{name}_{index}_value: {json.dumps(key + '=', ensure_ascii=False)} {_value_rule(value, shared)}")
    last = f"{name}_{len(properties)}"
    return [*rules, f'{last}: ""', f'{last}_begun: ""']


def _value_rule(schema: dict | bool, shared: dict) -> str:
    value_type = schema.get("type") if isinstance(schema, dict) and PLAIN.issuperset(schema) else None
    if value_type == "boolean":
        return '("True" | "False")'
    if value_type == "null":
        return '"None"'
    return f"({json_rule(shared | schema if isinstance(schema, dict) else {'anyOf': [schema]})})"


def _check(schema: dict, properties: dict, required: list, name: str) -> None:
    """Refuse by name what keyword arguments cannot hold."""
    if not isinstance(properties, dict) or not isinstance(required, list):
        raise RequestError(f"tools: the parameters of {name} are no JSON schema", field="tools", code="invalid_type")
    unknown = [key for key in schema if key not in HELD]
    unnamed = [key for key in (*properties, *required) if key not in properties or not re.fullmatch(KEY, key)]
    for key in (*unknown, *unnamed):
        message = f"tools: {key!r} in the parameters of {name} cannot be held with pythonic tool calls"
        raise UnsupportedError(message, field="tools")
