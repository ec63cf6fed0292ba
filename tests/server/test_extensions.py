"""What requests may say beyond the common: guided text, scored prompts, the best of many, debug_config, padding."""

import json
import re

import jsonschema
import pytest

from live_server import chat_body
from verbatim.demo import MODEL
from verbatim.reference.text.tokenizers import load_tokenizer

COLOURS = ["red / orange", "green-ish\n", 'the "blue" one', "грай 🙂"]
PERSON = {
    "type": "object",
    "properties": {"name": {"enum": ["Ada", "Bo"]}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
REGEX = "[a-f]{3}/[0-9]{2}"
LARK = 'start: "<" word ("," word)? ">"\nword: "sun" | "moon"'
NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
TIME = {"type": "function", "function": {"name": "get_time", "parameters": NOTHING}}


def say(server, endpoint="chat", **fields):
    """The text of an answer that may be as long as it needs to be."""
    fields = {"temperature": 1, "max_tokens": 99, "ignore_eos": None} | fields
    response = server.chat(**fields) if endpoint == "chat" else server.complete(**fields)
    assert response.status_code == 200, response.text
    [choice] = response.json()["choices"]
    assert choice["finish_reason"] == "stop"
    return choice["message"]["content"] if endpoint == "chat" else choice["text"]


def events(response) -> list[dict]:
    assert response.status_code == 200, response.text
    *found, done, end = response.content.decode().split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in found]


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
@pytest.mark.parametrize("seed", [1, 2])
def test_guided_text_fits(server, endpoint, seed):
    for name, value in {"guided_choice": COLOURS, "structured_outputs": {"choice": COLOURS}}.items():
        assert say(server, endpoint, seed=seed, **{name: value}) in COLOURS
    for name, value in {"guided_regex": REGEX, "structured_outputs": {"regex": REGEX}}.items():
        assert re.fullmatch(REGEX, say(server, endpoint, seed=seed, **{name: value}))
    for name, value in {"guided_grammar": LARK, "structured_outputs": {"grammar": LARK}}.items():
        assert re.fullmatch("<(sun|moon)(,(sun|moon))?>", say(server, endpoint, seed=seed, **{name: value}))
    schemas = {"guided_json": PERSON, "structured_outputs": {"json": json.dumps(PERSON)}}
    for name, value in schemas.items():
        jsonschema.validate(json.loads(say(server, endpoint, seed=seed, **{name: value})), PERSON)


def test_json_objects_without_a_schema(server):
    response = server.complete(structured_outputs={"json_object": True}, temperature=1, max_tokens=30)
    assert response.json()["choices"][0]["text"].lstrip().startswith("{")


@pytest.mark.parametrize("seed", range(6))
def test_with_tools_and_a_format_an_answer_is_calls_or_fits(server, seed):
    """As OpenAI has it: the format binds what is said, not what is called."""
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    content = "What time is it?" if seed % 2 else "Who are you? Answer in JSON."
    fields = {"tools": [TIME], "response_format": form, "temperature": 1, "seed": seed, "max_tokens": 200}
    [choice] = server.chat(content=content, ignore_eos=None, **fields).json()["choices"]
    calls = choice["message"].get("tool_calls")
    if calls:
        assert (choice["message"]["content"], choice["finish_reason"]) == (None, "tool_calls")
        assert all(json.loads(call["function"]["arguments"]) == {} for call in calls)
    else:
        jsonschema.validate(json.loads(choice["message"]["content"]), PERSON)
    forced = server.chat(content=content, ignore_eos=None, tool_choice="required", parallel_tool_calls=False, **fields)
    assert forced.json()["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_time"


def test_with_tools_and_a_format_either_way_is_open(server):
    """A bias decides: towards what begins an object, or towards what begins a call."""
    tokenizer = load_tokenizer(MODEL)
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    fields = {"tools": [TIME], "response_format": form, "max_tokens": 200, "ignore_eos": None}
    for opening, is_call in (("{", False), ("<tool_call>", True)):
        first = tokenizer.control_ids.get(opening) or tokenizer.encode(opening)[0]
        response = server.chat(logit_bias={str(first): 100}, parallel_tool_calls=False, **fields)
        assert ("tool_calls" in response.json()["choices"][0]["message"]) == is_call


def test_a_prompt_is_scored(server):
    body = server.chat(prompt_logprobs=2, n=2, temperature=1, seed=1).json()
    first, *scores = body["prompt_logprobs"]
    assert first is None and len(scores) == body["usage"]["prompt_tokens"] - 1
    for entry in scores:
        assert entry["logprob"] <= 0 and len(entry["top_logprobs"]) == 2
        assert entry["top_logprobs"][0]["logprob"] >= entry["top_logprobs"][1]["logprob"]
    spoken = b"".join(bytes(entry["bytes"]) for entry in scores)
    assert b"Hello" in spoken
    again = server.chat(prompt_logprobs=0, n=2, temperature=1, seed=1).json()
    assert [entry["logprob"] for entry in again["prompt_logprobs"][1:]] == [entry["logprob"] for entry in scores]
    assert again["choices"] == body["choices"] == server.chat(n=2, temperature=1, seed=1).json()["choices"]
    assert "prompt_logprobs" not in server.chat().json()


def test_the_best_of_many(server):
    fields = {"prompt": ["Hello", "The capital"], "temperature": 1, "seed": 4, "max_tokens": 6, "ignore_eos": True}
    many = server.complete(n=5, logprobs=0, **fields).json()
    best = server.complete(n=2, best_of=5, **fields).json()
    assert [choice["index"] for choice in best["choices"]] == [0, 1, 2, 3]
    for prompt in range(2):
        candidates = many["choices"][5 * prompt : 5 * prompt + 5]
        candidates.sort(key=lambda choice: -sum(choice["logprobs"]["token_logprobs"]))  # all have 6 tokens
        expected = [choice["text"] for choice in candidates[:2]]
        assert [choice["text"] for choice in best["choices"][2 * prompt : 2 * prompt + 2]] == expected
    assert all(choice["logprobs"] is None for choice in best["choices"])
    assert best["usage"]["completion_tokens"] == many["usage"]["completion_tokens"] == 60
    scored = server.complete(n=1, best_of=5, logprobs=1, echo=True, **fields | {"prompt": "Hello"}).json()["choices"][0]
    assert scored["text"] == "Hello" + best["choices"][0]["text"]


def test_debug_config_ignores_what_would_end_an_answer(server):
    fields = {"temperature": 0, "ignore_eos": None, "max_tokens": 30}
    plain = server.chat(**fields | {"ignore_eos": True}).json()["choices"][0]["message"]["content"]
    config = {"ignore_eos": True, "grammar_execution_mode": "constraint", "pinned_system_prompt": False}
    body = server.chat(debug_config=config, stop=plain[:3], **fields).json()
    assert body["choices"][0]["message"]["content"] == plain
    assert (body["choices"][0]["finish_reason"], body["usage"]["completion_tokens"]) == ("length", 30)


def test_debug_config_asks_for_the_engines_counts(server):
    body = {"stream": True, "stream_options": {"include_usage": True}}
    body |= {"debug_config": {"special_request": "query_engine_metrics"}}
    for response in (server.chat(**body), server.complete(**body)):
        [chunk] = events(response)
        assert chunk["choices"] == []
        assert chunk["usage"]["completion_tokens"] == chunk["usage"]["prompt_tokens"] == 0
        assert chunk["usage"]["extra"].keys() == server.health().keys()


def test_a_prediction_changes_nothing(server):
    plain = server.chat().json()["choices"]
    parts = [{"type": "text", "text": "some"}, {"type": "text", "text": "thing"}]
    for content in ("something", parts):
        assert server.chat(prediction={"type": "content", "content": content}).json()["choices"] == plain


def test_padded_chunks_hide_their_length(server):
    fields = {"max_tokens": 30, "stream": True, "temperature": 1, "seed": 2}
    padded = events(server.chat(stream_options={"include_obfuscation": True}, **fields))
    plain = events(server.chat(stream_options={"include_obfuscation": False}, **fields))
    for chunk in padded:
        size = len(json.dumps(chunk["choices"], ensure_ascii=False, separators=(",", ":")).encode())
        assert (size + len(chunk.pop("obfuscation"))) % 32 == 0
    assert [chunk["choices"] for chunk in padded] == [chunk["choices"] for chunk in plain]
    assert all("obfuscation" not in chunk for chunk in plain)
    completion = events(server.complete(stream=True, stream_options={"include_obfuscation": True}))
    assert all("obfuscation" in chunk for chunk in completion)


def test_a_body_of_our_own_reaches_the_client(server):
    """The official client hands extensions over in `extra_body`."""
    create = server.client().chat.completions.create
    fields = chat_body(ignore_eos=None)
    answer = create(**fields, extra_body={"guided_choice": COLOURS, "prompt_logprobs": 0})
    assert answer.choices[0].message.content in [colour[: len(answer.choices[0].message.content)] for colour in COLOURS]
    assert answer.prompt_logprobs[0] is None
