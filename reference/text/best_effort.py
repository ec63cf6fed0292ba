"""Shared. What of a JSON schema a grammar can hold: all of it, or as much as compiles, and the names of the rest.

JSON Schema says more than llguidance can hold a model to, and schemas of tools say a lot. Keywords, and whole schemas
inside of a schema, are dropped one by one until the rest compiles; what is dropped is left to the model. A schema is
tried with a vocabulary of bytes, since none of this depends on a model.
"""

import json
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from llguidance import LLMatcher, LLTokenizer

from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.grammar_text import PREAMBLE, check_schema, json_rule
from verbatim.reference.records.schema_form import MAPS, OPEN_ENDED, children, joined, replaced
from verbatim.reference.text.grammar import LIMITS, NO_TEXT, first_line

MAX_TRIES = 1000  # compilations for one schema; what is not known by then is dropped
ANY_OBJECT = {"type": "object"}
DEAD_END = "NoExtensionBias"  # llguidance's error for a grammar whose first byte does not exist
DEFINITIONS = ("$defs", "definitions")
# A schema of these alone compiles, which saves trying.
PLAIN = frozenset(("type", "properties", "required", "description", "title", "default", "additionalProperties", "items",
                   "$schema", "minimum", "maximum", "examples"))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Held:
    """The part of a schema that a grammar holds, the paths of what it does not, and why the whole cannot be held."""

    schema: dict
    dropped: tuple[str, ...] = ()
    reason: str = ""


def hold(schema: dict) -> Held:
    """As much as can be held of a normalised schema (schema_form.py)."""
    return Held(schema) if _is_plain(schema) else _hold(json.dumps(schema))


@lru_cache(512)
def _hold(source: str) -> Held:
    return _Attempt(json.loads(source)).held()


def _is_plain(schema: Any, depth: int = 8) -> bool:
    """Whether a small schema has only keywords that can always be held."""
    if isinstance(schema, bool) or depth == 0:
        return schema is True
    if not PLAIN.issuperset(schema) or not isinstance(schema.get("type", ""), str) or len(json.dumps(schema)) > 8192:
        return False
    if schema.get("minimum", 0) > schema.get("maximum", float("inf")):
        return False
    named = schema.get("properties", {})
    if not all(name in named for name in schema.get("required", ())):
        return False
    closed = schema.get("additionalProperties") is False
    inner = [child for key, _, child in children(schema) if not (closed and key == "additionalProperties")]
    return all(_is_plain(child, depth - 1) for child in inner)


@cache
def _tokenizer() -> LLTokenizer:
    return LLTokenizer("byte")


def failure(text: str) -> str:
    """Why a grammar in Lark's notation cannot be compiled within the limits, or fits no text; "" if it can."""
    try:
        matcher = LLMatcher(_tokenizer(), text, log_level=0, limits=LIMITS)
        if not matcher.is_error():
            matcher.compute_bitmask()
    except ValueError as error:
        return first_line(str(error))
    if matcher.is_error() and DEAD_END not in (text := matcher.get_error()):
        return first_line(text)
    return NO_TEXT if matcher.is_stopped() else ""


def _excess(schema: dict) -> str:
    """What makes the schema too large to compile, or ""."""
    try:
        check_schema(schema, "it")
    except RequestError as error:
        return str(error)
    return ""


class _Attempt:
    """One schema, and how it is cut down."""

    def __init__(self, schema: dict):
        self._schema = schema
        self._dropped: list[str] = []
        self._num_tries = 0
        self._shared: dict[str, dict] = {}

    def held(self) -> Held:
        schema = self._schema
        if excess := _excess(schema):
            return Held(dict(ANY_OBJECT), tuple(key for key in schema if key != "type"), excess)
        if not (reason := self._failure(schema)):
            return Held(schema)
        self._shared = {key: {name: {} for name in schema[key]} for key in DEFINITIONS if key in schema}
        for key in DEFINITIONS:
            for name, child in schema.get(key, {}).items():
                schema = replaced(schema, key, name, self._cut(child, joined("", key, name)))
        self._shared = {key: schema[key] for key in DEFINITIONS if key in schema}
        schema = self._cut({key: value for key, value in schema.items() if key not in DEFINITIONS}, "") | self._shared
        if not self._is_fine(schema):
            schema = self._coarse(schema)
        return Held(schema, tuple(self._dropped), f"it cannot be compiled: {reason}")

    def _is_fine(self, schema: Any) -> bool:
        return not self._failure(schema)

    def _failure(self, schema: Any) -> str:
        self._num_tries += 1
        if self._num_tries > MAX_TRIES:
            return f"takes more than {MAX_TRIES} tries"
        whole = self._shared | schema if isinstance(schema, dict) else {"anyOf": [schema]}
        return failure(f"{PREAMBLE}start: {json_rule(whole)}")

    def _cut(self, node: Any, path: str) -> Any:
        """The node without what cannot be held, schemas inside of it first."""
        if not isinstance(node, dict) or self._is_fine(node):
            return node
        for key, name, child in children(node):
            if key not in ("not", "if", "then", "else", "contains", "propertyNames"):
                node = replaced(node, key, name, self._cut(child, joined(path, key, name)))
        return node if self._is_fine(node) else self._by_keyword(node, path)

    def _by_keyword(self, node: dict, path: str) -> dict:
        """Keywords one by one, the type first, as long as the whole can be held."""
        kept: dict = {}
        has_opened = False
        for key in sorted(node, key=lambda key: key != "type"):
            if self._is_fine(kept | {key: node[key]}):
                kept[key] = node[key]
                continue
            self._dropped.append(joined(path, key))
            has_opened |= key in OPEN_ENDED
            if key == "oneOf" and "anyOf" not in node and self._is_fine(kept | {"anyOf": node[key]}):
                kept["anyOf"] = node[key]
        if has_opened and "properties" in kept:  # what was dropped may have named further properties
            kept.setdefault("additionalProperties", True)
        return kept

    def _coarse(self, schema: dict) -> dict:
        """Where the parts can be held, but not the whole: property by property, at last any object."""
        kept = ANY_OBJECT | self._shared | {"additionalProperties": True, "properties": {}}
        for name, child in schema.get("properties", {}).items():
            trial = replaced(kept, "properties", name, child)
            if self._is_fine(trial):
                kept = trial
            else:
                self._dropped.append(joined("properties", name))
        rest = [key for key in schema if key not in (*MAPS, "type", "additionalProperties")]
        for key in rest:
            if self._is_fine(kept | {key: schema[key]}):
                kept[key] = schema[key]
            else:
                self._dropped.append(key)
        if self._is_fine(kept):
            return kept
        self._dropped.append("$defs")
        return dict(ANY_OBJECT)


def hold_all(schemas: list[dict], max_bytes: int) -> tuple[list[dict], list[int]]:
    """Schemas that have at most so many bytes together, and which became any object for that, the longest first."""
    kept = list(schemas)
    dropped: list[int] = []
    sizes = [len(json.dumps(schema)) for schema in kept]
    for index in sorted(range(len(kept)), key=lambda index: -sizes[index]):
        if sum(sizes) <= max_bytes:
            break
        kept[index], sizes[index] = dict(ANY_OBJECT), 0
        dropped.append(index)
    return kept, dropped
