"""Legacy completions: prompts in all four forms, choices prompt by prompt, echo, arrays of log-probabilities."""

import json
from collections import Counter

import pytest

from verbatim.demo import MODEL
from verbatim.reference.text.tokenizers import load_tokenizer
from verbatim.server.api.logprobs import completion_token

TOKENIZER = load_tokenizer(MODEL)
TEXTS = Counter(completion_token(TOKENIZER.token_bytes(i)) for i in range(TOKENIZER.vocab_size))
SHARED = {text for text, count in TEXTS.items() if count > 1}  # a character has a piece and a byte: one key of two


def complete(server, **fields) -> dict:
    response = server.complete(**{"temperature": 0, "max_tokens": 6, "ignore_eos": True} | fields)
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["object"] == "text_completion" and body["id"].startswith("cmpl-")
    assert [choice["index"] for choice in body["choices"]] == list(range(len(body["choices"])))
    return body


def texts(body) -> list[str]:
    return [choice["text"] for choice in body["choices"]]


def test_defaults(server):
    body = complete(server, max_tokens=None)
    assert body["usage"]["completion_tokens"] == 16
    assert body["choices"][0]["logprobs"] is None
    assert body["choices"][0]["finish_reason"] == "length"


def test_prompts_and_choices_are_numbered_prompt_by_prompt(server):
    fields = {"temperature": 1, "seed": 4}
    both = complete(server, prompt=["Hello", "The capital"], n=2, **fields)
    apart = [complete(server, prompt=prompt, n=2, **fields) for prompt in ("Hello", "The capital")]
    assert texts(both) == texts(apart[0]) + texts(apart[1])
    assert both["usage"]["prompt_tokens"] == sum(body["usage"]["prompt_tokens"] for body in apart)
    assert both["usage"]["completion_tokens"] == 24


def test_token_ids_are_prompts(server):
    single = complete(server, prompt=[300, 301])
    assert single["usage"]["prompt_tokens"] == 2
    assert texts(complete(server, prompt=[[300, 301], [302]]))[0] == texts(single)[0]
    echoed = complete(server, prompt=[300, 301], echo=True)
    assert texts(echoed)[0].endswith(texts(single)[0])


@pytest.mark.parametrize("prompt", ["Hello", "Grüße 🙂 你好", "  spaces\n"])
def test_echo(server, prompt):
    body = complete(server, prompt=prompt, echo=True, max_tokens=0)
    assert texts(body) == [prompt]
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 0 < body["usage"]["prompt_tokens"]
    plain = texts(complete(server, prompt=prompt))[0]
    assert texts(complete(server, prompt=prompt, echo=True)) == [prompt + plain]
    assert fold(server, prompt=prompt, echo=True)[0]["text"] == prompt + plain


@pytest.mark.parametrize("prompt", ["Hello", "The capital of France: é", [300, 301, 302]])
def test_a_prompt_is_scored_where_logprobs_and_echo_meet(server, prompt):
    fields = {"prompt": prompt, "echo": True, "logprobs": 2, "max_tokens": 4, "n": 2, "temperature": 1, "seed": 5}
    body = complete(server, **fields)
    plain = complete(server, **fields | {"echo": False})
    for choice, without in zip(body["choices"], plain["choices"], strict=True):
        arrays, answer = choice["logprobs"], without["logprobs"]
        num_prompt = body["usage"]["prompt_tokens"]
        assert {len(values) for values in arrays.values()} == {num_prompt + len(answer["tokens"])}
        assert (arrays["token_logprobs"][0], arrays["top_logprobs"][0]) == (None, None)
        for top in arrays["top_logprobs"][1:]:
            num_merged = any(text in SHARED for text in top)
            assert 2 - num_merged <= len(top) <= 3
        assert arrays["token_logprobs"][num_prompt:] == answer["token_logprobs"]
        for place, token in zip(arrays["text_offset"], arrays["tokens"], strict=True):
            assert token.startswith("bytes:") or choice["text"][place:].startswith(token)
    streamed = fold(server, **fields)
    assert [choice["logprobs"] for choice in streamed] == [choice["logprobs"] for choice in body["choices"]]
    only = complete(server, **fields | {"max_tokens": 0})
    assert only["usage"]["completion_tokens"] == 0
    assert [choice["text"] for choice in only["choices"]] == [
        choice["text"].removesuffix(without["text"])
        for choice, without in zip(body["choices"], plain["choices"], strict=True)
    ]
    scored = body["choices"][0]["logprobs"]["token_logprobs"][:num_prompt]
    assert only["choices"][1]["logprobs"]["token_logprobs"] == scored


def fold(server, **fields) -> list[dict]:
    """A stream's choices put together."""
    response = server.complete(**{"temperature": 0, "max_tokens": 6, "ignore_eos": True, "stream": True} | fields)
    assert response.status_code == 200, response.text
    *events, done, end = response.content.decode().split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    choices = {}
    for event in events:
        chunk = json.loads(event.removeprefix("data: "))
        assert chunk["object"] == "text_completion"
        for item in chunk["choices"]:
            choice = choices.setdefault(item["index"], {"text": "", "logprobs": {}, "finish_reason": None})
            assert choice["finish_reason"] is None
            choice["text"] += item["text"]
            choice["finish_reason"] = item["finish_reason"]
            for name, values in (item["logprobs"] or {}).items():
                choice["logprobs"].setdefault(name, []).extend(values)
    return [choices[index] for index in sorted(choices)]


def test_a_stream_equals_the_whole(server):
    fields = {"prompt": ["Hello", "The capital"], "n": 2, "temperature": 1, "seed": 9, "logprobs": 3, "max_tokens": 12}
    whole = complete(server, **fields)["choices"]
    assert fold(server, **fields) == [
        {name: choice[name] for name in ("text", "logprobs", "finish_reason")} for choice in whole
    ]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_logprobs(server, count):
    body = complete(server, logprobs=count, temperature=1, seed=3)
    [choice] = body["choices"]
    arrays = choice["logprobs"]
    assert {len(values) for values in arrays.values()} == {body["usage"]["completion_tokens"]}
    assert arrays["text_offset"][0] == 0
    assert arrays["text_offset"] == sorted(arrays["text_offset"])
    for token, logprob, top in zip(arrays["tokens"], arrays["token_logprobs"], arrays["top_logprobs"], strict=True):
        assert logprob <= 0
        assert top[token] == logprob
        assert 1 <= len(top) <= count + 1


def test_usage_chunk(server):
    request = {"model": "verbatim-demo", "prompt": "Hello", "max_tokens": 4, "temperature": 0}
    chunks = list(server.client().completions.create(**request, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens <= 4
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_best_of_n_and_empty_suffix_change_nothing(server):
    assert texts(complete(server, best_of=1, suffix="")) == texts(complete(server))
