"""Embeddings over a real socket: every form of input and output, the same vectors however they are asked for."""

import base64
import json
import math

import numpy as np
import pytest

from small_models import write_byte_tokenizer, write_model
from verbatim.demo import MODEL
from verbatim.reference.backend import load_engine
from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.checkpoint.pooling import load_pooling
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.request import Request
from verbatim.reference.text.tokenizers import load_tokenizer

TEXTS = ["Hello there", "The capital of France", "Grüße 🙂"]
HIDDEN = load_config(MODEL).hidden_size


def post(server, **fields):
    return server.http.post("/v1/embeddings", json={"model": "verbatim-demo", "input": TEXTS[0]} | fields)


def embed(server, **fields) -> list[list[float]]:
    """The vectors, after checks of what is around them."""
    response = post(server, **fields)
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["object"], body["model"]) == ("list", "verbatim-demo")
    assert [item["index"] for item in body["data"]] == list(range(len(body["data"])))
    assert all(item["object"] == "embedding" for item in body["data"])
    assert set(body["usage"]) == {"prompt_tokens", "total_tokens"}
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] > 0
    return [item["embedding"] for item in body["data"]]


def test_a_vector_is_one_long(server):
    [vector] = embed(server)
    assert len(vector) == HIDDEN
    assert math.isclose(sum(value * value for value in vector), 1, rel_tol=1e-6)
    assert np.float32(vector).tolist() == vector


def test_all_forms_of_input(server):
    tokenizer = load_tokenizer(MODEL)
    apart = [embed(server, input=text)[0] for text in TEXTS]
    assert len({tuple(vector) for vector in apart}) == 3
    assert embed(server, input=TEXTS) == apart
    ids = [tokenizer.encode_prompt(text) for text in TEXTS]
    assert embed(server, input=ids) == apart
    assert embed(server, input=ids[1]) == [apart[1]]
    usage = post(server, input=TEXTS).json()["usage"]
    assert usage["prompt_tokens"] == sum(map(len, ids))


def test_a_short_queue_takes_many_inputs(start, server):
    short = start(server.backend, "--max-queue", "1", "--max-num-sequence", "1").wait_ready()
    assert embed(short, input=TEXTS) == embed(server, input=TEXTS)


def test_more_inputs_than_the_engine_queues(server):
    many = embed(server, input=TEXTS * 100)
    assert many == embed(server, input=TEXTS) * 100
    assert server.health()["used_pages"] == 0


def test_base64_holds_the_same_numbers(server):
    [text] = embed(server, encoding_format="base64")
    assert np.frombuffer(base64.b64decode(text), "<f4").tolist() == embed(server, encoding_format="float")[0]


def test_fewer_dimensions(server):
    [vector], [short] = embed(server), embed(server, dimensions=5)
    first = np.array(vector[:5])
    np.testing.assert_allclose(short, first / np.linalg.norm(first), rtol=1e-6)
    assert embed(server, dimensions=HIDDEN)[0] == pytest.approx(vector, rel=1e-6)


def test_the_pooling_can_be_chosen(server):
    mean, last = embed(server, pooling="mean"), embed(server, pooling="last")
    assert mean == embed(server) != last


def test_the_vectors_are_the_references(server):
    """To the bit, whichever engine serves, and whatever else it has been asked before."""
    engine = load_engine(MODEL)
    for index, text in enumerate(TEXTS):
        ids = tuple(engine.tokenizer.encode_prompt(text))
        engine.add(Request(request_id=str(index), prompt_ids=ids, pooling="mean"))
    outputs = []
    while engine.has_work():
        outputs += engine.step()
    assert embed(server, input=TEXTS) == [list(output.embedding) for output in outputs]


BAD = [
    ({"input": None}, "input", "missing_required_parameter"),
    ({"input": ""}, "input", "empty_input"),
    ({"input": []}, "input", "invalid_value"),
    ({"input": ["a"] * 2049}, "input", "invalid_value"),
    ({"input": 5}, "input", "invalid_type"),
    ({"input": ["a", ""]}, "input[1]", "empty_input"),
    ({"input": [[]]}, "input[0]", "empty_input"),
    ({"input": [1, "a"]}, "input[1]", "invalid_type"),
    ({"input": [10**9]}, "input[0]", "integer_above_max_value"),
    ({"input": "word " * 9000}, "input", "context_length_exceeded"),
    ({"encoding_format": "hex"}, "encoding_format", "invalid_value"),
    ({"dimensions": 0}, "dimensions", "integer_below_min_value"),
    ({"dimensions": HIDDEN + 1}, "dimensions", "integer_above_max_value"),
    ({"pooling": "cls"}, "pooling", "invalid_value"),
    ({"banana": 1}, "banana", "unknown_parameter"),
]


@pytest.mark.parametrize(("fields", "param", "code"), BAD)
def test_bad_requests(server, fields, param, code):
    response = post(server, **fields)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert (error["param"], error["code"]) == (param, code)


def test_unknown_models(server):
    assert post(server, model="other").json()["error"]["code"] == "model_not_found"


def test_openai_client(server):
    """It asks for base64 by itself, and gives numbers."""
    answer = server.client().embeddings.create(model="verbatim-demo", input=TEXTS)
    assert [item.embedding for item in answer.data] == embed(server, input=TEXTS)


def test_a_model_says_how_it_is_pooled(start, tmp_path):
    directory = write_byte_tokenizer(write_model(tmp_path / "model", vocab_size=259, eos_token_id=256), ["<eos>"])
    settings = directory / "1_Pooling" / "config.json"
    settings.parent.mkdir()
    for mode, pooling in {"pooling_mode_mean_tokens": "mean", "pooling_mode_lasttoken": "last"}.items():
        settings.write_text(json.dumps({"pooling_mode_cls_token": False, mode: True, "word_embedding_dimension": 8}))
        assert load_pooling(directory) == pooling
    server = start("reference", "--model", str(directory)).wait_ready()
    assert embed_of(server) == embed_of(server, pooling="last") != embed_of(server, pooling="mean")
    settings.write_text(json.dumps({"pooling_mode_cls_token": True}))
    with pytest.raises(ModelError, match="pooling_mode_cls_token"):
        load_pooling(directory)


def embed_of(server, **fields):
    return post(server, model="model", **fields).json()["data"][0]["embedding"]
