"""Every bad request gets OpenAI's error object, the right status and the field at fault, streamed or not."""

import pytest

from live_server import chat_body

USER = {"role": "user", "content": "Hello"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f"}}
CALLING = {"role": "assistant", "tool_calls": [CALL]}


def message(**fields):
    return {"messages": [fields]}


def json_format(**changes):
    """A response_format of a schema, with some of it changed."""
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}} | changes}}


def few(**changes):
    """A tool_choice of some of the tools, with some of it changed."""
    allowed = {"mode": "required", "tools": [TOOL]} | changes
    return {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}}


BAD_CHAT = [  # fields, param, code
    ({"messages": None}, "messages", "missing_required_parameter"),
    ({"model": None}, "model", "missing_required_parameter"),
    ({"model": ""}, "model", "missing_required_parameter"),
    ({"model": 3}, "model", "invalid_type"),
    ({"messages": []}, "messages", "empty_array"),
    ({"messages": "Hello"}, "messages", "invalid_type"),
    ({"messages": [3]}, "messages[0]", "invalid_type"),
    (message(role="banana", content="x"), "messages[0].role", "invalid_value"),
    (message(content="x"), "messages[0].role", "missing_required_parameter"),
    (message(role="function", name="f", content="x"), "messages[0].role", "unsupported_parameter"),
    (message(role="user"), "messages[0].content", "missing_required_parameter"),
    (message(role="user", content=3), "messages[0].content", "invalid_type"),
    (message(role="user", content=[]), "messages[0].content", "empty_array"),
    (message(role="user", content=[{"type": "x"}]), "messages[0].content[0].type", "invalid_value"),
    (message(role="user", content=[{"type": "text"}]), "messages[0].content[0].text", "missing_required_parameter"),
    (message(role="user", content=[{"type": "image_url"}]), "messages[0].content[0].type", "unsupported_parameter"),
    (message(role="user", content="x", foo=1), "messages[0].foo", "unknown_parameter"),
    (message(role="assistant", content=None), "messages[0].content", "missing_required_parameter"),
    (message(role="tool", content="x"), "messages[0].tool_call_id", "missing_required_parameter"),
    (message(role="tool", content="x", tool_call_id="y"), "messages[0].role", "invalid_value"),
    ({"messages": [USER, CALLING]}, "messages", None),
    ({"messages": [USER, CALLING, USER]}, "messages", None),
    ({"temperature": -0.1}, "temperature", "decimal_below_min_value"),
    ({"temperature": 2.1}, "temperature", "decimal_above_max_value"),
    ({"temperature": "0.5"}, "temperature", "invalid_type"),
    ({"temperature": True}, "temperature", "invalid_type"),
    ({"top_p": 1.5}, "top_p", "decimal_above_max_value"),
    ({"presence_penalty": 2.5}, "presence_penalty", "decimal_above_max_value"),
    ({"frequency_penalty": -2.5}, "frequency_penalty", "decimal_below_min_value"),
    ({"n": 0}, "n", "integer_below_min_value"),
    ({"n": 129}, "n", "integer_above_max_value"),
    ({"n": 1.5}, "n", "invalid_type"),
    ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
    ({"max_tokens": "9"}, "max_tokens", "invalid_type"),
    ({"max_tokens": None, "max_completion_tokens": 0}, "max_completion_tokens", "integer_below_min_value"),
    ({"max_completion_tokens": 9}, "max_tokens", "invalid_parameter_combination"),
    ({"top_logprobs": 2}, "top_logprobs", None),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
    ({"logprobs": 5}, "logprobs", "invalid_type"),
    ({"stop": 5}, "stop", "invalid_type"),
    ({"stop": [1]}, "stop[0]", "invalid_type"),
    ({"stop": list("abcde")}, "stop", "array_above_max_length"),
    ({"stop": ""}, "stop", "invalid_value"),
    ({"logit_bias": {"5": 101}}, "logit_bias", "decimal_above_max_value"),
    ({"logit_bias": {"5": "x"}}, "logit_bias.5", "invalid_type"),
    ({"logit_bias": {"abc": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"999999": 1}}, "logit_bias", "invalid_value"),
    ({"seed": 1.5}, "seed", "invalid_type"),
    ({"stream": "yes"}, "stream", "invalid_type"),
    ({"user": 3}, "user", "invalid_type"),
    ({"metadata": {"a" * 65: "b"}}, "metadata", "property_name_above_max_length"),
    ({"metadata": {"a": "b" * 513}}, "metadata.a", "string_above_max_length"),
    ({"metadata": {str(i): "b" for i in range(17)}}, "metadata", "object_above_max_properties"),
    ({"response_format": "text"}, "response_format", "invalid_type"),
    ({"response_format": {}}, "response_format.type", "missing_required_parameter"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
    ({"response_format": {"type": "json_object"}}, "messages", None),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter"),
    (json_format(name="a b"), "response_format.json_schema.name", "invalid_value"),
    (json_format(schema="x"), "response_format.json_schema.schema", "invalid_type"),
    (json_format(schema={"type": "nope"}), "response_format.json_schema.schema", "invalid_grammar"),
    (json_format(schema={"$ref": "#"}), "response_format.json_schema.schema", "invalid_grammar"),
    (json_format(schema={"type": "nope"}) | {"tools": [TOOL]}, "response_format.json_schema.schema", "invalid_grammar"),
    (json_format() | {"guided_regex": "a"}, "guided_regex", "invalid_parameter_combination"),
    ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice", "invalid_parameter_combination"),
    ({"guided_regex": "(", "max_tokens": 9}, "guided_regex", "invalid_grammar"),
    ({"guided_regex": 3}, "guided_regex", "invalid_type"),
    ({"guided_regex": "a", "tools": [TOOL]}, "guided_regex", "unsupported_parameter"),
    ({"guided_choice": []}, "guided_choice", "invalid_value"),
    ({"guided_choice": ["a", 1]}, "guided_choice[1]", "invalid_type"),
    ({"guided_json": "{"}, "guided_json", "invalid_value"),
    ({"guided_grammar": "start: nothing"}, "guided_grammar", "invalid_grammar"),
    ({"structured_outputs": {}}, "structured_outputs", "invalid_value"),
    ({"structured_outputs": {"regex": 3}}, "structured_outputs.regex", "invalid_type"),
    ({"structured_outputs": {"regex": "a", "banana": 3}}, "structured_outputs.banana", "unknown_parameter"),
    ({"prompt_logprobs": -1}, "prompt_logprobs", "integer_below_min_value"),
    ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs", None),
    ({"debug_config": 3}, "debug_config", "invalid_type"),
    ({"debug_config": {"banana": 1}}, "debug_config.banana", "unknown_parameter"),
    (
        {"debug_config": {"grammar_execution_mode": "jump_forward"}},
        "debug_config.grammar_execution_mode",
        "unsupported_parameter",
    ),
    ({"debug_config": {"pinned_system_prompt": True}}, "debug_config.pinned_system_prompt", "unsupported_parameter"),
    ({"debug_config": {"disagg_config": {}}}, "debug_config.disagg_config", "unsupported_parameter"),
    ({"debug_config": {"special_request": "query_engine_metrics"}}, "debug_config.special_request", None),
    ({"modalities": ["audio"]}, "modalities", "unsupported_parameter"),
    ({"audio": {"voice": "x"}}, "audio", "unsupported_parameter"),
    ({"functions": [{"name": "f"}]}, "functions", "unsupported_parameter"),
    ({"prediction": {"type": "content"}}, "prediction.content", "missing_required_parameter"),
    ({"prediction": {"type": "x", "content": "x"}}, "prediction.type", "invalid_value"),
    ({"verbosity": "low"}, "verbosity", "unsupported_parameter"),
    ({"web_search_options": {}}, "web_search_options", "unsupported_parameter"),
    ({"reasoning_effort": "high"}, "reasoning_effort", "unsupported_parameter"),
    ({"store": True}, "store", "unsupported_parameter"),
    ({"tool_choice": "required"}, "tool_choice", None),
    ({"tool_choice": "banana", "tools": [TOOL]}, "tool_choice", "invalid_value"),
    ({"tool_choice": {}, "tools": [TOOL]}, "tool_choice.type", "missing_required_parameter"),
    ({"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": [TOOL]}, "tool_choice", None),
    ({"parallel_tool_calls": True}, "parallel_tool_calls", None),
    ({"parallel_tool_calls": 1, "tools": [TOOL]}, "parallel_tool_calls", "invalid_type"),
    (
        {"tool_choice": {"type": "custom", "custom": {"name": "f"}}, "tools": [TOOL]},
        "tool_choice",
        "unsupported_parameter",
    ),
    (few(mode="auto", tools=[]), "tool_choice", None),
    (few(mode="maybe"), "tool_choice.allowed_tools.mode", "invalid_value"),
    ({"tools": [TOOL, TOOL]}, "tools[1].function.name", "invalid_value"),
    ({"tools": [TOOL] * 129}, "tools", "array_above_max_length"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "invalid_value"),
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type", "unsupported_parameter"),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": 3}}}]},
        "tools[0].function.parameters",
        "invalid_grammar",
    ),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "hiccup"}}}]},
        "tools[0].function.parameters",
        "invalid_value",
    ),
    ({"top_k": 0}, "top_k", "integer_below_min_value"),
    ({"min_tokens": 9, "max_tokens": 8}, "min_tokens", "invalid_value"),
    ({"stop_token_ids": [-1]}, "stop_token_ids[0]", "integer_below_min_value"),
    ({"banana": 1}, "banana", "unknown_parameter"),
    ({"messages": [{"role": "user", "content": "word " * 9000}]}, "messages", "context_length_exceeded"),
]

