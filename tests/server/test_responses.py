"""Responses over a real socket: items and events, tools and formats, conversations that go on, and what is refused."""

import json
import os
import re
import signal

import jsonschema
import pytest

from verbatim.server.api.responses.store import MAX_RESPONSES, ResponseStore

MODEL = "verbatim-demo"
SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["Ada", "Bo"]}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "name": "person", "schema": SCHEMA, "strict": True}
TIME = {"type": "function", "name": "get_time", "parameters": {"type": "object", "properties": {}}, "strict": False}
SHOWN_TIME = TIME | {"description": None}  # as Open Responses wants it
REQUIRED = {  # Open Responses' own list, and OpenAI's `user`
    "id", "object", "created_at", "status", "error", "incomplete_details", "instructions", "model", "tools", "output",
    "parallel_tool_calls", "metadata", "tool_choice", "temperature", "top_p", "usage", "text", "store",
    "previous_response_id", "max_output_tokens", "truncation", "completed_at", "presence_penalty", "frequency_penalty",
    "top_logprobs", "reasoning", "max_tool_calls", "background", "service_tier", "safety_identifier",
    "prompt_cache_key", "user",
}  # fmt: skip


def post(server, **fields):
    body = {"model": MODEL, "input": "Hello", "temperature": 0, "max_output_tokens": 16, "ignore_eos": True} | fields
    return server.http.post("/v1/responses", json={name: value for name, value in body.items() if value is not None})


def ask(server, **fields) -> dict:
    answer = post(server, **fields)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) >= REQUIRED
    assert re.fullmatch("resp_[0-9a-f]{32}", body["id"]) and body["object"] == "response"
    return body


def stream(server, **fields) -> list[dict]:
    """The events, after checks of their framing and numbers."""
    answer = post(server, stream=True, **fields)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    *frames, done, end = answer.content.decode().split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    events = []
    for frame in frames:
        name, data = frame.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def text_of(response) -> str:
    return "".join(part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"])


def timeless(value):
    """The same without what is new every time."""
    if isinstance(value, dict):
        names = ("id", "item_id", "call_id", "created_at", "completed_at", "cached_tokens")
        return {name: timeless(item) for name, item in value.items() if name not in names}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def fold(events) -> dict:
    """The response that the events make, each checked against what came before it."""
    first, second, *middle, last = events
    assert (first["type"], second["type"]) == ("response.created", "response.in_progress")
    assert first["response"]["status"] == "in_progress" and first["response"]["output"] == []
    assert len({event["response"]["id"] for event in (first, second, last)}) == 1
    output, is_open = [], False
    for event in middle:
        event_type = event["type"].removeprefix("response.")
        if event_type == "output_item.added":
            assert not is_open and event["output_index"] == len(output) and event["item"]["status"] == "in_progress"
            output.append(event["item"])
            is_open = True
            continue
        assert is_open and event["output_index"] == len(output) - 1
        item = output[-1]
        if event_type == "output_item.done":
            is_open = False
            item["status"] = event["item"]["status"]
            assert event["item"] == item
            continue
        assert event["item_id"] == item["id"]
        match event_type:
            case "content_part.added":
                assert event["content_index"] == len(item["content"]) == 0
                item["content"].append(event["part"])
            case "output_text.delta":
                item["content"][0]["text"] += event["delta"]
                item["content"][0]["logprobs"] += event["logprobs"]
            case "output_text.done":
                assert event["text"] == item["content"][0]["text"]
            case "content_part.done":
                assert event["part"] == item["content"][0]
            case "function_call_arguments.delta":
                item["arguments"] += event["delta"]
            case "function_call_arguments.done":
                assert (event["arguments"], event["name"]) == (item["arguments"], item["name"])
            case _:
                raise AssertionError(event_type)
    assert not is_open
    assert last["type"] == f"response.{last['response']['status']}"
    assert last["response"]["output"] == output
    return last["response"]


def test_a_text_is_a_message(server):
    body = ask(server, metadata={"a": "b"}, instructions="Be brief.", user="me")
    [item] = body["output"]
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "incomplete")
    assert [part["type"] for part in item["content"]] == ["output_text"]
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert (body["metadata"], body["instructions"], body["user"]) == ({"a": "b"}, "Be brief.", "me")
    assert body["usage"]["output_tokens"] == 16
    assert body["usage"]["total_tokens"] == body["usage"]["input_tokens"] + 16
    assert body["completed_at"] is None
    whole = ask(server, max_output_tokens=400, ignore_eos=None, prompt_cache_key="k", presence_penalty=0.5)
    assert (whole["status"], whole["output"][0]["status"]) == ("completed", "completed")
    assert whole["incomplete_details"] is None and whole["completed_at"] >= whole["created_at"]
    assert (whole["prompt_cache_key"], whole["presence_penalty"], whole["frequency_penalty"]) == ("k", 0.5, 0)


