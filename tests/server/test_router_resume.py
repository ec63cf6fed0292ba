"""Streams taken up at every place where they can break: what is sent then is the rest, and nothing that is not.

The streams are real, two of each from a live server: one that begins and breaks, one that goes on.
"""

import json
import random

import orjson
import pytest

from live_router import LIMITS, plain
from live_server import chat_body, running
from verbatim.server.api.registry import adapter_of
from verbatim.server.api.replay_buffer import DivergedError
from verbatim.server.api.responses.resume import EventResumption

MODEL = "verbatim-demo"
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "enum": ["Paris", "Rome"]}}, "required": ["city"]}}}
    for name in ("weather", "time")
]  # fmt: skip
SAMPLED = {"temperature": 1.5, "seed": 4}
USAGE = {"stream_options": {"include_usage": True}}
TEXTS = {"model": MODEL, "prompt": ["One", "Two"], "logprobs": 1, "echo": True}
PADDED = {"stream_options": {"include_obfuscation": True}}
CHUNKS = {
    "chat": ("/v1/chat/completions", chat_body(**SAMPLED, **USAGE, max_tokens=24, logprobs=True, top_logprobs=2)),
    "choices": ("/v1/chat/completions", chat_body(**SAMPLED, max_tokens=12, n=3)),
    "calls": ("/v1/chat/completions", chat_body(**SAMPLED, tools=TOOLS, tool_choice="required", max_tokens=60)),
    "padded": ("/v1/chat/completions", chat_body(**SAMPLED, **PADDED, max_tokens=20)),
    "completion": ("/v1/completions", TEXTS | SAMPLED),
}  # fmt: skip
GROWING = ("content", "text", "arguments", "tokens", "token_logprobs", "top_logprobs", "text_offset")
EVENTS = {
    "text": {"max_output_tokens": 24, "include": ["message.output_text.logprobs"], "top_logprobs": 1} | SAMPLED,
    "calls": {
        "tools": [{"type": "function"} | tool["function"] for tool in TOOLS], "tool_choice": "required",
        "max_output_tokens": 60,
    } | SAMPLED,
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running("fastpath", tmp_path_factory.mktemp("resume"), *LIMITS) as server:
        yield server.wait_ready()


def stream(server, path: str, body: dict) -> list[bytes]:
    """The events of a stream as bytes."""
    answer = server.http.post(path, json=body | {"stream": True})
    assert answer.status_code == 200, answer.text
    return [event + b"\n\n" for event in answer.content.split(b"\n\n")[:-1]]


def taken(resumption, events: list[bytes]) -> list[bytes]:
    return [piece for event in events for piece in resumption.take(event)]


def without_padding(event: bytes) -> bytes:
    if b'"obfuscation"' not in event:
        return plain(event)
    value = json.loads(event[6:])
    del value["obfuscation"]
    return plain(orjson.dumps(value))


@pytest.mark.parametrize("name", CHUNKS)
def test_chunks_resume_at_every_place(server, name):
    first, second = stream(server, *CHUNKS[name]), stream(server, *CHUNKS[name])
    own_id = json.loads(first[0][6:])["id"]
    assert own_id not in str(second)
    for place in range(1, len(first)):
        rest = taken(adapter_of(CHUNKS[name][0]).resume(first[:place]), second)
        # a choice's own chunks keep their order; which choice speaks first may differ
        assert sorted(map(without_padding, rest)) == sorted(map(without_padding, first[place:])), place
        for event in rest:
            assert event.startswith(b"data: [DONE]") or json.loads(event[6:])["id"] == own_id
            assert b'"call_' not in event or b'"call_' + own_id.rpartition("-")[2][:20].encode() in event


@pytest.mark.parametrize("name", EVENTS)
def test_responses_resume_at_every_place(server, name):
    body = {"model": MODEL, "input": "Hello"} | EVENTS[name]
    first, second = stream(server, "/v1/responses", body), stream(server, "/v1/responses", body)
    for place in range(1, len(first)):
        resumption = adapter_of("/v1/responses").resume(first[:place])
        rest = taken(resumption, second)
        assert list(map(plain, rest)) == list(map(plain, first[place:])), place
        shown = set(EventResumption(first[:place])._ids)
        assert all(ours.decode() in shown for _, ours in resumption.renames)
        for theirs, _ in resumption.renames:
            assert not any(theirs in event for event in rest)


@pytest.mark.parametrize("name", ["chat", "completion", "calls"])
def test_chunks_that_are_cut_elsewhere_say_the_same(server, name):
    """Neighbours of one choice put together as speculation does it: more is said at once, the same in all."""
    path, body = CHUNKS[name]
    first, second = stream(server, path, body), stream(server, path, body)
    whole = said(first)
    draw = random.Random(1)
    for _ in range(60):
        given = first[: draw.randrange(1, len(first))]
        rest = taken(adapter_of(path).resume(given), merged(second, draw))
        assert said(given + rest) == whole
        again = given + rest[: draw.randrange(len(rest) + 1)]  # and broken off once more
        if again[-1] != b"data: [DONE]\n\n":
            assert said(again + taken(adapter_of(path).resume(again), merged(second, draw))) == whole


def merged(events: list[bytes], draw: random.Random) -> list[bytes]:
    """The same stream with some neighbouring texts in one chunk."""
    result = []
    for event in events:
        before, after = (_value(data) for data in (result[-1] if result else b"data: 1", event))
        if draw.random() < 0.5 and _can_join(before, after):
            result[-1] = b"data: " + orjson.dumps(
                before | {"choices": [join(before["choices"][0], after["choices"][0])]}
            )
            result[-1] += b"\n\n"
        else:
            result.append(event)
    return result


def _value(event: bytes):
    return {} if event.startswith(b"data: [DONE]") else orjson.loads(event[6:])


def _can_join(before, after) -> bool:
    if not (isinstance(before, dict) and before.get("choices") and after.get("choices")):
        return False
    a, b = before["choices"][0], after["choices"][0]
    fields = [(choice["index"], sorted(choice.get("delta", {"text": 0}))) for choice in (a, b)]
    return fields[0] == fields[1] and fields[0][1] in (["content"], ["text"]) and a["finish_reason"] is None


def join(a: dict, b: dict) -> dict:
    """Two pieces of a choice as one, field by field."""
    result = a | {name: value for name, value in b.items() if a.get(name) is None}
    for name, value in b.items():
        if isinstance(value, dict) and isinstance(a.get(name), dict):
            result[name] = join(a[name], value)
        elif value is not None and a.get(name) is not None and name in GROWING:
            result[name] = a[name] + value
    return result


def said(events: list[bytes]) -> dict[int, dict]:
    """What each choice has said in all."""
    choices: dict[int, dict] = {}
    for value in map(_value, events):
        for choice in value.get("choices", ()):
            choices[choice["index"]] = join(choices.get(choice["index"], {}), _by_call(choice))
    return choices


def _by_call(choice: dict) -> dict:
    """The choice with its calls by their numbers; their ids are new in each stream."""
    delta = choice.get("delta", {})
    calls = {str(call["index"]): call | {"id": ""} for call in delta.get("tool_calls", ())}
    return choice | {"delta": delta | {"tool_calls": calls}}


@pytest.mark.parametrize("name", CHUNKS)
def test_another_answer_is_never_taken_for_the_same(server, name):
    """With another seed, whatever was the same so far; never is anything sent that the first stream would not send."""
    path, body = CHUNKS[name]
    first = stream(server, path, body)
    others = (stream(server, path, body | {"seed": seed}) for seed in range(50, 80))
    other = next(other for other in others if said(other) != said(first))
    refused = 0
    for place in range(1, len(first)):
        try:
            rest = taken(adapter_of(path).resume(first[:place]), other)
        except DivergedError:
            refused += 1
        else:
            assert said(first[:place] + rest) == said(other)  # so far they were the same: it is the other's stream
    assert refused > 0