BAD_COMPLETIONS = [
    ({"prompt": None}, "prompt", "missing_required_parameter"),
    ({"prompt": ""}, "prompt", "empty_prompt"),
    ({"prompt": []}, "prompt", "invalid_value"),
    ({"prompt": [[]]}, "prompt[0]", "empty_prompt"),
    ({"prompt": 5}, "prompt", "invalid_type"),
    ({"prompt": [1, "a"]}, "prompt[1]", "invalid_type"),
    ({"prompt": ["a", [1]], "max_tokens": "x"}, "max_tokens", "invalid_type"),
    ({"prompt": [10**9]}, "prompt[0]", "integer_above_max_value"),
    ({"prompt": [-1]}, "prompt[0]", "integer_below_min_value"),
    ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
    ({"max_tokens": -1, "echo": True}, "max_tokens", "integer_below_min_value"),
    ({"logprobs": 6}, "logprobs", "integer_above_max_value"),
    ({"logprobs": True}, "logprobs", "invalid_type"),
    ({"best_of": 2, "stream": True}, "best_of", None),
    ({"best_of": 21}, "best_of", "integer_above_max_value"),
    ({"guided_choice": []}, "guided_choice", "invalid_value"),
    ({"best_of": 1, "n": 2}, "best_of", None),
    ({"suffix": "x"}, "suffix", "unsupported_parameter"),
    ({"messages": []}, "messages", "unknown_parameter"),
    ({"prompt": "word " * 9000}, "prompt", "context_length_exceeded"),
    ({"prompt": ["a", [5] * 2048]}, "prompt[1]", "context_length_exceeded"),
]


