"""Grammars that a request brings along, under the names that other servers gave them, for chat and for completions.

`guided_json` takes a JSON schema, `guided_regex` a regular expression, `guided_choice` a list of texts, and
`guided_grammar` a grammar in Lark's notation. `structured_outputs` is an object with one of them, named `json`,
`regex`, `choice` or `grammar`, or with `json_object`. A request has one grammar at most.
"""

import json

from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.grammar_text import PREAMBLE, Grammar, GrammarKind, json_object, json_schema
from verbatim.server.api.fields import Fields, of_type, type_error

MAX_CHOICES = 1024
OBJECT = "structured_outputs"


def take_guided(fields: Fields) -> Grammar | None:
    """The grammar that the answer must fit, or None for free text."""
    found = _take_all(fields, "guided_")
    if fields.has(OBJECT):
        options = Fields(fields.take(OBJECT), OBJECT)
        found += _take_all(options, "")
        if options.typed("json_object", bool, False):
            found.append(json_object(f"{OBJECT}.json_object"))
        options.done()
        if not found:
            raise RequestError(f"{OBJECT} must hold a grammar", field=OBJECT, code="invalid_value")
    return only_one(*found)


def only_one(*grammars: Grammar | None) -> Grammar | None:
    """The one grammar among these. RequestError if there are two: an answer cannot be held to both."""
    found = [grammar for grammar in grammars if grammar is not None]
    if len(found) > 1:
        first, second = found[0].field, found[1].field
        message = f"{first} and {second} both say what the answer must fit; give one of them"
        raise RequestError(message, field=second, code="invalid_parameter_combination")
    return found[0] if found else None


def _take_all(fields: Fields, prefix: str) -> list[Grammar]:
    readers = {"json": _read_schema, "regex": _read_regex, "choice": _read_choice, "grammar": _read_grammar}
    names = {prefix + name: reader for name, reader in readers.items()}
    return [reader(fields.take(name), fields.where(name)) for name, reader in names.items() if fields.has(name)]


def _read_schema(value, path: str) -> Grammar:
    if type(value) is str:  # some clients send the schema as text
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise RequestError(f"{path} is no JSON", field=path, code="invalid_value") from None
    return json_schema(of_type(path, value, dict), path)


def _read_regex(value, path: str) -> Grammar:
    return Grammar(kind=GrammarKind.REGEX, source=of_type(path, value, str), field=path)


def _read_choice(value, path: str) -> Grammar:
    texts = of_type(path, value, list)
    if not 1 <= len(texts) <= MAX_CHOICES:
        message = f"{path} must have 1 to {MAX_CHOICES} texts, not {len(texts)}"
        raise RequestError(message, field=path, code="invalid_value")
    for index, text in enumerate(texts):
        if type(text) is not str:
            raise type_error(f"{path}[{index}]", text, "a string")
    alternatives = " | ".join(json.dumps(text, ensure_ascii=False) for text in texts)
    return Grammar(kind=GrammarKind.LARK, source=f"{PREAMBLE}start: {alternatives}", field=path)


def _read_grammar(value, path: str) -> Grammar:
    return Grammar(kind=GrammarKind.LARK, source=of_type(path, value, str), field=path)
