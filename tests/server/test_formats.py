"""`response_format` in the forms of OpenAI and of other servers, of chats and of completions, and what is none."""

import json

import pytest

from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.grammar_text import GrammarSyntax
from verbatim.server.api import registry
from verbatim.server.api.policy import reading
from verbatim.server.models.served import load_served_model
from verbatim.server.settings.options import Options

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
BASES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "JSON"}], "model": "verbatim-demo"},
    "/v1/completions": {"prompt": "JSON", "model": "verbatim-demo"},
}
OF_SCHEMA = [
    {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
    {"type": "json_schema", "json_schema": {"schema": SCHEMA}},
    {"type": "json_schema", "json_schema": {"name": None, "schema": json.dumps(SCHEMA)}},
    {"type": "json_schema", "schema": SCHEMA},
    {"type": "json_schema", "schema": json.dumps(SCHEMA), "name": "n", "strict": False},
    {"type": "json_object", "schema": SCHEMA},
    {"type": "json_object", "schema": json.dumps(SCHEMA)},
    {"type": "json_object", "value": SCHEMA},
    {"type": "json", "value": SCHEMA},
]


@pytest.fixture(scope="module")
def model():
    return load_served_model(Options(backend="reference", device="cpu"))


def grammar_of(path: str, form: dict, model, policy: str = "warn"):
    with reading(policy) as under_way:
        (request,) = registry.adapter_of(path).read(BASES[path] | {"response_format": form}, model).requests
    assert not under_way.ignored
    return request.grammar


@pytest.mark.parametrize("form", OF_SCHEMA)
@pytest.mark.parametrize("path", BASES)
def test_all_forms_of_a_schema_are_one_grammar(path, form, model):
    grammar = grammar_of(path, form, model)
    assert (grammar.syntax, json.loads(grammar.source)) == (GrammarSyntax.JSON_SCHEMA, SCHEMA)


@pytest.mark.parametrize("path", BASES)
def test_other_types(path, model):
    for form in ({"type": "json_object"}, {"type": "json_object", "schema": None}, {"type": "json"},
                 {"type": "json_schema", "json_schema": {"name": "n"}}):  # fmt: skip
        assert json.loads(grammar_of(path, form, model).source) == {"type": "object"}
    for form in ({"type": "regex", "pattern": "[ab]"}, {"type": "regex", "value": "[ab]"}):
        grammar = grammar_of(path, form, model)
        assert (grammar.syntax, grammar.source) == (GrammarSyntax.REGEX, "[ab]")
    assert grammar_of(path, {"type": "text"}, model) is None


@pytest.mark.parametrize(
    ("form", "policy", "field", "code"),
    [
        ({"type": "json_object", "schema": 3}, "warn", "response_format.schema", "invalid_type"),
        ({"type": "json_object", "schema": "{"}, "warn", "response_format.schema", "invalid_value"),
        ({"type": "json_object", "schema": "[]"}, "warn", "response_format.schema", "invalid_type"),
        ({"type": "json_schema"}, "warn", "response_format.json_schema", "missing_required_parameter"),
        ({"type": "json_schema", "schema": SCHEMA}, "refuse", "response_format.json_schema",
         "missing_required_parameter"),
        ({"type": "json_schema", "json_schema": {"schema": SCHEMA}}, "refuse", "response_format.json_schema.name",
         "missing_required_parameter"),
        ({"type": "json_schema", "json_schema": {"name": "n", "schema": "{}"}}, "refuse",
         "response_format.json_schema.schema", "invalid_type"),
        ({"type": "regex"}, "warn", "response_format.pattern", "missing_required_parameter"),
        ({"type": "grammar", "grammar": "root ::= x"}, "warn", "response_format.type", "invalid_value"),
        ({"type": ["text"]}, "warn", "response_format.type", "invalid_type"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", BASES)
def test_what_is_no_format(path, form, policy, field, code, model):
    with pytest.raises(RequestError) as error:
        grammar_of(path, form, model, policy)
    assert (error.value.field, error.value.code) == (field, code)


def test_a_completion_keeps_to_its_format(server):
    answer = server.complete(prompt="JSON:", max_tokens=64, response_format={"type": "json_object", "schema": SCHEMA})
    assert answer.status_code == 200, answer.text
    choice = answer.json()["choices"][0]
    assert choice["finish_reason"] == "length" or list(json.loads(choice["text"])) == ["a"]
    both = server.complete(response_format={"type": "json_object"}, guided_regex="a")
    assert both.status_code == 400 and both.json()["error"]["code"] == "invalid_parameter_combination"
