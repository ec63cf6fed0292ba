"""Structured output: text matches its grammar for any model; an invalid grammar affects its own request only."""

import json
import re
import time

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from small_models import write_chat_model
from verbatim.demo import MODEL
from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.records.errors import RequestError, UnsupportedError
from verbatim.reference.records.grammar_text import (
    MAX_GRAMMAR_BYTES,
    Grammar,
    GrammarSyntax,
    json_object,
    json_schema,
)
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import FinishReason, Request, SamplingParams, StoppingParams
from verbatim.reference.text.grammar import GrammarCompiler

PERSON = {
    "type": "object",
    "properties": {
        "name": {"enum": ["Ada", "Grace 日本 👩‍👩‍👧"]},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


def babble(compiler, tokenizer, grammar, seed=0, max_tokens=400):
    """Text of random tokens that a grammar allows; None if the grammar is not complete after `max_tokens`."""
    random, guide, ids = np.random.default_rng(seed), compiler.compile(grammar), []
    for _ in range(max_tokens):
        allowed = np.setdiff1d(np.arange(guide.vocab_size), guide.excluded_ids())
        token_id = int(random.choice(allowed))
        if token_id in load_config(MODEL).eos_ids:
            return tokenizer.decode(ids)
        ids.append(token_id)
        if guide.push(token_id):
            return tokenizer.decode(ids)
    return None


@pytest.mark.parametrize("seed", range(5))
def test_text_matches_its_schema_exactly(compiler, tokenizer, seed):
    value = json.loads(babble(compiler, tokenizer, json_schema(PERSON), seed))
    jsonschema.validate(value, PERSON)
    assert list(value) == ["name", "age"], "keys come in the schema's order"


def test_json_mode_gives_an_object(compiler, tokenizer):
    texts = [babble(compiler, tokenizer, json_object(), seed) for seed in range(10)]
    done = [json.loads(text) for text in texts if text is not None]
    assert done
    assert all(isinstance(value, dict) for value in done)


def test_a_regular_expression_and_a_lark_grammar(compiler, tokenizer):
    expression = r"(left|right) (turn|step)s?[!?]"
    assert re.fullmatch(expression, babble(compiler, tokenizer, Grammar(syntax=GrammarSyntax.REGEX, source=expression)))
    lark = 'start: "<" word ("," word)* ">"\nword: "sun" | "moon"'
    assert re.fullmatch(
        r"<(sun|moon)(,(sun|moon))*>", babble(compiler, tokenizer, Grammar(syntax=GrammarSyntax.LARK, source=lark))
    )


def test_control_tokens_and_padding_are_never_allowed(compiler, tokenizer):
    guide = compiler.compile(Grammar(syntax=GrammarSyntax.REGEX, source=r"(?s:.)*"))
    excluded = set(guide.excluded_ids().tolist())
    eos_ids = load_config(MODEL).eos_ids
    assert {i for i in tokenizer.control_ids.values() if i not in eos_ids} <= excluded


leaves = st.one_of(
    st.sampled_from([{"type": "integer"}, {"type": "boolean"}, {"type": "null"}, {"const": "x y"}]),
    st.builds(
        lambda values: {"enum": values}, st.lists(st.sampled_from([1, "a", "é\n", None, True]), min_size=1, max_size=3)
    ),
    st.builds(lambda n: {"type": "string", "maxLength": n}, st.integers(0, 8)),
    st.builds(
        lambda low, size: {"type": "integer", "minimum": low, "maximum": low + size},
        st.integers(-99, 99),
        st.integers(0, 50),
    ),
)


def grown(inner):
    names = st.sampled_from(["a", "b b", "ключ", '"q"'])
    objects = st.dictionaries(names, inner, max_size=3).map(
        lambda found: {"type": "object", "properties": found, "required": list(found), "additionalProperties": False}
    )
    arrays = st.builds(lambda item, n: {"type": "array", "items": item, "maxItems": n}, inner, st.integers(0, 3))
    return st.one_of(objects, arrays, st.lists(inner, min_size=1, max_size=2).map(lambda options: {"anyOf": options}))


@settings(deadline=None, max_examples=60, print_blob=True)
@given(schema=st.recursive(leaves, grown, max_leaves=6), seed=st.integers(0, 2**32 - 1))
def test_generated_schemas(compiler, tokenizer, schema, seed):
    text = babble(compiler, tokenizer, json_schema(schema), seed)
    if text is not None:
        jsonschema.validate(json.loads(text), schema)


@pytest.mark.slow
@settings(deadline=None, max_examples=500, print_blob=True)
@given(schema=st.recursive(leaves, grown, max_leaves=12), seed=st.integers(0, 2**32 - 1))
def test_many_generated_schemas(compiler, tokenizer, schema, seed):
    text = babble(compiler, tokenizer, json_schema(schema), seed, max_tokens=2000)
    if text is not None:
        jsonschema.validate(json.loads(text), schema)


def nested(depth):
    schema = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def wide(count, **more):
    return {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(count)}} | more


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Grammar(syntax=GrammarSyntax.JSON_SCHEMA, source='{"type": "nope"}'), "cannot be compiled"),
        (lambda: json_schema({"type": "nope"}), "type must be one of string"),
        (lambda: json_schema({"$ref": "#"}), "no text fits it"),
        (lambda: json_schema({"$ref": "https://example.com/schema"}), "cannot be compiled"),
        (
            lambda: json_schema(
                {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
            ),
            "no text fits it",
        ),
        (lambda: json_schema({"$ref": "#/$defs/gone"}), "cannot be compiled"),
        (lambda: json_schema({"type": "integer", "minimum": 5, "maximum": 1}), "cannot be compiled"),
        (lambda: json_schema({"type": "string", "pattern": "^(?=a)b"}), "cannot be compiled"),
        (lambda: json_schema({"const": "\ud800"}), "cannot be compiled"),
        (lambda: json_schema(nested(100)), "nested deeper than 64"),
        (lambda: json_schema(nested(900)), "nested deeper than 64"),
        (lambda: json_schema(wide(20_000)), "20000 optional properties; at most 1000"),
        (lambda: json_schema({"allOf": [wide(600), wide(600)]}), "1200 optional properties; at most 1000"),
        (lambda: json_schema({"description": "x" * 10_000_000}), f"at most {MAX_GRAMMAR_BYTES}"),
        (lambda: json_schema("no object"), "must be a JSON schema"),
        (lambda: Grammar(syntax=GrammarSyntax.REGEX, source="(a"), "cannot be compiled"),
        (lambda: Grammar(syntax=GrammarSyntax.LARK, source="start: nowhere"), "cannot be compiled"),
    ],
)
def test_an_invalid_grammar_is_refused_quickly_with_a_reason(compiler, make, message):
    start = time.monotonic()
    with pytest.raises(RequestError, match=message):
        compiler.compile(make())
    assert time.monotonic() - start < 20


