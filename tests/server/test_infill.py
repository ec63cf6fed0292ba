"""Filling in the middle over a real socket, of a small model that has the tokens for it: `suffix` and /infill."""

import json

import pytest
from jsonschema import Draft202012Validator

from live_server import running
from small_models import write_byte_tokenizer, write_model
from verbatim.server.docs.openapi import document

MARKS = ["<s>", "</s>", "<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<file_sep>"]
GAP = {"input_prefix": "def f(", "input_suffix": "return x", "n_predict": 8, "temperature": 0}


@pytest.fixture(scope="module")
def filler(tmp_path_factory):
    directory = tmp_path_factory.mktemp("filler")
    write_model(write_byte_tokenizer(directory, MARKS), vocab_size=256 + len(MARKS))
    with running("fastpath", directory, "--model", str(directory)) as server:
        yield server.wait_ready()


def fill(server, **body) -> dict:
    response = server.http.post("/infill", json=GAP | body)
    assert response.status_code == 200, response.text
    return response.json()


def test_both_ways_give_the_same_middle(filler):
    whole = fill(filler)
    body = {"prompt": "def f(", "suffix": "return x", "max_tokens": 8, "temperature": 0}
    choice = filler.http.post("/v1/completions", json=body).json()
    assert whole["content"] == choice["choices"][0]["text"]
    assert whole["tokens_evaluated"] == choice["usage"]["prompt_tokens"] == 3 + len("def f(return x")
    assert whole["tokens_predicted"] == choice["usage"]["completion_tokens"]
    assert (whole["stop"], whole["stop_type"]) == (True, "limit" if whole["tokens_predicted"] == 8 else "eos")
    Draft202012Validator(document("test")["components"]["schemas"]["Infill"]).validate(whole)
    assert fill(filler, input_prefix="def", prompt=" f(")["content"] == whole["content"]


def test_a_stream_equals_its_whole(filler):
    whole = fill(filler)
    with filler.http.stream("POST", "/infill", json=GAP | {"stream": True}) as response:
        pieces = [json.loads(line.removeprefix("data: ")) for line in response.iter_lines() if line.startswith("data:")]
    assert "".join(piece["content"] for piece in pieces) == whole["content"]
    assert [piece["stop"] for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1]["tokens_predicted"] == whole["tokens_predicted"]


def test_other_files_come_first(filler):
    extra = [{"filename": "a.py", "text": "x = 1"}, {"text": "y = 2"}]
    names = ["a.py\nx = 1", "filename\ny = 2", "filename\n"]
    num_extra = sum(1 + len(name) for name in names)
    assert fill(filler, input_extra=extra)["tokens_evaluated"] == fill(filler)["tokens_evaluated"] + num_extra


def test_a_model_without_the_tokens_refuses_by_name(server):
    response = server.http.post("/infill", json=GAP | {"model": "verbatim-demo"})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "unsupported_parameter"
