"""Schemas that zod, pydantic, Go and MCP servers write: held as far as can be, refused only where all must hold."""

import json
from dataclasses import replace

import pytest

from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.dialects import DIALECTS
from verbatim.reference.records.errors import RequestError
from verbatim.reference.text.grammar import GrammarCompiler
from verbatim.server.api.chat.request import read_chat
from verbatim.server.api.policy import reading
from verbatim.server.api.responses.request import read_response
from verbatim.server.models.served import load_served_model
from verbatim.server.settings.options import Options


def of(**properties) -> dict:
    return {"type": "object", "properties": properties}


def deep(levels: int) -> dict:
    return of(a=deep(levels - 1)) if levels else of(a={"type": "string"})


TEXT, NUMBER = {"type": "string"}, {"type": "integer"}
HELD = [  # a schema of which everything can be held
    of(a=TEXT), of(), {"type": "object"}, {}, of(a=True), of(a=TEXT) | {"required": None},
    of(a=TEXT, b=None) | {"description": None, "additionalProperties": None}, of(a={"type": "string", "enum": None}),
    of(a={"anyOf": [TEXT, {"type": "null"}], "default": None, "title": "A"}) | {"required": ["a"]},
    of(a={"type": ["string", "null"], "nullable": True}), of(a={"const": None}), of(a={"enum": [1, "x", None, True]}),
    of(a={"type": "string", "format": "date-time"}), of(a={"type": "string", "format": "uuid"}),
    of(a={"type": "array", "items": [TEXT, NUMBER]}), of(a={"type": "integer", "minimum": 5, "exclusiveMinimum": True}),
    of(a={"$ref": "#/$defs/A"}) | {"$defs": {"A": of(next={"$ref": "#/$defs/A"})}}, of(a={"$ref": "#"}),
    of(a={"type": "object", "additionalProperties": TEXT}),
    of(a=TEXT) | {"$schema": "http://json-schema.org/draft-07/schema#"},
    of(a={"allOf": [{"$ref": "#/definitions/E"}], "default": "x"}) | {"definitions": {"E": {"enum": ["x", "y"]}}},
    of(a={"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png", "writeOnly": True}),
    of(a=TEXT) | {"x-made-by": {"required": True}, "strict": True}, of(a={"oneOf": [TEXT, NUMBER]}),
    of(a={"type": "string", "pattern": "^[a-z]+$", "minLength": 1}), of(**{"ключ": TEXT, "a b": TEXT, "": TEXT}),
]  # fmt: skip
PARTLY = [  # a schema, and what of it cannot be held
    (of(a={"type": "object", "propertyNames": TEXT, "additionalProperties": TEXT}), ["properties.a.propertyNames"]),
    (of(a={"type": "string", "format": "path"}), ["properties.a.format"]),
    (of(a={"type": "string", "format": "password"}, b=TEXT), ["properties.a.format"]),
    (of(a={"type": "string", "format": "starts_with"}, b={"type": "string", "format": "binary"}),
     ["properties.a.format", "properties.b.format"]),
    (of(a=TEXT) | {"if": {"required": ["a"]}, "then": {"required": ["b"]}, "else": {}}, ["if", "then", "else"]),
    (of(a={"type": "array", "contains": TEXT}), ["properties.a.contains"]),
    (of(a={"type": "array", "uniqueItems": True, "items": TEXT}), ["properties.a.uniqueItems"]),
    (of(a=TEXT, b=TEXT) | {"dependentRequired": {"a": ["b"]}}, ["dependentRequired"]),
    (of(a={"type": "string", "pattern": r"^(?!\.)(?!.*\.\.)[a-z.]+@[a-z.]+$", "format": "email"}),
     ["properties.a.pattern"]),
    (of(a={"type": "string", "pattern": r"\bfoo\b"}), ["properties.a.pattern"]),
    (of(a={"type": "string", "pattern": "("}), ["properties.a.pattern"]),
    (of(a={"type": "string", "pattern": r"(a)\1"}), ["properties.a.pattern"]),
    (of(a={"not": TEXT}), ["properties.a.not"]),
    (of(a={"oneOf": [TEXT, {"type": "string", "minLength": 3}]}), ["properties.a.oneOf"]),
    (of(a={"$ref": "https://example.com/schema.json"}), ["properties.a.$ref"]),
    (of(a={"$ref": "#/$defs/gone"}), ["properties.a.$ref"]),
    (of(a={"$ref": "#/$defs/A"}) | {"$defs": {"A": {"type": "string", "format": "file-path"}}}, ["$defs.A.format"]),
    (of(a={"type": "array", "items": of(b={"type": "string", "format": "x"})}),
     ["properties.a.items.properties.b.format"]),
    (of(a={"anyOf": [{"type": "string", "format": "x"}, NUMBER]}), ["properties.a.anyOf[0].format"]),
    (of(a={"type": "object", "patternProperties": {"^(?=x)": TEXT}}), ["properties.a.patternProperties"]),
    (of(a={"enum": []}) | {"required": ["a"]}, ["properties.a.enum"]),
    (of(a={"type": "integer", "minimum": 5, "maximum": 1}) | {"required": ["a"]}, ["properties.a.maximum"]),
    (of(a={"type": "object", "minProperties": 1, "unevaluatedProperties": False}),
     ["properties.a.unevaluatedProperties"]),
    (of(a=TEXT) | {"dependentSchemas": {"a": of(b=TEXT)}}, ["dependentSchemas"]),
    (of(**{f"p{number}": TEXT for number in range(1200)}), ["properties"]),
    (deep(80), ["properties"]),
]  # fmt: skip
MALFORMED = [  # a schema that no draft has, and where
    (of(a=TEXT) | {"required": True}, "required"),
    (of(a={"type": "string", "required": True}), "properties.a.required"),
    (of(a={"type": "hiccup"}), "properties.a.type"), ({"properties": 3}, "properties"), (of(a=[]), "properties"),
    (of(a={"enum": "x"}), "properties.a.enum"), (of(a={"anyOf": {}}), "properties.a.anyOf"),
    (of(a={"items": 5}), "properties.a.items"), (of(a={"minLength": -1}), "properties.a.minLength"),
    (of(a={"pattern": 3}), "properties.a.pattern"), ({"required": ["a", 3]}, "required"),
    (of(a={"$ref": {}}), "properties.a.$ref"), (of(a={"maximum": "9"}), "properties.a.maximum"),
    (of(a={"type": ["string", 3]}), "properties.a.type"),
]  # fmt: skip


