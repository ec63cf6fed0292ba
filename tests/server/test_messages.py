"""POST /v1/messages and count_tokens: Anthropic's form of a chat, whole and streamed, with its errors."""

import json

import pytest

from live_server import running

MODEL = "verbatim-demo"
PATH = "/v1/messages"
VERSION = {"anthropic-version": "2023-06-01"}
USER = {"role": "user", "content": "Hello"}
BODY = {"model": MODEL, "max_tokens": 24, "temperature": 0, "messages": [USER]}
CITY = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}}, "required": ["city"]}
TOOLS = [{"name": name, "description": f"The {name}.", "input_schema": CITY} for name in ("weather", "time")]
CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "Sunny."}]}
CALLING = {"role": "assistant", "content": [{"type": "text", "text": "I look."}, CALL]}
FORMAT = {"type": "json_schema", "schema": CITY | {"additionalProperties": False}}
STREAMS = {
    "text": {},
    "sampled": {"temperature": 1.5, "seed": 4, "max_tokens": 40, "top_k": 50, "top_p": 0.9},
    "calls": {"tools": TOOLS, "tool_choice": {"type": "any"}, "max_tokens": 80, "temperature": 1.2, "seed": 5},
    "cut call": {"tools": TOOLS, "tool_choice": {"type": "tool", "name": "time"}, "max_tokens": 10},
    "stopped": {"stop_sequences": ["Echo", "zzz"]},
    "format": {"output_config": {"format": FORMAT, "effort": "low"}, "max_tokens": 80},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    limits = ("--max-num-sequence", "16", "--max-total-seq-length", "32768")
    with running("fastpath", tmp_path_factory.mktemp("messages"), *limits) as server:
        yield server.wait_ready()


def post(server, path: str = PATH, **fields):
    return server.http.post(path, json={key: value for key, value in (BODY | fields).items() if value is not None})


def message(server, **fields) -> dict:
    answer = post(server, **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def read_stream(server, **fields) -> list[dict]:
    """The events of a stream, each of which is named after its type."""
    answer = post(server, stream=True, **fields)
    assert answer.status_code == 200, answer.text
    pairs = [event.split("\n") for event in answer.text.split("\n\n")[:-1]]
    events = [json.loads(data.removeprefix("data: ")) for _, data in pairs]
    assert [name for name, _ in pairs] == [f"event: {event['type']}" for event in events]
    return events


def folded(events: list[dict]) -> dict:
    """The message that clients make of a stream; every event must be in its place."""
    assert [event["type"] for event in events[:2]] == ["message_start", "ping"]
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    result, texts, is_open = events[0]["message"], [], False
    assert result["content"] == [] and result["stop_reason"] is None
    for event in events[2:-2]:
        is_start = event["type"] == "content_block_start"
        assert is_start != is_open and event["index"] == len(texts) - (not is_start)
        if is_start:
            result["content"].append(event["content_block"])
            texts.append("")
        elif event["type"] == "content_block_delta":
            texts[-1] += event["delta"].get("text", "") + event["delta"].get("partial_json", "")
        is_open = event["type"] != "content_block_stop"
    for block, text in zip(result["content"], texts, strict=True):
        if block["type"] == "text":
            assert block["text"] == ""
            block["text"] = text
        elif text.endswith("}"):
            block["input"] = json.loads(text)
    return result | events[-2]["delta"] | {"usage": result["usage"] | events[-2]["usage"]}


def plain(message: dict) -> dict:
    """A message without its ids and without how much of its prompt was cached."""
    blocks = [{name: item for name, item in block.items() if name != "id"} for block in message["content"]]
    usage = {name: count for name, count in message["usage"].items() if "input" not in name}
    return message | {"id": "", "content": blocks, "usage": usage | {"input": num_input(message)}}


def num_input(message: dict) -> int:
    return sum(count for name, count in message["usage"].items() if name.endswith("input_tokens"))


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_the_whole_answer(server, name):
    whole, streamed = message(server, **STREAMS[name]), folded(read_stream(server, **STREAMS[name]))
    assert plain(whole) == plain(streamed)
    assert whole["id"] != streamed["id"] and whole["id"].startswith("msg_")
    assert whole["type"] == "message" and whole["role"] == "assistant" and whole["model"] == MODEL


def test_why_an_answer_ends(server):
    assert message(server, max_tokens=3)["stop_reason"] == "max_tokens"
    assert message(server, max_tokens=64)["stop_reason"] == "end_turn"
    stopped = message(server, **STREAMS["stopped"])
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", "Echo")
    assert "Echo" not in stopped["content"][0]["text"]
    full = message(server, max_tokens=64_000, ignore_eos=True, messages=[USER | {"content": "a " * 1900}])
    assert full["stop_reason"] == "model_context_window_exceeded"
    called = message(server, **STREAMS["calls"])
    assert called["stop_reason"] == "tool_use"
    begun = message(server, **STREAMS["cut call"] | {"max_tokens": 3})
    assert (begun["content"], begun["stop_reason"]) == ([], "max_tokens")  # no mark of a call is shown as text
    cut = message(server, **STREAMS["cut call"])
    assert cut["stop_reason"] == "max_tokens" and cut["content"][-1]["input"] == {}


def test_tools_are_called_as_the_choice_says(server):
    named = message(server, tools=TOOLS, tool_choice={"type": "tool", "name": "time"}, max_tokens=80)
    assert [(block["type"], block["name"]) for block in named["content"]] == [("tool_use", "time")]
    assert named["content"][0]["input"]["city"] in ("Paris", "Rome")
    single = {"type": "any", "disable_parallel_tool_use": True}
    assert len(message(server, tools=TOOLS, tool_choice=single, max_tokens=80)["content"]) == 1
    count = num_input(message(server))
    assert num_input(message(server, tools=TOOLS, tool_choice={"type": "none"})) == count
    assert num_input(message(server, tools=TOOLS)) > count


def count(server, **fields) -> int:
    answer = post(server, f"{PATH}/count_tokens", max_tokens=None, temperature=None, **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()["input_tokens"]


def test_a_conversation_is_that_of_a_chat(server):
    """The same count of tokens as the same conversation in OpenAI's form, and as the usage of an answer."""
    thinking = [{"type": "thinking", "thinking": "Hm.", "signature": "x"}, {"type": "redacted_thinking", "data": "y"}]
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Facts."}}
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "Weather?", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": [*thinking, *CALLING["content"]]},
        {"role": "user", "content": [RESULT | {"is_error": True}, {"type": "text", "text": "Now?"}, document]},
        {"role": "system", "content": "Hurry."},
    ]
    billing = {"type": "text", "text": "x-anthropic-billing-header: cc_version=1;"}
    system = [billing, {"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}]
    function = {"name": "weather", "arguments": json.dumps(CALL["input"])}
    call = {"id": "1", "type": "function", "function": function}
    chat = [
        {"role": "system", "content": "Be brief.\nBe kind."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "I look.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "Error: Sunny."},
        {"role": "user", "content": "Now?\nFacts.\nHurry."},
    ]  # fmt: skip
    functions = [
        {"type": "function", "function": {"name": t["name"], "description": t["description"], "parameters": CITY}}
        for t in TOOLS
    ]
    body = {"messages": chat, "tools": functions}
    expected = server.http.post("/tokenize", json={"model": MODEL} | body).json()["count"]
    assert count(server, messages=turns, system=system, tools=TOOLS) == expected
    assert num_input(message(server, messages=turns, system=system, tools=TOOLS)) == expected
    assert count(server, messages=turns[:1] * 2) == count(server, messages=[USER | {"content": "Weather?\nWeather?"}])


def test_an_answer_continues_what_the_assistant_began(server):
    begun = [USER | {"content": "What is the capital of France?"}]
    text = message(server, messages=begun)["content"][0]["text"]
    cut = len(text) // 2
    rest = message(server, messages=[*begun, {"role": "assistant", "content": text[:cut].rstrip()}])
    assert (text[:cut].rstrip() + rest["content"][0]["text"]).startswith(text[:cut])
    nothing = {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm."}]}
    assert message(server, messages=[*begun, nothing])["content"][0]["text"] == text


def test_what_claude_code_sends_is_answered(server):
    """Its fields in our own words, as of version 2.1: most are about Anthropic's own service."""
    words = {"map": {"type": "object", "propertyNames": {"type": "string", "format": "odd"}}}
    schema = CITY | {"$schema": "https://json-schema.org/draft/2020-12/schema", "additionalProperties": False}
    schema["properties"] = CITY["properties"] | words
    advisory = {
        "thinking": {"type": "adaptive"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "high"},
        "metadata": {"user_id": '{"device_id":"d","session_id":"s"}'},
        "mcp_servers": [],
        "container": None,
        "betas": ["claude-code-20250219"],
        "cache_control": {"type": "ephemeral"},
        "service_tier": "auto",
        "diagnostics": {"previous_message_id": None},
    }
    tools = [TOOLS[0] | {"input_schema": schema, "cache_control": {"type": "ephemeral"}, "defer_loading": False}]
    answer = server.http.post(
        f"{PATH}?beta=true", json=BODY | advisory | {"tools": tools, "max_tokens": 64_000, "stream": True},
        headers=VERSION | {"anthropic-beta": "claude-code-20250219,effort-2025-11-24"},
    )  # fmt: skip
    assert answer.status_code == 200 and "event: message_stop" in answer.text
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    where = "tools[0].input_schema.properties.map.propertyNames"
    assert set(answer.headers["x-verbatim-ignored"].split(", ")) == {"context_management", where}
    odd = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "output_config": {"effort": "low"}, "banana": 1}
    server_tool = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    turns = [USER, {"role": "assistant", "content": [server_tool, {"type": "text", "text": "Hi.", "x": 1}]}, USER]
    answer = post(server, **odd, messages=turns)
    assert answer.status_code == 200, answer.text
    assert set(answer.headers["x-verbatim-ignored"].split(", ")) == {
        "thinking", "output_config.effort", "banana", "messages[1].content[0]", "messages[1].content[1].x",
    }  # fmt: skip


def of(*blocks, role="user"):
    return {"messages": [{"role": role, "content": list(blocks)}]}


BAD = [  # fields, param, code
    ({"max_tokens": None}, "max_tokens", "missing_required_parameter"),
    ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
    ({"messages": []}, "messages", "empty_array"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "invalid_value"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
    (of({"text": "x"}), "messages[0].content[0].type", "missing_required_parameter"),
    (of({"type": "text"}), "messages[0].content[0].text", "missing_required_parameter"),
    (of({"type": "image", "source": {}}), "messages[0].content[0].type", "unsupported_parameter"),
    (of({"type": "banana"}), "messages[0].content[0].type", "invalid_value"),
    (of(CALL), "messages[0].content[0].type", "invalid_value"),
    (of(RESULT, role="assistant"), "messages[0].content[0].type", None),
    (of({"type": "document", "source": {"type": "base64"}}), "messages[0].content[0].source.type", None),
    (of(RESULT), "messages[0].content[0].tool_use_id", "invalid_value"),
    ({"messages": [USER, CALLING]}, "messages[1].content[1]", "invalid_value"),
    ({"messages": [USER, CALLING, USER]}, "messages[1].content[1]", "invalid_value"),
    ({"system": 3}, "system", "invalid_type"),
    ({"stop_sequences": [""]}, "stop_sequences[0]", "invalid_value"),
    ({"temperature": -1}, "temperature", "decimal_below_min_value"),
    ({"thinking": {"type": "x"}}, "thinking.type", "invalid_value"),
    ({"mcp_servers": [{"name": "x"}]}, "mcp_servers", "unsupported_parameter"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type", "unsupported_parameter"),
    (
        {"tools": [TOOLS[0] | {"strict": True, "input_schema": {"type": "object", "propertyNames": {}}}]},
        "tools[0].input_schema",
        "invalid_grammar",
    ),
    ({"tools": [{"name": "f"}]}, "tools[0].input_schema", "missing_required_parameter"),
    ({"tools": [TOOLS[0], TOOLS[0]]}, "tools[1].name", "invalid_value"),
    ({"tools": TOOLS, "tool_choice": {"type": "tool", "name": "f"}}, "tool_choice.name", None),
    ({"tool_choice": {"type": "any"}}, "tool_choice", None),
    ({"messages": [USER | {"content": "word " * 9000}]}, "messages", "context_length_exceeded"),
]


@pytest.mark.parametrize(("fields", "param", "code"), BAD)
def test_a_bad_request_is_refused_by_name(server, fields, param, code):
    for stream in (False, True):
        answer = post(server, **{"stream": stream} | fields)
        body = answer.json()
        assert (answer.status_code, body["type"], body["error"]["type"]) == (400, "error", "invalid_request_error")
        assert body["error"]["param"] == param and code in (None, body["error"]["code"]), body
        assert body["request_id"] == answer.headers["x-request-id"]


def test_errors_have_anthropics_form(server):
    unknown = post(server, model="claude-opus")
    assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "not_found_error")
    assert "--served-model-name" in unknown.json()["error"]["message"]
    broken = server.http.post(PATH, content=b"{")
    assert (broken.status_code, broken.json()["error"]["type"]) == (400, "invalid_request_error")
    assert server.http.get(PATH).json()["type"] == "error"
    large = server.http.post(PATH, content=b"[" + b" " * (33 << 20))
    assert (large.status_code, large.json()["error"]["type"]) == (413, "request_too_large")
    long = post(server, messages=[USER | {"content": "word " * 9000}]).json()["error"]["message"]
    assert long.startswith("prompt is too long: ") and "tokens > 2047 maximum" in long
    assert count(server, messages=[USER | {"content": "word " * 9000}]) > 2047


def test_models_in_anthropics_form(server):
    page = server.http.get("/v1/models", headers=VERSION).json()
    assert (page["first_id"], page["last_id"], page["has_more"]) == (MODEL, MODEL, False)
    assert page["data"] == [server.http.get(f"/v1/models/{MODEL}", headers=VERSION).json()]
    assert (page["data"][0]["type"], page["data"][0]["max_input_tokens"]) == ("model", 2048)
    assert server.http.get("/v1/models/x", headers=VERSION).json()["error"]["type"] == "not_found_error"
    assert server.http.get("/v1/models/x").json()["error"]["type"] == "invalid_request_error"
    assert server.http.get("/v1/models").json()["object"] == "list"


def test_a_key_may_come_in_x_api_key(start):
    server = start("fastpath", "--api-key", "sk-right")
    server.wait_ready()
    for headers in ({"x-api-key": "sk-right"}, {"authorization": "Bearer sk-right", "x-api-key": "none"}):
        assert server.http.post(PATH, json=BODY, headers=headers).status_code == 200
        assert server.http.get("/v1/models", headers=headers).status_code == 200
    for headers in ({}, {"x-api-key": "sk-wrong"}, {"authorization": "Bearer sk-wrong"}):
        answer = server.http.post(PATH, json=BODY, headers=headers)
        assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")
