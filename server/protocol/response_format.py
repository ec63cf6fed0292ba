"""`response_format`: text, any JSON object, or JSON of a schema, which a grammar in the engine holds the model to."""

import re

from reference.errors import RequestError
from reference.grammar_text import Grammar, json_object, json_schema
from server.protocol.fields import Fields, of_type

NAME_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")
FIELD = "response_format"


def take_response_format(fields: Fields, messages: list[dict]) -> Grammar | None:
    """The grammar that the answer must fit, or None for free text."""
    if not fields.has(FIELD):
        return None
    options = Fields(fields.take(FIELD), FIELD)
    kind = options.one_of("type", ("text", "json_object", "json_schema")) or options.required("type")
    grammar = None
    if kind == "json_object":
        _check_mention(messages)
        grammar = json_object()
    if kind == "json_schema":
        grammar = _read_schema(Fields(options.required("json_schema"), f"{FIELD}.json_schema"))
    options.done()
    return grammar


def _check_mention(messages: list[dict]) -> None:
    """OpenAI's own rule: a model that is not told of JSON may write nothing but spaces."""
    if not any("json" in (message.get("content") or "").lower() for message in messages):
        message = "messages must contain the word 'json' to use a response_format of type json_object"
        raise RequestError(message, field="messages")


def _read_schema(fields: Fields) -> Grammar:
    name = of_type(fields.where("name"), fields.required("name"), str)
    if not NAME_PATTERN.fullmatch(name):
        message = f"{fields.where('name')} must be 1 to 64 letters, digits, underscores or hyphens"
        raise RequestError(message, field=fields.where("name"), code="invalid_value")
    fields.string("description")
    fields.typed("strict", bool, False)  # the schema always holds
    schema = fields.typed("schema", dict, {"type": "object"})
    fields.done()
    return json_schema(schema)