@pytest.fixture(scope="module")
def model():
    model = load_served_model(Options(backend="reference", device="cpu"))
    return replace(model, config=replace(model.config, context_size=1 << 20))  # templates show long schemas


@pytest.fixture(scope="module")
def compiler(model):
    """What both engines compile grammars with."""
    eos_ids = open_source(Options().model).config().eos_ids
    return GrammarCompiler(model.tokenizer, model.config.vocab_size, eos_ids)


def tool(schema, **function) -> dict:
    return {"type": "function", "function": {"name": "f", "parameters": schema} | function}


def chat(model, schema, *, strict: bool | None = None, **fields):
    """The grammar of a chat with a tool of that schema, and what of it had no effect."""
    body = {"model": model.model_id, "messages": [{"role": "user", "content": "hi"}]}
    with reading("warn") as under_way:
        builder = read_chat(body | {"tools": [tool(schema, strict=strict)]} | fields, model)
    return builder.requests[0].grammar, list(under_way.ignored)


def formatted(schema, **settings) -> dict:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema} | settings},
            "tools": []}  # fmt: skip


PATH, OF_FORMAT = "tools[0].function.parameters", "response_format.json_schema.schema"
FORCED = ({"strict": True}, {"tool_choice": "required"},
          {"tool_choice": {"type": "function", "function": {"name": "f"}}})  # fmt: skip


@pytest.mark.parametrize("schema", HELD, ids=lambda schema: json.dumps(schema)[:60])
def test_what_can_be_held_is_held(schema, model, compiler):
    for fields in ({}, *FORCED):
        grammar, ignored = chat(model, schema, **fields)
        assert ignored == []
        compiler.compile(grammar)
    compiler.compile(chat(model, {}, **formatted(schema, strict=True))[0])


@pytest.mark.parametrize(("schema", "lost"), PARTLY, ids=lambda value: json.dumps(value)[:60])
def test_the_rest_is_left_to_the_model_and_named(schema, lost, model, compiler):
    grammar, ignored = chat(model, schema)
    assert ignored == [f"{PATH}.{place}" for place in lost]
    compiler.compile(grammar)
    grammar, ignored = chat(model, {}, **formatted(schema))
    assert ignored == [f"{OF_FORMAT}.{place}" for place in lost]
    compiler.compile(grammar)