def test_it_says_what_a_chat_says(server):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    body = {"model": MODEL, "messages": messages, "temperature": 1, "seed": 3, "max_tokens": 20, "ignore_eos": True}
    chat = server.http.post("/v1/chat/completions", json=body).json()
    fields = {"temperature": 1, "seed": 3, "max_output_tokens": 20, "instructions": "Be brief."}
    answer = ask(server, **fields)
    assert text_of(answer) == chat["choices"][0]["message"]["content"]
    assert answer["usage"]["input_tokens"] == chat["usage"]["prompt_tokens"]
    parts = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": t} for t in ("Hel", "lo")]}]
    assert text_of(ask(server, **fields, input=parts)) == text_of(answer)
    developer = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    assert text_of(ask(server, **fields | {"instructions": None}, input=developer)) == text_of(answer)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 1, "seed": 5, "max_output_tokens": 40, "ignore_eos": None},
        {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
        {"text": {"format": FORMAT}, "temperature": 1, "seed": 1, "max_output_tokens": 200, "ignore_eos": None},
        {"tools": [TIME], "tool_choice": "required", "temperature": 1, "seed": 2, "max_output_tokens": 60},
    ],
)
def test_a_stream_equals_the_whole(server, fields):
    whole = ask(server, **fields)
    assert timeless(fold(stream(server, **fields))) == timeless(whole)


def test_a_format_holds(server):
    for seed in range(3):
        fields = {"temperature": 1, "seed": seed, "max_output_tokens": 200, "ignore_eos": None}
        body = ask(server, text={"format": FORMAT}, **fields)
        jsonschema.validate(json.loads(text_of(body)), SCHEMA)
        assert body["text"]["format"] == FORMAT
    loose = ask(server, text={"format": {"type": "json_object"}}, input="Say it in JSON.")
    assert text_of(loose).startswith("{")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "get_time"}])
def test_a_forced_call_is_an_item(server, choice):
    fields = {"parallel_tool_calls": False, "max_output_tokens": 100, "ignore_eos": None}
    body = ask(server, tools=[TIME], tool_choice=choice, **fields)
    [call] = body["output"]
    assert (call["type"], call["name"], call["status"]) == ("function_call", "get_time", "completed")
    assert isinstance(json.loads(call["arguments"]), dict)
    assert body["tools"] == [SHOWN_TIME] and body["tool_choice"] == choice
    assert call["id"] != call["call_id"] and len(call["call_id"]) <= 40


def test_logprobs_come_where_they_are_included(server):
    body = ask(server, include=["message.output_text.logprobs"], top_logprobs=3)
    [part] = body["output"][0]["content"]
    assert bytes(b for entry in part["logprobs"] for b in entry["bytes"]).decode(errors="replace") == part["text"]
    assert len(part["logprobs"]) == 16 and all(len(entry["top_logprobs"]) == 3 for entry in part["logprobs"])
    assert ask(server)["output"][0]["content"][0]["logprobs"] == []


