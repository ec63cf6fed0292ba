"""Fields are declared once: reading, errors and the OpenAPI page follow from the same declarations."""

import pytest
from jsonschema import Draft202012Validator

from verbatim.demo import MODEL as DEMO
from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.request import BOUNDS
from verbatim.server.api import registry
from verbatim.server.api.fields import Field, Object, required
from verbatim.server.api.policy import reading
from verbatim.server.api.tokens import DETOKENIZE, TOKENIZE
from verbatim.server.api.value_types import BOOLEAN, STRING, array, integer, neutral, number, one_of
from verbatim.server.docs.openapi import document
from verbatim.server.settings.value_types import MODEL, MODELS

BODIES = {adapter.path: adapter.body for adapter in registry.ADAPTERS} | {
    "/tokenize": TOKENIZE,
    "/detokenize": DETOKENIZE,
}
PATHS = document("test")["paths"]


def body_schema(path: str) -> dict:
    return PATHS[path]["post"]["requestBody"]["content"]["application/json"]["schema"]


def nested(declared: Object):
    """All fields of an object and of the objects in it."""
    for field in declared.fields.values():
        yield field
        if isinstance(field.type, Object):
            yield from nested(field.type)


@pytest.mark.parametrize("path", BODIES)
def test_the_page_has_the_fields_that_are_declared(path):
    schema, declared = body_schema(path), BODIES[path]
    assert list(schema["properties"]) == list(declared.fields)
    assert schema["required"] == [name for name, field in declared.fields.items() if field.is_required]
    for name, field in declared.fields.items():
        shown = schema["properties"][name]
        assert shown == field.schema and shown["description"] == field.description
        if field.default is not None:
            default = shown["default"]
            assert (tuple(default) if isinstance(field.default, tuple) else default) == field.default


@pytest.mark.parametrize("path", BODIES)
def test_every_field_has_a_description_and_examples_fit(path):
    for field in nested(BODIES[path]):
        assert field.description.endswith("."), field.name
        for example in field.schema.get("examples", ()):
            components = document("test")["components"]
            Draft202012Validator(field.schema | {"components": components}).validate(example)
            assert field.type.read(example, field.name) is not None, field.name


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
@pytest.mark.parametrize("name", sorted(set(BOUNDS) - {"logit_bias"}))
def test_bounds_are_those_of_the_records(path, name):
    shown = body_schema(path)["properties"][name]
    shown = shown["anyOf"][0] if "anyOf" in shown else shown  # top_k, of which 0 and -1 are none
    low, high = BOUNDS[name]
    assert (shown["minimum"], shown.get("maximum")) == (low, high)
    declared = BODIES[path].fields[name].type
    for value in (low, *([] if high is None else [high])):
        assert declared.read(value, name) == value
    for value in (min(low - 1, -2), *([] if high is None else [high + 1])):
        with pytest.raises(RequestError, match=f"{name} must be at"):
            declared.read(value, name)


PERSON = Object(
    required("name", STRING, "A name."),
    Field("age", integer(0, 150), "Years.", default=18),
    Field("share", number(0, 1), "A share."),
    Field("colour", one_of("red", "green"), "A colour."),
    Field("tags", array(STRING, 2), "Tags.", default=()),
    Field("is_new", BOOLEAN, "Whether it is new.", default=False),
    Field("old", neutral(False), "Not supported."),
)
WRONG = [  # fields, param, code
    ({"name": None}, "p.name", "missing_required_parameter"),
    ({"name": 3}, "p.name", "invalid_type"),
    ({"age": 151}, "p.age", "integer_above_max_value"),
    ({"age": 1.0}, "p.age", "invalid_type"),
    ({"share": 2}, "p.share", "decimal_above_max_value"),
    ({"colour": "blue"}, "p.colour", "invalid_value"),
    ({"tags": ["a", "b", "c"]}, "p.tags", "array_above_max_length"),
    ({"tags": [1]}, "p.tags[0]", "invalid_type"),
    ({"is_new": 1}, "p.is_new", "invalid_type"),
    ({"old": True}, "p.old", "unsupported_parameter"),
    ({"banana": 1}, "p.banana", "unknown_parameter"),
]


@pytest.mark.parametrize(("fields", "param", "code"), WRONG)
def test_a_declaration_refuses_what_its_schema_forbids(fields, param, code):
    value = {"name": "Ada"} | fields
    with reading("refuse"):
        with pytest.raises(RequestError) as error:
            PERSON.read(value, "p").read_all()
        assert (error.value.field, error.value.code) == (param, code)
        is_integral = code == "invalid_type" and param == "p.age"  # 1.0 is an integer to JSON Schema
        assert Draft202012Validator(PERSON.schema).is_valid(value) == is_integral


def test_absent_fields_have_their_defaults():
    values = PERSON.read({"name": "Ada", "share": None}).read_all()
    assert values == {
        "name": "Ada", "age": 18, "share": None, "colour": None, "tags": (), "is_new": False, "old": None,
    }  # fmt: skip


def test_unknown_fields_are_one_policy():
    with reading("refuse"):
        assert PERSON.schema["additionalProperties"] is False
    for policy, names in (("ignore", ""), ("warn", "banana")):
        with reading(policy) as under_way:
            assert PERSON.schema["additionalProperties"] is True
            assert "banana" not in PERSON.read({"name": "Ada", "banana": 1}).read_all()
            assert under_way.names() == names
            with pytest.raises(RequestError, match="Missing required parameter: name"):
                PERSON.read({"banana": 1}).read_all()


def test_fields_that_nobody_asks_for_are_checked_all_the_same():
    with pytest.raises(RequestError, match="age must be at most 150, not 200"):
        PERSON.read({"name": "Ada", "age": 200}).done()


def test_a_model_that_ships_is_known_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert MODEL.read("demo") == MODEL.read(str(DEMO)) == DEMO.absolute()
    assert MODELS.read("demo,./demo") == (DEMO.absolute(), tmp_path / "demo")
    assert MODEL.read("Demo") == tmp_path / "Demo"