def check_error(response, status, param, code):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] and error["type"] == "invalid_request_error"
    assert (error["param"], error["code"]) == (param, code)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fields", "param", "code"), BAD_CHAT)
def test_bad_chat_requests(server, fields, param, code, stream):
    body = chat_body(**fields) | ({"stream": stream} if "stream" not in fields else {})
    check_error(server.http.post("/v1/chat/completions", json=body), 400, param, code)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fields", "param", "code"), BAD_COMPLETIONS)
def test_bad_completion_requests(server, fields, param, code, stream):
    check_error(server.complete(**{"stream": stream} | fields), 400, param, code)


@pytest.mark.parametrize("stream_options", [{"include_usage": True}, {}])
def test_stream_options_need_a_stream(server, stream_options):
    check_error(server.chat(stream_options=stream_options), 400, "stream_options", None)


def test_stream_options_are_strict(server):
    bad = server.chat(stream=True, stream_options={"include_usage": "x"})
    check_error(bad, 400, "stream_options.include_usage", "invalid_type")


def test_unknown_model(server):
    check_error(server.chat(model="other"), 404, None, "model_not_found")
    check_error(server.http.get("/v1/models/some/other"), 404, None, "model_not_found")


BODIES = [
    b"",
    b"{",
    b"[]",
    b'"x"',
    b"3",
    b"null",
    b'{"temperature": NaN}',
    b'"\xff"',
    b'{"a": "\\ud800"}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_bodies_that_are_no_json_object(server, body):
    response = server.http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_content_types(server):
    def post(content_type):
        headers = {"content-type": content_type} if content_type else {}
        return server.http.post("/v1/chat/completions", content=b"{}", headers=headers)

    check_error(post(None), 400, None, "unsupported_content_type")
    check_error(post("text/plain"), 400, None, "unsupported_content_type")
    check_error(post("application/x-www-form-urlencoded"), 400, None, "unsupported_content_type")
    check_error(post("application/json; charset=utf-8"), 400, "messages", "missing_required_parameter")


def test_unknown_urls_and_methods(server):
    check_error(server.http.post("/v1/nope", json={}), 404, None, "unknown_url")
    wrong = server.http.get("/v1/completions")
    check_error(wrong, 405, None, "method_not_supported")
    assert wrong.headers["allow"] == "POST"


def test_body_that_is_too_large(server):
    response = server.http.post("/v1/completions", content=b" " * (33 << 20))
    check_error(response, 413, None, "request_too_large")


def test_a_connection_outlives_an_error(server):
    for _ in range(3):
        assert server.chat(n=0).status_code == 400
        assert server.chat(max_tokens=1).status_code == 200


def test_request_id_is_echoed(server):
    for name in ("mine", "007", "6ba7b8109dad11d180b400c04fd430c8"):
        assert server.http.get("/v1/models", headers={"x-request-id": name}).headers["x-request-id"] == name
    first, second = (server.chat(max_tokens=1).headers["x-request-id"] for _ in range(2))
    assert first != second


def test_no_prompt_reaches_the_log(server):
    server.chat(content="xyzzy plugh")
    server.chat(content="xyzzy plugh", n=0)
    server.complete(prompt="xyzzy plugh", max_tokens=2, banana="xyzzy")
    assert "xyzzy" not in server.log


@pytest.mark.parametrize(
    ("path", "fields", "param", "bound"),
    [
        ("chat/completions", {"stop_token_ids": [5] * 1025}, "stop_token_ids", 1024),
        ("chat/completions", {"messages": [{"role": "user", "content": "a"}] * 65_537}, "messages", 65_536),
        ("chat/completions", {"logit_bias": {f"{i:012}": 1 for i in range(3000)}}, "logit_bias", 896),
        ("completions", {"prompt": [5] * ((1 << 18) + 1)}, "The body", 1 << 18),
        ("responses", {"input": [{"role": "user", "content": "a"}] * 65_537}, "input", 65_536),
        ("messages", {"messages": [{"role": "user", "content": "a"}] * 65_537, "max_tokens": 1}, "messages", 65_536),
        ("messages", {"tools": [{"name": "f", "input_schema": {}}] * 1025, "max_tokens": 1}, "tools", 1024),
    ],
)
def test_every_list_has_a_bound(server, path, fields, param, bound):
    body = {"model": "verbatim-demo", "messages": [{"role": "user", "content": "Hi"}]} | fields
    if path not in ("chat/completions", "messages"):
        del body["messages"]
    response = server.http.post(f"/v1/{path}", json=body)
    message = response.json()["error"]["message"]
    assert response.status_code == 400 and param in message and f"at most {bound}" in message
