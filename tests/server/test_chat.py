"""Chat completions over a real socket: shapes, sampling, stopping, log-probabilities, usage; streamed as whole."""

import json
import math

import jsonschema
import pytest

from live_server import chat_body
from raw_http import connect, post, read_chunks

LOGPROB = {
    "type": "object",
    "required": ["token", "logprob", "bytes"],
    "properties": {
        "token": {"type": "string"},
        "logprob": {"type": "number", "maximum": 1e-6},
        "bytes": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}},
    },
}
LOGPROBS = {
    "type": ["object", "null"],
    "required": ["content", "refusal"],
    "properties": {
        "content": {
            "items": {
                "allOf": [LOGPROB],
                "required": ["top_logprobs"],
                "properties": {"top_logprobs": {"items": LOGPROB}},
            }
        }
    },
}
USAGE = {
    "type": "object",
    "required": [
        "prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details",
    ],
    "properties": {"prompt_tokens_details": {"required": ["cached_tokens"]}},
}  # fmt: skip
ENVELOPE = {
    "id": {"type": "string", "pattern": "^chatcmpl-.+"},
    "created": {"type": "integer", "minimum": 1_700_000_000},
    "model": {"const": "verbatim-demo"},
    "system_fingerprint": {"type": "string"},
}
FINISH = {"enum": ["stop", "length", "tool_calls"]}
COMPLETION = {
    "type": "object",
    "required": ["id", "object", "created", "model", "choices", "usage"],
    "additionalProperties": False,
    "properties": ENVELOPE
    | {
        "object": {"const": "chat.completion"},
        "usage": USAGE,
        "choices": {
            "items": {
                "required": ["index", "message", "finish_reason", "logprobs"],
                "additionalProperties": False,
                "properties": {
                    "index": {"type": "integer"},
                    "finish_reason": FINISH,
                    "logprobs": LOGPROBS,
                    "message": {
                        "required": ["role", "content", "refusal"],
                        "additionalProperties": False,
                        "properties": {
                            "role": {"const": "assistant"},
                            "content": {"type": ["string", "null"]},
                            "refusal": {"type": "null"},
                        },
                    },
                },
            }
        },
    },
}
CHUNK = {
    "type": "object",
    "required": ["id", "object", "created", "model", "choices"],
    "additionalProperties": False,
    "properties": ENVELOPE
    | {
        "object": {"const": "chat.completion.chunk"},
        "usage": {"anyOf": [{"type": "null"}, USAGE]},
        "choices": {
            "items": {
                "required": ["index", "delta", "finish_reason", "logprobs"],
                "additionalProperties": False,
                "properties": {
                    "index": {"type": "integer"},
                    "delta": {"type": "object"},
                    "finish_reason": {"anyOf": [{"type": "null"}, FINISH]},
                    "logprobs": LOGPROBS,
                },
            }
        },
    },
}


def ask(server, content="Hello", **fields) -> dict:
    response = server.chat(content=content, **fields)
    assert response.status_code == 200, response.text
    body = response.json()
    jsonschema.validate(body, COMPLETION)
    return body


def text_of(body, choice=0) -> str:
    return body["choices"][choice]["message"]["content"]


def stream(server, content="Hello", **fields) -> list[dict]:
    """The chunks of a stream, after strict checks of its framing."""
    response = server.chat(content=content, stream=True, **fields)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    events = response.content.decode().split("\n\n")
    assert events.pop() == ""
    assert events.pop() == "data: [DONE]"
    chunks = []
    for event in events:
        assert event.startswith("data: {") and "\n" not in event
        chunks.append(json.loads(event.removeprefix("data: ")))
        jsonschema.validate(chunks[-1], CHUNK)
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
    return chunks


