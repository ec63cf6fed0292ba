"""Filling in the middle: a family is known by its tokens, and its prompt has its order."""

import json

import pytest

from small_models import write_byte_tokenizer, write_model
from verbatim.demo import MODEL
from verbatim.reference.records.errors import RequestError
from verbatim.reference.text.infill import FAMILIES, find_infill
from verbatim.reference.text.tokenizers import load_tokenizer
from verbatim.server.api import registry
from verbatim.server.models.served import load_served_model
from verbatim.server.settings.options import Options

TEXT = "/v1/completions"


def texts(tokenizer, ids):
    names = {token_id: mark for mark, token_id in tokenizer.control_ids.items()}
    return "".join(names.get(i) or tokenizer.token_bytes(i).decode() for i in ids)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.prefix)
def test_each_family_has_its_order(tmp_path, family):
    marks = [mark for mark in (family.prefix, family.suffix, family.middle) if mark]
    write_byte_tokenizer(tmp_path, ["<s>", "</s>", *marks, "<|endoftext|>"])
    tokenizer = load_tokenizer(tmp_path)
    infill = find_infill(tokenizer)
    assert infill.family is family
    parts = [f"{family.prefix}def f(", f"{family.suffix}return x <s>"]
    prompt = "".join(reversed(parts) if family.is_suffix_first else parts) + family.middle
    ids = infill.encode(tokenizer, "def f(", "return x <s>")
    assert texts(tokenizer, ids) == prompt and tokenizer.control_ids["<s>"] not in ids
    assert {tokenizer.control_ids[mark] for mark in (*marks, "<|endoftext|>")} <= set(infill.stop_ids)


def test_marks_may_be_tokens_that_are_no_control_tokens(tmp_path):
    """As those of Qwen2.5-Coder are."""
    marks = [FAMILIES[0].prefix, FAMILIES[0].suffix, FAMILIES[0].middle]
    write_byte_tokenizer(tmp_path, ["<s>", "</s>", *marks])
    path = tmp_path / "tokenizer.json"
    raw = json.loads(path.read_text())
    for token in raw["added_tokens"]:
        token["special"] = token["content"] not in marks
    path.write_text(json.dumps(raw))
    infill = find_infill(load_tokenizer(tmp_path))
    assert infill.family is FAMILIES[0] and len(infill.stop_ids) == 3


def test_a_model_without_them_has_none():
    assert find_infill(load_tokenizer(MODEL)) is None


def test_a_completion_with_a_suffix(tmp_path):
    write_byte_tokenizer(tmp_path, ["<s>", "</s>", "<fim_prefix>", "<fim_suffix>", "<fim_middle>"])
    write_model(tmp_path, vocab_size=261)
    model = load_served_model(Options(backend="reference", device="cpu", model=str(tmp_path)))
    body = {"prompt": ["a", "b"], "suffix": "z", "stop_token_ids": [7]}
    requests = registry.adapter_of(TEXT).read(body, model).requests
    assert [texts(model.tokenizer, request.prompt_ids) for request in requests] == [
        "<fim_prefix>a<fim_suffix>z<fim_middle>",
        "<fim_prefix>b<fim_suffix>z<fim_middle>",
    ]
    assert set(requests[0].stopping.token_ids) == {7, *model.infill.stop_ids}
    for wrong, field in (({"prompt": [1, 2]}, "prompt"), ({"echo": True}, "echo")):
        with pytest.raises(RequestError) as error:
            registry.adapter_of(TEXT).read(body | wrong, model)
        assert error.value.field == field
