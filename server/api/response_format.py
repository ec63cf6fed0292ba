"""`response_format`: text, any JSON object, or JSON of a schema, which a grammar in the engine holds the model to.

Responses have the same in `text.format`, where the schema's name and settings stand beside its type.
"""

import re

from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.grammar_text import Grammar, json_object, json_schema
from verbatim.server.api.fields import Fields, of_type

NAME_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")
FIELD = "response_format"
KINDS = ("text", "json_object", "json_schema")


def take_response_format(fields: Fields, messages: list[dict]) -> Grammar | None:
    """The grammar that the answer must fit, or None for free text."""
    if not fields.has(FIELD):
        return None
    options = Fields(fields.take(FIELD), FIELD)
    kind = options.one_of("type", KINDS) or options.required("type")
    grammar = None
    if kind == "json_object":
        _check_mention(messages, "messages")
        grammar = json_object()
    if kind == "json_schema":
        grammar = _read_schema(Fields(options.required("json_schema"), f"{FIELD}.json_schema"))
    options.done()
    return grammar


def take_text_format(fields: Fields, messages: list[dict]) -> tuple[Grammar | None, dict]:
    """The same out of `text`, and that field as answers repeat it."""
    text = Fields(fields.take("text", {}), "text")
    text.refuse("verbosity", "medium")
    shown = text.take("format", {"type": "text"})
    text.done()
    options, grammar = Fields(shown, "text.format"), None
    kind = options.one_of("type", KINDS) or options.required("type")
    if kind == "json_object":
        _check_mention(messages, "input")
        grammar = json_object("text.format")
    if kind == "json_schema":
        grammar = _read_schema(options)
    options.done()
    return grammar, {"format": shown, "verbosity": "medium"}


def _check_mention(messages: list[dict], field: str) -> None:
    """OpenAI's own rule: a model that is not told of JSON may write nothing but spaces."""
    if not any("json" in (message.get("content") or "").lower() for message in messages):
        message = f"{field} must contain the word 'json' to use a format of type json_object"
        raise RequestError(message, field=field)


def _read_schema(fields: Fields) -> Grammar:
    name = of_type(fields.where("name"), fields.required("name"), str)
    if not NAME_PATTERN.fullmatch(name):
        message = f"{fields.where('name')} must be 1 to 64 letters, digits, underscores or hyphens"
        raise RequestError(message, field=fields.where("name"), code="invalid_value")
    fields.string("description")
    fields.typed("strict", bool, False)  # the schema always holds
    schema = fields.typed("schema", dict, {"type": "object"})
    fields.done()
    return json_schema(schema, fields.where("schema"))
