"""Fields that clients of other servers send: each row of foreign_fields.py under each policy, and neutral spellings."""

from dataclasses import replace

import pytest

from live_server import chat_body, running, stream_events
from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.request import SamplingParams
from verbatim.server.api import foreign_fields, registry
from verbatim.server.api.policy import MAX_NAMES, reading
from verbatim.server.api.tokens import TOKENIZE, tokenize
from verbatim.server.api.value_types import BOOLEAN, LIST, NUMBER, OBJECT, STRING
from verbatim.server.models.served import load_served_model
from verbatim.server.settings.options import PLACE, UNKNOWN_FIELDS, Options

USER = {"role": "user", "content": "Hello"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
HISTORY = [USER, {"role": "assistant", "content": "x", "tool_calls": [CALL]},
           {"role": "tool", "tool_call_id": "call_1", "content": "y"}]  # fmt: skip
CHAT, TEXT, RESPONSE, VECTOR, TOKENS = (
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/tokenize",
)  # fmt: skip
BASES = {
    CHAT: {"messages": [USER], "seed": 1, "max_tokens": 8},
    TEXT: {"prompt": "Hello", "seed": 1},
    RESPONSE: {"input": "Hello", "seed": 1},
    VECTOR: {"input": "Hello"},
    TOKENS: {"messages": [USER]},
}
TABLES = {CHAT: foreign_fields.REQUEST, TEXT: foreign_fields.REQUEST, RESPONSE: foreign_fields.RESPONSE,
          VECTOR: foreign_fields.EMBEDDING, TOKENS: foreign_fields.EMBEDDING}  # fmt: skip
SAMPLES = {id(STRING): "a", id(NUMBER): 1.5, id(BOOLEAN): True, id(LIST): ["a"], id(OBJECT): {"a": 1}, id(None): [{}]}
OTHERS = SAMPLES | {id(NUMBER): 31415}
WRONG = {id(STRING): 3, id(NUMBER): "3", id(BOOLEAN): 1, id(LIST): {}, id(OBJECT): []}


@pytest.fixture(scope="module")
def model():
    return load_served_model(Options(backend="reference", device="cpu"))


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    monkeypatch.setenv(PLACE, str(tmp_path))


def meaning(path: str, body: dict, model):
    """All that the answer to a body depends on."""
    if path == TOKENS:
        return tokenize(body, model)
    adapter = registry.adapter_of(path)
    requests = adapter.read(body, model).requests
    seed = {} if "seed" in body else {"sampling": SamplingParams(seed=0)}  # a vector has none
    return [replace(request, request_id="same", **seed) for request in requests]


def rows(path: str):
    declared = TOKENIZE if path == TOKENS else registry.adapter_of(path).body
    return [(name, row) for name, row in TABLES[path].items() if name not in declared.fields]


def other_value(row):
    """One that is not neutral."""
    value = OTHERS[id(row.type)]
    return not row.neutral[0] if row.type is BOOLEAN and row.neutral else value


def refusal(path: str, body: dict, model) -> tuple[str | None, str | None]:
    with pytest.raises(RequestError) as error:
        meaning(path, body, model)
    return error.value.field, error.value.code


@pytest.mark.parametrize("policy", UNKNOWN_FIELDS)
@pytest.mark.parametrize("path", BASES)
def test_neutral_values_change_nothing_and_nobody_is_told(path, policy, model):
    base = BASES[path]
    with reading("warn"):
        plain = meaning(path, base, model)
    for name, row in rows(path):
        values = [SAMPLES[id(row.type)]] if row.neutral is None else row.neutral
        for value in (*values, None):
            with reading(policy) as under_way:
                assert meaning(path, base | {"model": model.model_id, name: value}, model) == plain, (name, value)
                assert not under_way.ignored, name


@pytest.mark.parametrize("policy", UNKNOWN_FIELDS)
@pytest.mark.parametrize("path", BASES)
def test_other_values_are_refused_or_left_to_the_policy(path, policy, model):
    base = BASES[path] | {"model": model.model_id}
    with reading("refuse"):
        plain = meaning(path, base, model)
    for name, row in rows(path):
        if row.neutral is None or other_value(row) in row.neutral:
            continue
        body = base | {name: other_value(row)}
        with reading(policy) as under_way:
            if row.is_refused or policy == "refuse":
                assert refusal(path, body, model) == (name, "unsupported_parameter"), name
            else:
                assert meaning(path, body, model) == plain, name
                assert under_way.names() == (name if policy == "warn" else "")


@pytest.mark.parametrize("path", BASES)
def test_types_stay_strict(path, model):
    for name, row in rows(path):
        if row.type is not None:
            assert refusal(path, BASES[path] | {name: WRONG[id(row.type)]}, model) == (name, "invalid_type"), name


def inside(*keys, value):
    """The value at the end of a path of keys and places, the rest of a chat around it."""
    body = {"messages": HISTORY, "tools": [TOOL], "stream": True, "stream_options": {}, "max_tokens": 8, "seed": 1}

    def put(target, keys):
        if not keys:
            return target | value
        copy = list(target) if isinstance(target, list) else dict(target)
        copy[keys[0]] = put(target[keys[0]], keys[1:])
        return copy

    return put(body, keys)


PLACES = [(), ("messages", 0), ("messages", 1), ("messages", 2), ("messages", 1, "tool_calls", 0),
          ("messages", 1, "tool_calls", 0, "function"), ("tools", 0), ("tools", 0, "function"),
          ("stream_options",)]  # fmt: skip
SILENT = [
    (("messages", 1), foreign_fields.MESSAGE), (("messages", 0), foreign_fields.MESSAGE),
    (("messages", 2), foreign_fields.MESSAGE), (("messages", 1, "tool_calls", 0), foreign_fields.CALL),
    (("messages", 1, "tool_calls", 0, "function"), foreign_fields.CALL), (("tools", 0), foreign_fields.TOOL),
    (("tools", 0, "function"), foreign_fields.TOOL), (("stream_options",), foreign_fields.STREAM_OPTIONS),
]  # fmt: skip


@pytest.mark.parametrize("keys", PLACES, ids=str)
def test_unknown_fields_follow_the_policy_everywhere(keys, model):
    path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in (*keys, "banana")).lstrip(".")
    body = inside(*keys, value={"banana": {"x": 1}}) | {"model": model.model_id}
    plain = meaning(CHAT, inside(value={}), model)
    for policy, names in (("warn", path), ("ignore", "")):
        with reading(policy) as under_way:
            assert meaning(CHAT, body, model) == plain
            assert under_way.names() == names
    with reading("refuse"):
        assert refusal(CHAT, body, model) == (path, "unknown_parameter")