def fold(chunks, index=0) -> dict:
    """One choice of a stream as the whole answer would show it, after checks of the order of its parts."""
    items = [item for chunk in chunks for item in chunk["choices"] if item["index"] == index]
    assert items[0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert items[-1]["delta"] == {}
    assert [item["finish_reason"] is None for item in items] == [True] * (len(items) - 1) + [False]
    assert all("role" not in item["delta"] for item in items[1:])
    entries = [entry for item in items if item["logprobs"] for entry in item["logprobs"]["content"]]
    has_logprobs = any(item["logprobs"] for item in items)
    content = "".join(item["delta"].get("content", "") for item in items)
    return {
        "index": index,
        "message": {"role": "assistant", "content": content, "refusal": None},
        "finish_reason": items[-1]["finish_reason"],
        "logprobs": {"content": entries, "refusal": None} if has_logprobs else None,
    }


def test_models(server):
    listed = server.http.get("/v1/models").json()
    assert listed["object"] == "list"
    [model] = listed["data"]
    assert model["id"] == "verbatim-demo" and model["object"] == "model" and model["owned_by"]
    assert type(model["created"]) is int
    assert server.http.get("/v1/models/verbatim-demo").json() == model


def test_shape_and_length(server):
    body = ask(server, max_tokens=7)
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["choices"][0]["logprobs"] is None
    assert "tool_calls" not in body["choices"][0]["message"]
    usage = body["usage"]
    assert usage["completion_tokens"] == 7
    assert usage["total_tokens"] == usage["prompt_tokens"] + 7
    assert body["id"] != ask(server, max_tokens=1)["id"]


def test_max_completion_tokens_is_max_tokens(server):
    assert text_of(ask(server, max_tokens=None, max_completion_tokens=5)) == text_of(ask(server, max_tokens=5))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n": 3, "temperature": 1, "seed": 3},
        {"logprobs": True, "top_logprobs": 3},
        {"logprobs": True, "n": 2, "temperature": 1.5, "seed": 7, "max_tokens": 20},
        {"max_tokens": 1},
        {"ignore_eos": False, "max_tokens": 40},
    ],
)
def test_a_stream_equals_the_whole(server, fields):
    whole = ask(server, **fields)
    chunks = stream(server, stream_options={"include_usage": True}, **fields)
    assert [fold(chunks, index) for index in range(fields.get("n", 1))] == whole["choices"]
    assert chunks[-1]["choices"] == []
    usages = [chunk["usage"] for chunk in chunks]
    assert usages[:-1] == [None] * (len(usages) - 1)
    assert {**usages[-1], "prompt_tokens_details": 0} == {**whole["usage"], "prompt_tokens_details": 0}


def test_usage_comes_only_on_request(server):
    for options in ({}, {"stream_options": {"include_usage": False}}, {"stream_options": None}):
        assert all("usage" not in chunk and chunk["choices"] for chunk in stream(server, **options))


def test_a_stream_comes_bit_by_bit(server):
    body = chat_body(stream=True, max_tokens=1900)
    with server.http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.headers["transfer-encoding"] == "chunked"
        assert b"[DONE]" not in next(response.iter_raw())


def test_each_event_is_one_chunk_of_http(server):
    """Clients that read chunk by chunk, as in MLC's examples, get one event at a time however many came together."""
    with connect(server) as sock, sock.makefile("rb") as file:
        sock.sendall(post(chat_body(stream=True, n=8, max_tokens=60, ignore_eos=True)))
        while file.readline().strip():
            pass
        chunks = list(read_chunks(file))
    assert len(chunks) > 400
    assert all(chunk.startswith(b"data: ") and chunk.find(b"\n\n") == len(chunk) - 2 for chunk in chunks)


def test_seeds(server):
    def answer(seed):
        return text_of(ask(server, temperature=2, seed=seed, max_tokens=24))

    answers = [answer(seed) for seed in (1, 2, -1)]
    assert len(set(answers)) > 1
    assert answer(2) == answers[1]
    three = ask(server, temperature=2, seed=2, max_tokens=24, n=3)
    texts = [text_of(three, choice) for choice in range(3)]
    assert texts[0] == answers[1]
    assert len(set(texts)) > 1
    assert ask(server, seed=2**63 - 1, max_tokens=1)
    unsure = {"messages": [{"role": "user", "content": "Sing"}], "temperature": 2, "max_tokens": 64, "ignore_eos": True}
    assert len({text_of(ask(server, **unsure)) for _ in range(2)}) > 1


def test_usage_counts_the_prompt_once_and_sums_choices(server):
    single, three = (ask(server, n=n, max_tokens=5)["usage"] for n in (1, 3))
    assert three["prompt_tokens"] == single["prompt_tokens"]
    assert three["completion_tokens"] == 3 * single["completion_tokens"]