NODE = {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "additionalProperties": False}


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar(syntax=GrammarSyntax.REGEX, source=r"(x+x+)+y"),
        Grammar(syntax=GrammarSyntax.REGEX, source=r"(?:[ab]{1,900}c){1,900}" * 40),
        Grammar(syntax=GrammarSyntax.REGEX, source=r"(a|a|aa)*b"),
        Grammar(syntax=GrammarSyntax.REGEX, source="(a|b)*a(a|b){60}"),
        Grammar(syntax=GrammarSyntax.LARK, source='start: s\ns: s s | "a" |'),
        json_schema({"type": "string", "pattern": "^(([a-z])+.)+[A-Z]([a-z])+$"}),
        json_schema({"type": "string", "minLength": 10**9}),
        json_schema({"type": "array", "items": {"type": "integer"}, "minItems": 10**9}),
        json_schema({"$defs": {"n": NODE}, "$ref": "#/$defs/n"}),
        json_schema({"$defs": {"n": NODE | {"required": ["n"]}}, "$ref": "#/$defs/n"}),
        json_schema(wide(3000, required=[f"p{i}" for i in range(3000)])),
        json_schema({"enum": [f"value {i}" for i in range(10_000)]}),
    ],
    ids=lambda grammar: grammar.source[:40],
)
def test_a_costly_grammar_delays_the_server_only_briefly(compiler, grammar):
    start = time.monotonic()
    guide = compiler.compile(grammar)
    for _ in range(20):
        if guide.push(int(np.setdiff1d(np.arange(guide.vocab_size), guide.excluded_ids())[0])):
            break
    assert time.monotonic() - start < 20