def test_a_conversation_continues(server):
    first = ask(server, input="My name is Ada.", instructions="Be brief.")
    second = ask(server, input="What is my name?", previous_response_id=first["id"])
    said = {"role": "assistant", "content": first["output"][0]["content"]}
    items = [{"role": "user", "content": "My name is Ada."}, said, {"role": "user", "content": "What is my name?"}]
    alone = ask(server, input=items)
    assert text_of(second) == text_of(alone), "instructions do not continue with a conversation"
    assert second["usage"]["input_tokens"] == alone["usage"]["input_tokens"]
    assert second["previous_response_id"] == first["id"]
    third = ask(server, input="And now?", previous_response_id=second["id"])
    assert third["usage"]["input_tokens"] > second["usage"]["total_tokens"]
    streamed = fold(stream(server, input="What is my name?", previous_response_id=first["id"]))
    assert text_of(streamed) == text_of(second)
    assert ask(server, input="Why?", previous_response_id=streamed["id"])


def test_a_call_and_its_output_continue(server):
    forced = {"tool_choice": "required", "parallel_tool_calls": False, "max_output_tokens": 100, "ignore_eos": None}
    first = ask(server, input="What time is it?", tools=[TIME], **forced)
    [call] = first["output"]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "Ten past two."}
    kept = ask(server, input=[output], tools=[TIME], previous_response_id=first["id"])
    items = [{"role": "user", "content": "What time is it?"}, call, output]
    sent = ask(server, input=items, tools=[TIME])
    assert kept["usage"]["input_tokens"] == sent["usage"]["input_tokens"]
    assert timeless(kept["output"]) == timeless(sent["output"])
    bad = post(server, input="Well?", tools=[TIME], previous_response_id=first["id"])
    assert bad.status_code == 400 and bad.json()["error"]["param"] == "input"


def test_kept_responses(server):
    kept = ask(server, input=[{"role": "user", "content": text} for text in "abc"])
    url = f"/v1/responses/{kept['id']}"
    assert server.http.get(url).json() == kept
    listed = server.http.get(f"{url}/input_items", params={"order": "asc"}).json()
    assert [item["content"][0]["text"] for item in listed["data"]] == list("abc")
    assert listed["first_id"] == listed["data"][0]["id"] and not listed["has_more"]
    page = server.http.get(f"{url}/input_items", params={"limit": 1, "after": listed["last_id"]}).json()
    assert [item["content"][0]["text"] for item in page["data"]] == ["b"] and page["has_more"]
    for bad in ({"limit": "0"}, {"limit": "x"}, {"order": "up"}, {"after": "nobody"}):
        answer = server.http.get(f"{url}/input_items", params=bad)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(bad)))
    assert server.http.get(url, params={"stream": "true"}).status_code == 400
    assert server.http.delete(url).json() == {"id": kept["id"], "object": "response", "deleted": True}
    for gone in (server.http.get(url), server.http.delete(url), server.http.get(f"{url}/input_items")):
        assert gone.status_code == 404 and gone.json()["error"]["message"]
    unkept = ask(server, store=False)
    assert unkept["store"] is False
    assert server.http.get(f"/v1/responses/{unkept['id']}").status_code == 404


def test_the_store_is_bounded(tmp_path):
    store = ResponseStore(tmp_path / "responses")
    names = [f"resp_{number:032x}" for number in range(MAX_RESPONSES + 3)]
    for name in names:
        store.put(name, {"name": name})
    assert [store.get(name) for name in names[:3]] == [None] * 3
    assert all(store.get(name) == {"name": name} for name in names[3:])
    assert store.get("../../etc/passwd") is None and not store.delete("resp_../x")


def test_all_workers_know_what_is_kept(start):
    server = start("fastpath", "--workers", "2").wait_ready()
    kept = [ask(server)["id"] for _ in range(4)]
    for _ in range(8):
        server.http.close()
        server.http.__init__(base_url=server.url, timeout=120)  # a new connection, for any worker to take
        assert all(server.http.get(f"/v1/responses/{name}").status_code == 200 for name in kept)


