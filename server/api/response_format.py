"""`response_format`: text, any JSON object, or JSON of a schema, which a grammar in the engine holds the model to.

Responses have the same in `text.format`, where the schema's name and settings stand beside its type.
"""

from typing import Any

from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.grammar_text import Grammar, json_object, json_schema
from verbatim.server.api import policy
from verbatim.server.api.fields import Field, Fields, Object, required
from verbatim.server.api.foreign import wishes
from verbatim.server.api.schemas import held_schema
from verbatim.server.api.value_types import ANYTHING, BOOLEAN, NAME, OBJECT, STRING, ValueType, of_type, one_of

FIELD = "response_format"
TYPE = required("type", one_of("text", "json_object", "json_schema"), "What the answer is.", example="json_object")
SCHEMA = (
    required("name", NAME, "A name for the schema.", "person"),
    Field("description", STRING, "Without effect.", example="Who it is about"),
    Field(
        "strict",
        BOOLEAN,
        "Whether all of the schema must hold; else as much of it as a grammar can hold.",
        example=True,
    ),
    Field("schema", OBJECT, "The JSON schema.", default={"type": "object"}),
)
PLAIN = Object(TYPE)
OF_SCHEMA = Object(TYPE, required("json_schema", Object(*SCHEMA), "The schema that it fits."))
FLAT = Object(TYPE, *SCHEMA)


def _variants(of_schema: Object) -> dict:
    """The schema of a format, by its type."""
    types = {"text": PLAIN, "json_object": PLAIN, "json_schema": of_schema}
    schemas = []
    for type_, variant in types.items():
        schema = variant.schema
        only = {"const": type_, "description": TYPE.description, "examples": [type_]}
        schemas.append(schema | {"properties": schema["properties"] | {"type": only}})
    return {"anyOf": schemas}


def _format(of_schema: Object) -> ValueType:
    def read(value: Any, path: str) -> Fields:
        of_type(path, value, dict)
        return (of_schema if value.get("type") == "json_schema" else PLAIN).read(value, path)

    return ValueType(read, _variants(of_schema))


RESPONSE_FORMAT = Field(FIELD, _format(OF_SCHEMA), "What the answer must be.", example={"type": "text"})
FLAT_FORMAT = _format(FLAT)
SHOWN = ValueType(ANYTHING.read, FLAT_FORMAT.schema)  # as it came, since the answer repeats it
OPTIONS = Object(
    Field("format", SHOWN, "What the answer must be.", default={"type": "text"}),
    foreign=wishes(verbosity="medium"),
)
TEXT = Field("text", OPTIONS, "How the answer is written.", example={"format": {"type": "text"}})


def take_response_format(fields: Fields, messages: list[dict]) -> Grammar | None:
    """The grammar that the answer must fit, or None for free text."""
    if (options := fields[FIELD]) is None:
        return None
    type_ = options["type"]
    grammar = None
    if type_ == "json_object":
        _check_mention(messages, "messages")
        grammar = json_object()
    if type_ == "json_schema":
        grammar = _read_schema(options["json_schema"])
    options.done()
    return grammar


def take_text_format(fields: Fields, messages: list[dict]) -> tuple[Grammar | None, dict]:
    """The same out of `text`, and that field as answers repeat it."""
    text = fields["text"] or OPTIONS.read({}, "text")
    shown = text["format"]
    text.done()
    options, grammar = FLAT_FORMAT.read(shown, "text.format"), None
    type_ = options["type"]
    if type_ == "json_object":
        _check_mention(messages, "input")
        grammar = json_object("text.format")
    if type_ == "json_schema":
        grammar = _read_schema(options)
    options.done()
    return grammar, {"format": shown, "verbosity": "medium"}


def _check_mention(messages: list[dict], field: str) -> None:
    """OpenAI's own rule, since a model may write nothing but spaces otherwise; here the grammar bounds spaces."""
    if policy.is_strict() and not any("json" in (message.get("content") or "").lower() for message in messages):
        message = f"{field} must contain the word 'json' to use a format of type json_object"
        raise RequestError(message, field=field)


def _read_schema(fields: Fields) -> Grammar:
    fields["name"]
    schema, must_hold = fields["schema"], fields["strict"] or False
    fields.done()
    path = fields.where("schema")
    return json_schema(held_schema(schema, path, must_hold=must_hold), path)