@pytest.mark.parametrize(("keys", "table"), SILENT, ids=lambda value: str(value)[:40])
def test_what_comes_back_from_histories_is_taken(keys, table, model):
    plain = meaning(CHAT, inside(value={}), model)
    for name, row in table.items():
        values = [{"a": 1}, None] if row.neutral is None else row.neutral
        if name in ("reasoning_content", "refusal", "name", "id", "tool_calls"):
            continue  # an assistant's or a call's own
        for value in values:
            with reading("refuse"):
                body = inside(*keys, value={name: value}) | {"model": model.model_id}
                assert meaning(CHAT, body, model) == plain, (name, value)


SPELLINGS = [  # path, what other servers write, the same in ours
    (CHAT, {"top_k": -1}, {}), (CHAT, {"top_k": 0}, {}), (TEXT, {"top_k": -1}, {}), (RESPONSE, {"top_k": 0}, {}),
    (CHAT, {"max_tokens": -1}, {"max_tokens": None}), (CHAT, {"max_completion_tokens": -1, "max_tokens": None},
                                                       {"max_tokens": None}),
    (RESPONSE, {"max_output_tokens": -1}, {}), (CHAT, {"stop": ""}, {}), (CHAT, {"stop": ["", "a"]}, {"stop": "a"}),
    (CHAT, {"top_logprobs": 0}, {}), (CHAT, {"parallel_tool_calls": True}, {}),
    (CHAT, {"parallel_tool_calls": False}, {}),
    (CHAT, {"max_completion_tokens": 8}, {}), (CHAT, {"max_completion_tokens": 9}, {"max_tokens": 9}),
    (CHAT, {"messages": [{"role": "user", "content": []}]}, {"messages": [{"role": "user", "content": ""}]}),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "input_text", "text": "Hello"}]}]}, {}),
    (CHAT, {"messages": [USER, {"role": "assistant", "content": None}]},
     {"messages": [USER, {"role": "assistant", "content": ""}]}),
    (CHAT, {"messages": [USER, {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm"}]}]},
     {"messages": [USER, {"role": "assistant", "content": ""}]}),
    (TOKENS, {"model": ""}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "theirs", "ours"), SPELLINGS)
def test_spellings_of_other_servers_are_taken_with_their_meaning(path, theirs, ours, model):
    with reading("ignore"):
        assert meaning(path, BASES[path] | theirs, model) == meaning(path, BASES[path] | ours, model)
    if path != TOKENS:
        with reading("refuse"), pytest.raises(RequestError):
            meaning(path, BASES[path] | theirs | {"model": model.model_id}, model)


def test_wider_bounds(model):
    strings = [f"{number}" for number in range(129)]
    for name, within, beyond, strict in (
        ("temperature", 100, 100.5, 2.5), ("stop", strings[:-1], strings, strings[:5]),
    ):  # fmt: skip
        (request,) = meaning(CHAT, BASES[CHAT] | {name: within}, model)
        assert within in (request.sampling.temperature, list(request.stopping.strings))
        assert refusal(CHAT, BASES[CHAT] | {name: beyond}, model)[0] == name
        with reading("refuse"):
            assert refusal(CHAT, BASES[CHAT] | {"model": model.model_id, name: strict}, model)[0] == name


@pytest.mark.parametrize("path", BASES)
def test_null_is_absent_wherever_a_field_is_optional(path, model):
    declared = TOKENIZE if path == TOKENS else registry.adapter_of(path).body
    for name, field in declared.fields.items():
        if name not in BASES[path] and not field.is_required:
            assert meaning(path, BASES[path] | {name: None}, model) == meaning(path, BASES[path], model), name


def test_the_header_is_bounded_and_holds_no_line_break(model):
    many = {f"field{number}\r\n,": 1 for number in range(100)}
    with reading("warn") as under_way:
        meaning(CHAT, BASES[CHAT] | many, model)
    names = under_way.names()
    assert names.count(", ") == MAX_NAMES and names.endswith(f"and {100 - MAX_NAMES} more")
    assert names.startswith("field0%0D%0A%2C, ") and names.isprintable() and names.isascii()


@pytest.fixture(scope="module")
def lenient(tmp_path_factory):
    """A server with the default policy and a second name."""
    arguments = ("--served-model-name", "verbatim-demo,my/other")
    with running("fastpath", tmp_path_factory.mktemp("lenient"), *arguments) as server:
        yield server.wait_ready()


def test_header_and_log_name_what_had_no_effect(lenient):
    body = chat_body(banana="secret", mirostat=2, keep_alive=3)
    whole = lenient.http.post(CHAT, json=body)
    assert whole.headers["x-verbatim-ignored"] == "banana, mirostat"
    with lenient.http.stream("POST", CHAT, json=body | {"stream": True}) as stream:
        assert stream.headers["x-verbatim-ignored"] == "banana, mirostat"
        assert "[DONE]" in list(stream_events(stream))
    plain = lenient.chat()
    assert "x-verbatim-ignored" not in plain.headers
    assert plain.json()["choices"] == whole.json()["choices"]
    assert "without effect: banana, mirostat" in lenient.log and "secret" not in lenient.log
    for path in (TEXT, RESPONSE, VECTOR, TOKENS):
        answer = lenient.http.post(path, json=BASES[path] | {"banana": 1})
        assert (answer.status_code, answer.headers["x-verbatim-ignored"]) == (200, "banana"), answer.text
    refused = lenient.http.post(CHAT, json=body | {"audio": {"voice": "x"}})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "audio")


def test_one_model_needs_no_name_and_may_have_several(lenient):
    answers = [lenient.chat(model=name) for name in (None, "verbatim-demo", "my/other")]
    assert [answer.json()["model"] for answer in answers] == ["verbatim-demo"] * 3
    assert len({answer.json()["choices"][0]["message"]["content"] for answer in answers}) == 1
    listed = lenient.http.get("/v1/models").json()["data"]
    assert [entry["id"] for entry in listed] == ["verbatim-demo", "my/other"]
    assert lenient.http.get("/v1/models/my/other").json() == listed[1]
    assert lenient.chat(model="other").status_code == 404
