"""Grammars that a request brings along, under the names that other servers gave them, for chat and for completions.

`guided_json` takes a JSON schema, `guided_regex` a regular expression, `guided_choice` a list of texts, and
`guided_grammar` a grammar in Lark's notation. `structured_outputs` is an object with any of them, named `json`,
`regex`, `choice` or `grammar`, or with `json_object`. A request has a single grammar or none.
"""

import json
from typing import Any

from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.grammar_text import PREAMBLE, Grammar, GrammarSyntax, json_object, json_schema
from verbatim.server.api.fields import Field, Fields, Object
from verbatim.server.api.schemas import held_schema
from verbatim.server.api.value_types import BOOLEAN, OBJECT, STRING, ValueType, array, of_type, type_error

MAX_CHOICES = 1024
FIELD = "structured_outputs"


def _read_schema(value: Any, path: str) -> Grammar:
    if type(value) is str:  # some clients send the schema as text
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise RequestError(f"{path} is no JSON", field=path, code="invalid_value") from None
    return json_schema(held_schema(of_type(path, value, dict), path, must_hold=True), path)


def _read_regex(value: Any, path: str) -> Grammar:
    return Grammar(syntax=GrammarSyntax.REGEX, source=of_type(path, value, str), field=path)


def _read_choice(value: Any, path: str) -> Grammar:
    texts = of_type(path, value, list)
    if not 1 <= len(texts) <= MAX_CHOICES:
        message = f"{path} must have 1 to {MAX_CHOICES} texts, not {len(texts)}"
        raise RequestError(message, field=path, code="invalid_value")
    for index, text in enumerate(texts):
        if type(text) is not str:
            raise type_error(f"{path}[{index}]", text, "a string")
    alternatives = " | ".join(json.dumps(text, ensure_ascii=False) for text in texts)
    return Grammar(syntax=GrammarSyntax.LARK, source=f"{PREAMBLE}start: {alternatives}", field=path)


def _read_grammar(value: Any, path: str) -> Grammar:
    return Grammar(syntax=GrammarSyntax.LARK, source=of_type(path, value, str), field=path)


def _grammars(prefix: str) -> tuple[Field, ...]:
    schema = ValueType(_read_schema, {"anyOf": [OBJECT.schema, STRING.schema]})
    choices = ValueType(_read_choice, array(STRING, MAX_CHOICES, 1).schema)
    return (
        Field(f"{prefix}json", schema, "The answer is JSON of this schema.", example={"type": "object"}),
        Field(f"{prefix}regex", ValueType(_read_regex, STRING.schema), "It matches this.", example="[0-9]+"),
        Field(f"{prefix}choice", choices, "It is one of these texts.", example=["yes", "no"]),
        Field(f"{prefix}grammar", ValueType(_read_grammar, STRING.schema), "It fits this grammar in Lark's notation.",
              example='start: "yes" | "no"'),
    )  # fmt: skip


OWN, NESTED = _grammars("guided_"), _grammars("")
OPTIONS = Object(*NESTED, Field("json_object", BOOLEAN, "The answer is any JSON object.", default=False))
GUIDED = (*OWN, Field(FIELD, OPTIONS, "The same grammars, in one object.", example={"regex": "[0-9]+"}))


def take_guided(fields: Fields) -> Grammar | None:
    """The grammar that the answer must fit, or None for free text."""
    found = [fields[field.name] for field in OWN]
    if (options := fields[FIELD]) is not None:
        found += [options[field.name] for field in NESTED]
        if options["json_object"]:
            found.append(json_object(f"{FIELD}.json_object"))
        options.done()
        if not any(found):
            raise RequestError(f"{FIELD} must hold a grammar", field=FIELD, code="invalid_value")
    return only_one(*found)


def only_one(*grammars: Grammar | None) -> Grammar | None:
    """The one grammar among these. RequestError if there are two: an answer cannot be held to both."""
    found = [grammar for grammar in grammars if grammar is not None]
    if len(found) > 1:
        first, second = found[0].field, found[1].field
        message = f"{first} and {second} both say what the answer must fit; give one of them"
        raise RequestError(message, field=second, code="invalid_parameter_combination")
    return found[0] if found else None
