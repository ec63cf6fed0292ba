"""Structured output: schemas force an exact text, whatever the model prefers."""

import json

from verbatim.conformance.answers import Whole, parsed
from verbatim.conformance.case import MAY, MUST, SHOULD, SPEC, SkipError, WarnError, case, dig, equal, expect
from verbatim.conformance.probe import CHAT, Probe
from verbatim.conformance.schemas import fits


def closed(**properties: dict) -> dict:
    """An object with exactly these properties."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def wanting(schema: object, strict: bool = True) -> dict:
    """A response_format."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": strict}}


HEATS: tuple[dict, ...] = (
    {},
    {"temperature": 1, "seed": 1},
    {"temperature": 2, "seed": 2},
    {"temperature": 2, "seed": 3},
)


def forced(probe: Probe, schema: dict, *, strict: bool = True, **fields) -> Whole:
    """An answer in the form of a schema; skipped if the model reaches the cap, at temperature 0 and above."""
    for heat in HEATS:
        body = {"max_tokens": 200, "response_format": wanting(schema, strict)} | heat | fields
        answer = probe.chat("Answer with JSON.", **body)
        if answer.finish != "length" or body["max_tokens"] != 200:
            return answer
        expect(answer.text().lstrip()[:1] in ("{", ""), "JSON", answer.text())
    raise SkipError("JSON within 200 tokens", "the model writes on")


def exact(value: str) -> dict:
    """A schema with one possible instance."""
    return closed(word={"type": "string", "enum": [value]})


@case(
    "structured.text",
    "response_format text is as if absent.",
    source=f"{SPEC}; lmstudio#189",
    level=MUST,
    fault="no text format",
)
def text(probe: Probe) -> None:
    plain = probe.chat().text()
    equal(probe.chat(response_format={"type": "text"}).text(), plain, "the answer with response_format text")


@case(
    "structured.json_object",
    "json_object gives a JSON object and no other text.",
    source=SPEC,
    level=MUST,
    fault="fences",
    optional=True,
)
def json_object(probe: Probe) -> None:
    fields = {"response_format": {"type": "json_object"}, "max_tokens": 300}
    answer = probe.chat("Answer with a short JSON object about a lamp.", **fields)
    if answer.finish == "length":
        raise SkipError("JSON within 300 tokens", "the model writes on")
    dig(parsed(answer.text(), "the answer"), "", dict)


@case(
    "structured.json_object_word",
    "json_object without the word JSON in the messages is refused, as OpenAI does.",
    source="mem0#3008",
    level=MAY,
    fault="json word not needed",
)
def json_object_word(probe: Probe) -> None:
    exchange = probe.send(
        "POST", CHAT, probe.chat_body("Hello", response_format={"type": "json_object"}, max_tokens=32)
    )
    if exchange.status == 200:
        raise WarnError("a refusal", "the request is accepted")
    probe.refused(exchange)


@case(
    "structured.enforced",
    "A schema binds a model that prefers another text.",
    source=f"{SPEC}; llama.cpp#24097",
    level=MUST,
    fault="drop response_format",
    optional=True,
)
def enforced(probe: Probe) -> None:
    value = probe.word()
    equal(parsed(forced(probe, exact(value)).text(), "the answer"), {"word": value}, "the answer")


@case(
    "structured.without_strict",
    "A schema that is not strict binds, too.",
    source="Instructor, AI SDK",
    level=SHOULD,
    fault="drop response_format",
    optional=True,
)
def without_strict(probe: Probe) -> None:
    value = probe.word()
    equal(parsed(forced(probe, exact(value), strict=False).text(), "the answer"), {"word": value}, "the answer")


def _schema_case(name: str, schema: dict, bad: object) -> None:
    @case(
        f"structured.schema.{name}",
        f"A strict schema with {name.replace('_', ' ')} is kept.",
        source=f"{SPEC}: structured outputs",
        level=MUST if name in ("enums", "integers", "booleans", "lists", "nested_objects", "null_unions") else SHOULD,
        fault=f"body choices.0.message.content={json.dumps(json.dumps(bad))}",
        optional=True,
    )
    def keeps_schema(probe: Probe) -> None:
        fits(parsed(forced(probe, schema).text(), "the answer"), schema)


_schema_case("enums", closed(a={"type": "string", "enum": ["lamp", "river"]}), {"a": "bird"})


_schema_case("integers", closed(a={"type": "integer", "enum": [7, 42]}), {"a": 5})


_schema_case("booleans", closed(a={"type": "boolean"}), {"a": "true"})


_schema_case("null_unions", closed(a={"anyOf": [{"type": "string", "enum": ["x"]}, {"type": "null"}]}), {"a": "y"})


_schema_case("type_lists", closed(a={"type": ["boolean", "null"]}), {"a": "y"})


_schema_case(
    "lists", closed(a={"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3}), {"a": []}
)


_schema_case("nested_objects", closed(a=closed(b=closed(c={"type": "boolean"}))), {"a": {"b": {}}})


_schema_case("constants", closed(a={"const": "lamp"}), {"a": "river"})


_schema_case(
    "definitions",
    closed(a={"$ref": "#/$defs/x"}) | {"$defs": {"x": {"type": "string", "enum": ["lamp"]}}},
    {"a": "river"},
)


_schema_case("bounded_integers", closed(a={"type": "integer", "minimum": 3, "maximum": 5}), {"a": 9})


_schema_case("patterns", closed(a={"type": "string", "pattern": "^ab$"}), {"a": "zz"})


_NODE = closed(next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]})


_schema_case("recursion", closed(head={"$ref": "#/$defs/node"}) | {"$defs": {"node": _NODE}}, {"head": 5})