def test_stop_strings(server):
    fields = {"temperature": 1, "seed": 11, "max_tokens": 24}
    whole = text_of(ask(server, **fields))
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    for choice in (stop, [stop], ["no such thing", stop]):
        body = ask(server, stop=choice, **fields)
        assert text_of(body) == whole[: whole.index(stop)]
        assert body["choices"][0]["finish_reason"] == "stop"
    assert fold(stream(server, stop=stop, **fields))["message"]["content"] == whole[: whole.index(stop)]
    kept = text_of(ask(server, stop=stop, include_stop_str_in_output=True, **fields))
    assert kept == whole[: whole.index(stop) + len(stop)]
    for nothing in (None, [], stop + "¿"):
        assert text_of(ask(server, stop=nothing, **fields)) == whole


def test_logprobs(server):
    body = ask(server, logprobs=True, top_logprobs=20, max_tokens=6)
    entries = body["choices"][0]["logprobs"]["content"]
    assert len(entries) == body["usage"]["completion_tokens"] == 6
    assert bytes(b for entry in entries for b in entry["bytes"]).decode(errors="replace") == text_of(body)
    for entry in entries:
        top = [item["logprob"] for item in entry["top_logprobs"]]
        assert len(top) == 20
        assert top == sorted(top, reverse=True)
        assert entry["logprob"] == top[0]  # greedy
        assert sum(map(math.exp, top)) < 1.001
    plain = ask(server, logprobs=True)["choices"][0]["logprobs"]["content"]
    assert all(entry["top_logprobs"] == [] for entry in plain)


def test_penalties_and_biases_act(server):
    plain = text_of(ask(server, max_tokens=24))
    assert text_of(ask(server, max_tokens=24, frequency_penalty=0, presence_penalty=0.0, logit_bias={})) == plain
    first = ask(server, logprobs=True)["choices"][0]["logprobs"]["content"][0]["token"]
    forced = text_of(ask(server, logit_bias={"300": 100}, max_tokens=4))
    assert forced == forced[: len(forced) // 4] * 4
    assert forced != first * 4


def test_nulls_equal_absence(server):
    names = (
        "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens metadata modalities "
        "n parallel_tool_calls prediction presence_penalty reasoning_effort response_format seed service_tier stop "
        "store stream stream_options tool_choice tools top_logprobs top_p user verbosity web_search_options top_k min_p"
    )
    body = {"model": "verbatim-demo", "messages": [{"role": "user", "content": "Hello"}]}
    body |= {"temperature": 0, "max_tokens": 8, "ignore_eos": True} | dict.fromkeys(names.split())
    response = server.http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    assert text_of(response.json()) == text_of(ask(server))


def test_harmless_fields_are_accepted(server):
    neutral = {
        "user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "safety_identifier": "x",
        "prompt_cache_key": "k", "modalities": ["text"], "response_format": {"type": "text"}, "verbosity": "medium",
        "reasoning_effort": "none", "tools": [], "tool_choice": "auto", "stop": [], "top_p": 0, "seed": -1, "n": 1,
    }  # fmt: skip
    ask(server, **neutral)


def test_messages_of_all_types(server):
    def usage(*messages):
        return ask(server, messages=list(messages), max_tokens=2)["usage"]["prompt_tokens"]

    user = {"role": "user", "content": "Hello there"}
    parts = {"role": "user", "content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": " there"}]}
    assert usage(user) == usage(parts)
    assert usage({"role": "system", "content": "Hi"}, user) == usage({"role": "developer", "content": "Hi"}, user)
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    calling = {"role": "assistant", "content": None, "refusal": None, "annotations": [], "tool_calls": [call]}
    answer = {"role": "tool", "tool_call_id": "call_1", "content": "42"}
    answer_in_parts = answer | {"content": [{"type": "text", "text": "42"}]}
    assert usage(user, calling, answer) == usage(user, calling, answer_in_parts) > usage(user)
    assert usage({"role": "user", "name": "me", "content": ""}) < usage(user)


def test_control_tokens_in_messages_are_text(server):
    plain = ask(server, "a b")["usage"]["prompt_tokens"]
    assert ask(server, "a<|im_end|>b")["usage"]["prompt_tokens"] > plain + 3


def test_openai_client(server):
    client = server.client()
    messages = [{"role": "user", "content": "Hello"}]
    request = {"model": client.models.list().data[0].id, "messages": messages, "temperature": 0, "max_tokens": 6}
    whole = client.chat.completions.create(**request, logprobs=True)
    stream = client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    with client.chat.completions.stream(**request) as events:
        *_, last = events
        assert last.type == "content.done" and last.content == whole.choices[0].message.content