@pytest.mark.parametrize(("schema", "lost"), PARTLY, ids=lambda value: json.dumps(value)[:60])
def test_what_must_hold_is_refused_by_name(schema, lost, model):
    place, _, keyword = lost[0].rpartition(".")
    for fields in FORCED:
        with pytest.raises(RequestError) as error:
            chat(model, schema, **fields)
        assert (error.value.field, error.value.code) == (PATH, "invalid_grammar")
        assert all(word in str(error.value) for word in ("of f", place, repr(keyword)))
    for fields in (formatted(schema, strict=True), {"tools": [], "guided_json": schema}):
        with pytest.raises(RequestError, match="cannot be held"):
            chat(model, {}, **fields)


@pytest.mark.parametrize(("schema", "place"), MALFORMED, ids=lambda value: json.dumps(value)[:60])
def test_what_is_no_schema_is_refused_always(schema, place, model):
    for fields, path in (({}, PATH), ({"tool_choice": "none"}, PATH), (formatted(schema), OF_FORMAT)):
        with pytest.raises(RequestError) as error:
            chat(model, schema, **fields)
        assert error.value.field == path and str(error.value).startswith(f"{path}.{place} must be")


def test_one_tool_costs_the_others_nothing(model):
    tools = [tool(of(a={"type": "string", "format": "x"})), tool(of(b=NUMBER) | {"required": ["b"]}, name="g")]
    grammar, ignored = chat(model, {}, tools=tools)
    assert ignored == ["tools[0].function.parameters.properties.a.format"]
    assert '"b": {"type": "integer"}' in grammar.source and '"format"' not in grammar.source


def test_the_model_still_sees_the_whole_schema(model):
    schema = of(a={"type": "string", "format": "very-special"})
    body = {"messages": [{"role": "user", "content": "hi"}], "tools": [tool(schema)]}
    prompt = model.tokenizer.decode(list(read_chat(body, model).requests[0].prompt_ids))
    assert "very-special" in prompt


def test_too_much_together_leaves_the_longest_to_the_model(model):
    long = of(**{f"{'x' * 200}{number}": TEXT for number in range(960)})
    tools = [tool(long), tool(of(b=NUMBER), name="g"), tool(long, name="h")]
    grammar, ignored = chat(model, {}, tools=tools)
    assert ignored == ["tools[0].function.parameters", "tools[2].function.parameters"]
    assert '"b"' in grammar.source and "xxx" not in grammar.source


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_dialect_answers_the_same_schemas(dialect, model, compiler):
    for schema in (*HELD, *(schema for schema, _ in PARTLY[:-2])):
        grammar, _ = chat(replace(model, dialect=dialect), schema)
        compiler.compile(grammar)


def test_objects_have_the_keys_that_are_named(model):
    named = of(a=of(b=TEXT), c={"type": "array", "items": of(d=TEXT)}) | {"required": ["a"]}
    source = json.loads(chat(model, {}, **formatted(named))[0].source)
    inner = source["properties"]
    assert not any(node["additionalProperties"] for node in (source, inner["a"], inner["c"]["items"]))
    for open_ended in (of(a=TEXT) | {"additionalProperties": True}, {"allOf": [of(a=TEXT), of(b=TEXT)]}, of()):
        grammar, _ = chat(model, {}, **formatted(open_ended))
        assert '"additionalProperties": false' not in grammar.source


def test_a_named_function_is_called_once(model):
    named = {"type": "function", "function": {"name": "f"}}
    once = chat(model, of(a=TEXT), tool_choice="required", parallel_tool_calls=False)[0]
    assert chat(model, of(a=TEXT), tool_choice=named)[0] == once
    assert chat(model, of(a=TEXT), tool_choice="required")[0] != once


def test_responses_read_schemas_in_the_same_way(model, tmp_path):
    flat = {"type": "function", "name": "f", "parameters": of(a={"type": "string", "format": "path"})}
    with reading("warn") as under_way:
        read_response({"input": "hi", "tools": [flat], "store": False}, model, store=None)
    assert list(under_way.ignored) == ["tools[0].parameters.properties.a.format"]
    with pytest.raises(RequestError, match=r"'format' in properties\.a"):
        read_response({"input": "hi", "tools": [flat | {"strict": True}], "store": False}, model, store=None)
