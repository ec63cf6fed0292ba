"""What clients that measure models read beside the text: token ids, scores of a prompt, usage in every chunk."""

import pytest

from live_server import chat_body
from verbatim.server.http.sse import read_event

USER = {"role": "user", "content": "What is 17 + 25?"}


def complete(server, **body) -> dict:
    response = server.complete(**{"temperature": 0, "max_tokens": 6, "ignore_eos": True} | body)
    assert response.status_code == 200, response.text
    return response.json()


def events(server, path: str, body: dict) -> list[dict]:
    with server.http.stream("POST", path, json=body | {"stream": True}) as response:
        lines = [line for line in response.iter_lines() if line.startswith("data: {")]
    return [read_event(line.encode() + b"\n\n") for line in lines]


def ids_of(server, text: str) -> list[int]:
    return server.http.post("/tokenize", json={"prompt": text}).json()["tokens"]


def test_a_completion_has_the_ids_of_its_tokens(server):
    body = {"prompt": ["Hello", "A cat"], "n": 2, "temperature": 1, "seed": 3, "return_token_ids": True}
    choices = complete(server, **body)["choices"]
    for choice, prompt in zip(choices, ("Hello", "Hello", "A cat", "A cat"), strict=True):
        assert choice["prompt_token_ids"] == ids_of(server, prompt) and len(choice["token_ids"]) == 6
        text = server.http.post("/detokenize", json={"tokens": choice["token_ids"]}).json()["prompt"]
        assert text.strip() == choice["text"].strip()
    streamed = {choice["index"]: [] for choice in choices}
    prompts = dict(streamed)
    body |= {"model": "verbatim-demo", "max_tokens": 6, "ignore_eos": True}
    for event in events(server, "/v1/completions", body):
        for item in event["choices"]:
            streamed[item["index"]] += item["token_ids"]
            prompts[item["index"]] = item.get("prompt_token_ids") or prompts[item["index"]]
    assert streamed == {choice["index"]: choice["token_ids"] for choice in choices}
    assert prompts == {choice["index"]: choice["prompt_token_ids"] for choice in choices}
    assert "token_ids" not in complete(server)["choices"][0]


def test_a_chat_has_them_too(server):
    body = chat_body(messages=[USER], return_token_ids=True)
    whole = server.http.post("/v1/chat/completions", json=body).json()
    assert whole["prompt_token_ids"] == server.http.post("/tokenize", json={"messages": [USER]}).json()["tokens"]
    first, *others = events(server, "/v1/chat/completions", body)
    assert first["prompt_token_ids"] == whole["prompt_token_ids"]
    assert not any("prompt_token_ids" in event for event in others)
    items = [item for event in (first, *others) for item in event["choices"]]
    assert [i for item in items for i in item.get("token_ids", ())] == whole["choices"][0]["token_ids"]


def test_the_scores_of_a_prompt_are_those_of_its_echo(server):
    ids = ids_of(server, "Once upon a time")
    answer = complete(server, prompt=[ids, "Hello"], max_tokens=0, logprobs=2, echo=True, prompt_logprobs=3)
    for choice, expected in zip(answer["choices"], (ids, ids_of(server, "Hello")), strict=True):
        first, *others = choice["prompt_logprobs"]
        assert first is None and len(others) == len(expected) - 1
        arrays = choice["logprobs"]
        assert all(len(top) <= 3 for top in arrays["top_logprobs"][1:])
        for token_id, entries, logprob in zip(expected[1:], others, arrays["token_logprobs"][1:], strict=True):
            assert entries[str(token_id)]["logprob"] == logprob
            assert sorted(each["rank"] for each in entries.values() if each["rank"]) == [1, 2, 3]
    alone = complete(server, prompt=ids, prompt_logprobs=3)["choices"][0]
    assert alone["prompt_logprobs"] == answer["choices"][0]["prompt_logprobs"] and alone["logprobs"] is None
    refused = server.complete(prompt_logprobs=1, stream=True)
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "prompt_logprobs"


def test_as_lm_eval_scores_continuations(server):
    """Its requests are batches of ids, of which it reads the log-probabilities and whether a token is the likeliest."""
    contexts, continuation = ["The sky is", "Two and two"], ids_of(server, " blue")[-1:]
    prompts = [ids_of(server, text) + continuation for text in contexts]
    body = {"prompt": prompts, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True}
    for choice, prompt in zip(complete(server, **body)["choices"], prompts, strict=True):
        arrays = choice["logprobs"]
        assert len(arrays["tokens"]) == len(arrays["token_logprobs"]) == len(prompt) + 1
        for logprob, top in zip(arrays["token_logprobs"][1:], arrays["top_logprobs"][1:], strict=True):
            assert logprob <= max(top.values()) and logprob in top.values()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_each_chunk_has_the_usage_so_far(server, path):
    body = {"model": "verbatim-demo", "max_tokens": 5, "temperature": 0, "ignore_eos": True}
    body |= {"messages": [USER]} if "chat" in path else {"prompt": "Hello"}
    options = {"include_usage": True, "continuous_usage_stats": True}
    found = [event["usage"] for event in events(server, path, body | {"stream_options": options})]
    counts = [usage["completion_tokens"] for usage in found]
    assert counts == sorted(counts) and counts[-1] == 5 and len(set(counts)) > 3
    assert len({usage["prompt_tokens"] for usage in found}) == 1
    plain = events(server, path, body | {"stream_options": {"include_usage": True}})
    assert [bool(event["usage"]) for event in plain] == [False] * (len(plain) - 1) + [True]