def test_a_model_without_an_end_token_cannot_have_a_grammar(tokenizer):
    with pytest.raises(UnsupportedError, match="end-of-sequence token"):
        GrammarCompiler(tokenizer, 1000, ())


@pytest.fixture(scope="module")
def engine(backend, tmp_path_factory):
    eos_id = load_config(MODEL).eos_ids[0]
    directory = write_chat_model(tmp_path_factory.mktemp("model"), eos_token_id=eos_id)
    return backend.load_engine(directory, limits=EngineLimits(prefill_chunk_size=32))


def add_request(engine, name, grammar=None, temperature=1.0, n=1, max_tokens=200, logprobs=None, **stopping):
    sampling = SamplingParams(temperature=temperature, seed=3, logprobs=logprobs)
    limits = StoppingParams(max_tokens=max_tokens, **stopping)
    engine.add(Request(request_id=name, prompt_ids=(5, 6, 7), n=n, grammar=grammar, sampling=sampling, stopping=limits))


def collect(engine):
    outputs = {}
    while engine.has_work():
        for output in engine.step():
            outputs.setdefault((output.request_id, output.choice), []).append(output)
        engine.check()
    return outputs


@pytest.mark.parametrize("temperature", [0, 1])
def test_every_choice_of_an_engine_keeps_the_schema(engine, temperature):
    add_request(engine, "a", json_schema(PERSON), temperature, n=3)
    for outputs in collect(engine).values():
        jsonschema.validate(json.loads("".join(output.text for output in outputs)), PERSON)
        assert outputs[-1].finish_reason is FinishReason.STOP


def test_a_grammar_may_end_before_min_tokens(engine):
    add_request(engine, "a", Grammar(syntax=GrammarSyntax.REGEX, source="yes|no"), min_tokens=50)
    (outputs,) = collect(engine).values()
    assert "".join(output.text for output in outputs) in ("yes", "no")


NOPE = Grammar(syntax=GrammarSyntax.JSON_SCHEMA, source='{"type": "nope"}')  # json_schema refuses it earlier
REFUSED = [NOPE, json_schema({"$ref": "#"}), Grammar(syntax=GrammarSyntax.REGEX, source="(a")]
TOO_COSTLY = json_schema(
    {"type": "string", "pattern": "^(.{1,1000}){900,1000}$"}
)  # exceeds its limits while the text is generated


def test_other_requests_are_unaffected_by_grammars(engine):
    add_request(engine, "free", max_tokens=30, logprobs=2)
    alone = collect(engine)["free", 0]
    add_request(engine, "free", max_tokens=30, logprobs=2)
    add_request(engine, "bound", json_schema(PERSON))
    add_request(engine, "broken off", TOO_COSTLY)
    for grammar in REFUSED:
        with pytest.raises(RequestError):
            add_request(engine, "refused", grammar)
    engine.check()
    among = collect(engine)
    last = among["broken off", 0][-1]
    assert last.finish_reason is FinishReason.ERROR
    assert "the grammar cannot go on" in last.error
    jsonschema.validate(json.loads("".join(output.text for output in among["bound", 0])), PERSON)
    beside = [(o.text, o.token_ids, o.logprobs, o.finish_reason) for o in among["free", 0]]
    assert beside == [(o.text, o.token_ids, o.logprobs, o.finish_reason) for o in alone]
