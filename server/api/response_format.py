"""`response_format`: text, any JSON object, JSON of a schema, or a regular expression, which a grammar holds it to.

Besides OpenAI's form a schema may stand beside the type, which is then `json_schema` or `json_object` (MLC, llama.cpp,
Together) or `json` with `value` (TGI), and may be written as text. Responses have the same in `text.format`, where the
schema's name and settings stand beside its type.
"""

import json
from collections.abc import Callable
from typing import Any

from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.grammar_text import Grammar, GrammarSyntax, json_object, json_schema
from verbatim.server.api import policy
from verbatim.server.api.fields import Field, Fields, Object, required
from verbatim.server.api.foreign import wishes
from verbatim.server.api.schemas import held_schema
from verbatim.server.api.value_types import (
    ANYTHING,
    BOOLEAN,
    NAME,
    OBJECT,
    STRING,
    Extended,
    ValueType,
    of_type,
    one_of,
)

FIELD = "response_format"
TYPES = ("text", "json_object", "json_schema", "json", "regex")
TYPE = required("type", one_of(*TYPES), "What the answer is.", example="json_object")


def _read_schema(value: Any, path: str) -> dict:
    """A schema, which may come as the text of its JSON."""
    if type(value) is not str:
        return of_type(path, value, dict)
    try:
        schema = json.loads(value)
    except (ValueError, RecursionError):
        raise RequestError(f"{path} is no JSON", field=path, code="invalid_value") from None
    return of_type(path, schema, dict)


ANY_SCHEMA = Extended(OBJECT, ValueType(_read_schema, {"anyOf": [OBJECT.schema, STRING.schema]}))
OWN_SCHEMA, VALUE = (
    Field(name, ANY_SCHEMA, "The JSON schema.", example={"type": "object"}) for name in ("schema", "value")
)
SCHEMA = (
    Field("name", NAME, "A name for the schema; OpenAI requires it.", example="person"),
    Field("description", STRING, "Without effect.", example="Who it is about"),
    Field(
        "strict",
        BOOLEAN,
        "Whether all of the schema must hold; else as much of it as a grammar can hold.",
        example=True,
    ),
    OWN_SCHEMA,
)
EXPRESSIONS = tuple(Field(name, STRING, "The regular expression.", example="[0-9]+") for name in ("pattern", "value"))
NESTED = required("json_schema", Object(*SCHEMA), "The schema that it fits.")
FLAT = Object(TYPE, *SCHEMA)
VARIANTS = {
    "text": Object(TYPE),
    "json_object": Object(TYPE, OWN_SCHEMA, VALUE),
    "json": Object(TYPE, OWN_SCHEMA, VALUE),
    "regex": Object(TYPE, *EXPRESSIONS),
}


def _variants(*of_schema: Object) -> dict:
    """The schema of a format, by its type."""
    schemas = []
    for type_, variant in [*VARIANTS.items(), *(("json_schema", each) for each in of_schema)]:
        schema = variant.schema
        only = {"const": type_, "description": TYPE.description, "examples": [type_]}
        schemas.append(schema | {"properties": schema["properties"] | {"type": only}})
    return {"anyOf": schemas}


def _format(of_schema: Object, other: Object | None = None) -> ValueType:
    """The format with the schema's settings as `of_schema` has them; as `other`, if there is a `schema` in it."""

    def read(value: Any, path: str) -> Fields:
        of_type(path, value, dict)
        if value.get("type") == "json_schema":
            return (other if other and _is_flat(value.get) else of_schema).read(value, path)
        type_ = value.get("type")
        return VARIANTS.get(type_ if type(type_) is str else "text", VARIANTS["text"]).read(value, path)

    return ValueType(read, _variants(of_schema, *([other] if other else [])))


def _is_flat(get: Callable[[str], Any]) -> bool:
    """Whether the schema stands beside the type, which OpenAI does not have in chats."""
    return not policy.is_strict() and get("schema") not in (None, False) and not get("json_schema")


RESPONSE_FORMAT = Field(
    FIELD, _format(Object(TYPE, NESTED), FLAT), "What the answer must be.", example={"type": "text"}
)
FLAT_FORMAT = _format(FLAT)
SHOWN = ValueType(ANYTHING.read, FLAT_FORMAT.schema)  # as it came, since the answer repeats it
OPTIONS = Object(
    Field("format", SHOWN, "What the answer must be.", default={"type": "text"}),
    foreign=wishes(verbosity="medium"),
)
TEXT = Field("text", OPTIONS, "How the answer is written.", example={"format": {"type": "text"}})


def take_response_format(fields: Fields, messages: list[dict] | None = None) -> Grammar | None:
    """The grammar that the answer must fit, or None for free text; `messages` where OpenAI has a rule for them."""
    if (options := fields[FIELD]) is None:
        return None
    return _take_grammar(options, messages, "messages", is_flat=_is_flat(options.has))


def take_text_format(fields: Fields, messages: list[dict]) -> tuple[Grammar | None, dict]:
    """The same out of `text`, and that field as answers repeat it."""
    text = fields["text"] or OPTIONS.read({}, "text")
    shown = text["format"]
    text.done()
    grammar = _take_grammar(FLAT_FORMAT.read(shown, "text.format"), messages, "input", is_flat=True)
    return grammar, {"format": shown, "verbosity": "medium"}


def _take_grammar(options: Fields, messages: list[dict] | None, field: str, *, is_flat: bool) -> Grammar | None:
    """The grammar of a format; `field` is where the messages came from."""
    type_, grammar = options["type"], None
    if type_ == "regex":
        grammar = _take_expression(options)
    elif type_ == "json_schema":
        grammar = _take_schema(options if is_flat else options["json_schema"])
    elif type_ != "text":
        name = "value" if options.has("value") else "schema"
        schema = options[name]
        if schema is None and messages is not None:
            _check_mention(messages, field)
        grammar = json_object(options.path) if schema is None else _held(schema, options.where(name))
    options.done()
    return grammar


def _check_mention(messages: list[dict], field: str) -> None:
    """OpenAI's own rule, since a model may write nothing but spaces otherwise; here the grammar bounds spaces."""
    if policy.is_strict() and not any("json" in (message.get("content") or "").lower() for message in messages):
        message = f"{field} must contain the word 'json' to use a format of type json_object"
        raise RequestError(message, field=field)


def _take_expression(options: Fields) -> Grammar:
    name = "value" if options.has("value") else "pattern"
    if not (source := options[name]):
        path = options.where("pattern")
        raise RequestError(f"Missing required parameter: {path}", field=path, code="missing_required_parameter")
    return Grammar(syntax=GrammarSyntax.REGEX, source=source, field=options.where(name))


def _take_schema(fields: Fields) -> Grammar:
    if fields["name"] is None and policy.is_strict():
        path = fields.where("name")
        raise RequestError(f"Missing required parameter: {path}", field=path, code="missing_required_parameter")
    schema, must_hold = fields["schema"], fields["strict"] or False
    fields.done()
    return _held({"type": "object"} if schema is None else schema, fields.where("schema"), must_hold=must_hold)


def _held(schema: dict, path: str, *, must_hold: bool = False) -> Grammar:
    return json_schema(held_schema(schema, path, must_hold=must_hold), path)
