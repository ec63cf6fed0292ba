"""A real trained model's published greedy texts, word for word over HTTP, from a raw prompt and from either engine."""

import json

import pytest

from verbatim.reference.text.tokenizers import load_tokenizer


@pytest.fixture(params=[pytest.param("reference", marks=pytest.mark.slow), "fastpath"])
def storyteller(start, stories, request):
    return start(request.param, "--model", str(stories)).wait_ready()


def test_the_published_stories_word_for_word(storyteller, stories):
    tokenizer = load_tokenizer(stories)
    for story in json.loads((stories / "expected.json").read_text()):
        body = {"model": stories.name, "prompt": story["prompt"], "temperature": 0}
        body["max_tokens"] = story["steps"] - len(tokenizer.encode(story["prompt"]))
        answer = storyteller.http.post("/v1/completions", json=body).raise_for_status().json()
        assert story["prompt"] + answer["choices"][0]["text"] == story["text"]