BAD = [
    ({"input": None}, "input", "missing_required_parameter"),
    ({"input": []}, "input", "empty_array"),
    ({"input": 3}, "input", "invalid_type"),
    ({"input": [{"type": "reasoning"}]}, "input[0].type", "unsupported_parameter"),
    ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role", "invalid_value"),
    ({"input": [{"role": "user"}]}, "input[0].content", "missing_required_parameter"),
    ({"input": [{"role": "user", "content": "x", "foo": 1}]}, "input[0].foo", "unknown_parameter"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        "input[0].content[0].type",
        "unsupported_parameter",
    ),
    ({"input": [{"type": "function_call", "call_id": "a"}]}, "input[0].name", "missing_required_parameter"),
    ({"input": [{"type": "function_call_output", "call_id": "a", "output": "x"}]}, "input[0].role", "invalid_value"),
    ({"input": "word " * 9000}, "input", "context_length_exceeded"),
    ({"max_output_tokens": 15}, "max_output_tokens", "integer_below_min_value"),
    ({"previous_response_id": "resp_x"}, "previous_response_id", "previous_response_not_found"),
    ({"tools": [{"type": "soup"}]}, "tools[0].type", "invalid_value"),
    ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "tool_choice", None),
    (
        {"tools": [{"type": "custom", "name": "p"}], "tool_choice": {"type": "custom", "name": "p"}},
        "tool_choice",
        "unsupported_parameter",
    ),
    ({"tools": [TIME, {"type": "shell"}, TIME]}, "tools[2].name", "invalid_value"),
    ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name", "invalid_value"),
    ({"tools": [TIME], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice", None),
    ({"text": {"format": {"type": "json_object"}}}, "input", None),
    ({"text": {"format": FORMAT | {"schema": {"type": "nope"}}}}, "text.format.schema", "invalid_grammar"),
    ({"text": {"verbosity": "low"}}, "text.verbosity", "unsupported_parameter"),
    ({"top_logprobs": 2}, "top_logprobs", None),
    ({"include": ["file_search_call.results"]}, "include[0]", "unsupported_parameter"),
    ({"reasoning": {"effort": "high"}}, "reasoning.effort", "unsupported_parameter"),
    ({"background": True}, "background", "unsupported_parameter"),
    ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
    ({"truncation": "auto"}, "truncation", "unsupported_parameter"),
    ({"messages": []}, "messages", "unknown_parameter"),
    ({"n": 2}, "n", "unsupported_parameter"),
]


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("fields", "param", "code"), BAD)
def test_bad_requests(server, fields, param, code, is_stream):
    answer = post(server, stream=is_stream, **fields)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, code)


def test_tools_that_are_no_functions_are_not_offered_and_the_response_says_so(server):
    others = [{"type": "web_search"}, {"type": "custom", "name": "patch", "description": "x"}]
    plain, mixed = (post(server, tools=tools).json() for tools in ([TIME], [others[0], TIME, others[1]]))
    assert mixed["tools"] == plain["tools"] == [SHOWN_TIME]
    assert mixed["usage"]["input_tokens"] == plain["usage"]["input_tokens"]
    assert post(server, tools=others).json()["tools"] == []


def test_padded_deltas_hide_their_length(server):
    padded = stream(server, stream_options={"include_obfuscation": True})
    deltas = [(json.dumps(event["delta"], ensure_ascii=False), event) for event in padded if "delta" in event]
    assert deltas
    assert all((len(text.encode()) + len(event["obfuscation"])) % 32 == 0 for text, event in deltas)
    for name in ("include_usage", "continuous_usage_stats"):
        assert post(server, stream=True, stream_options={name: True}).status_code == 400


def test_a_stream_whose_engine_dies_ends_with_a_failure(start):
    server = start("reference").wait_ready()
    body = {"model": MODEL, "input": "Hello", "stream": True, "ignore_eos": True, "max_output_tokens": 1900}
    with server.http.stream("POST", "/v1/responses", json=body) as answer:
        lines = (line for line in answer.iter_lines() if line)
        for _ in range(12):
            next(lines)
        os.kill(server.engine_pid(), signal.SIGKILL)
        *_, name, data = lines
    assert name == "event: response.failed"
    response = json.loads(data.removeprefix("data: "))["response"]
    assert (response["status"], response["error"]["code"]) == ("failed", "engine_unavailable")
    assert server.http.get(f"/v1/responses/{response['id']}").status_code == 404
