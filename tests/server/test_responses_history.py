"""Histories that come back to Responses: reasoning, references, and calls of tools that others have."""

import json

import pytest

from live_server import running
from verbatim.reference.records.errors import RequestError, UnsupportedError
from verbatim.server.api.policy import reading
from verbatim.server.api.registry import adapter_of
from verbatim.server.api.responses.conversation import to_messages
from verbatim.server.api.responses.items import output_item_id, read_input
from verbatim.server.http import sse

MODEL = "verbatim-demo"
ASKED = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Go on."}]}
PATCH = {"type": "custom_tool_call", "call_id": "c1", "name": "apply_patch", "input": "*** Begin Patch"}
CALL = {"type": "function_call", "call_id": "c2", "name": "f", "arguments": '{"a": 1}'}
DONE = {"type": "function_call_output", "call_id": "c2", "output": "ok"}


def messages_of(*items, policy: str = "warn") -> tuple[list[dict], str]:
    """The messages of these items, which follow a user's message, and what was named as ignored."""
    with reading(policy) as under_way:
        found = to_messages(None, read_input([ASKED, *items], "input"))
    assert found[0] == {"role": "user", "content": "Go on."}
    return found[1:], under_way.names()


def called(*functions, **more) -> dict:
    """An assistant's message with calls, each (id, name, arguments)."""
    calls = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for call_id, name, arguments in functions
    ]
    return {"role": "assistant", "content": None, **more, "tool_calls": calls}


def answered(call_id: str, text: str) -> dict:
    return {"role": "tool", "content": text, "tool_call_id": call_id}


SHELL = {"command": ["ls"], "type": "exec"}
CALLS = [
    (PATCH, {"type": "custom_tool_call_output", "output": [{"type": "input_text", "text": "Done."}]},
     ("apply_patch", {"input": "*** Begin Patch"}), "Done."),
    ({"type": "local_shell_call", "action": SHELL, "status": "completed"},
     {"type": "local_shell_call_output", "id": "x", "output": "a.txt"}, ("local_shell", SHELL), "a.txt"),
    ({"type": "shell_call", "action": {"commands": ["ls"]}, "environment": None},
     {"type": "shell_call_output", "output": [{"stdout": "a", "stderr": ""}], "max_output_length": 9},
     ("shell", {"commands": ["ls"]}), '[{"stdout": "a", "stderr": ""}]'),
    ({"type": "apply_patch_call", "status": "completed", "operation": {"type": "delete_file", "path": "a"}},
     {"type": "apply_patch_call_output", "status": "failed", "output": "no such file"},
     ("apply_patch", {"type": "delete_file", "path": "a"}), "no such file"),
    ({"type": "tool_search_call", "arguments": {"query": "q"}, "execution": "client"},
     {"type": "tool_search_output", "tools": [], "execution": "client"}, ("tool_search", {"query": "q"}), "[]"),
]  # fmt: skip


@pytest.mark.parametrize("policy", ["warn", "refuse"])
@pytest.mark.parametrize(("call", "output", "function", "text"), CALLS)
def test_calls_of_other_tools_are_shown_as_functions(call, output, function, text, policy):
    ids = {"call_id": "c1"}
    assert messages_of(call | ids, output | ids, policy=policy) == (
        [called(("c1", *function)), answered("c1", text)],
        "",
    )


def test_a_call_of_an_mcp_server_has_its_output():
    call = {"type": "mcp_call", "id": "m1", "server_label": "s", "name": "f", "arguments": '{"a": 1}', "output": "four"}
    assert messages_of(call) == ([called(("m1", "f", {"a": 1})), answered("m1", "four")], "")
    failed = call | {"output": None, "error": {"code": 3}}
    assert messages_of(failed)[0][1] == answered("m1", '{"code": 3}')


def test_reasoning_goes_to_the_message_behind_it():
    thought = {"type": "reasoning", "id": "r", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes."}]}
    spoken = {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."}
    assert messages_of(thought, said) == ([spoken], "")
    called_first, _ = messages_of(thought, CALL, DONE, said)
    assert called_first[0] == called(("c2", "f", {"a": 1}), reasoning_content="Hm.")
    assert "reasoning_content" not in called_first[2]
    assert messages_of(thought, ASKED, said)[0][1] == {"role": "assistant", "content": "Yes."}
    unread = {
        "type": "reasoning",
        "id": "r",
        "summary": [{"type": "summary_text", "text": "x"}],
        "encrypted_content": "e",
    }
    assert messages_of(unread, said) == ([{"role": "assistant", "content": "Yes."}], "input[1].type")


SILENT = (
    {"type": "web_search_call", "id": "w", "status": "completed", "action": {"type": "search", "query": "q"}},
    {"type": "file_search_call", "id": "f", "status": "completed", "queries": ["q"], "results": None},
    {"type": "code_interpreter_call", "id": "c", "status": "completed", "container_id": "k", "code": "1"},
    {"type": "image_generation_call", "id": "i", "status": "completed", "result": "eA=="},
    {"type": "mcp_list_tools", "id": "l", "server_label": "s", "tools": []},
    {"type": "compaction", "id": "k", "encrypted_content": "x"},
    {"type": "compaction_trigger"},
    {"type": "of_next_year"},
)


def test_what_says_nothing_to_the_model_is_named():
    assert messages_of(*SILENT, CALL, DONE) == (
        [called(("c2", "f", {"a": 1})), answered("c2", "ok")],
        ", ".join(f"input[{index + 1}].type" for index in range(len(SILENT))),
    )
    for item in SILENT:
        with pytest.raises(UnsupportedError) as refused:
            messages_of(item, policy="refuse")
        assert refused.value.field == "input[1].type"


@pytest.mark.parametrize("policy", ["warn", "refuse"])
def test_images_are_refused(policy):
    image = [{"type": "input_image", "image_url": "data:"}]
    shot = {"type": "computer_call_output", "call_id": "c2", "output": {"type": "computer_screenshot"}}
    for item in (shot, DONE | {"output": image}, {"role": "user", "content": image}):
        with pytest.raises(UnsupportedError, match=r"text only|on this server"):
            messages_of(CALL, item, policy=policy)


def test_outputs_find_their_calls():
    second = {"type": "function_call", "call_id": "c3", "name": "g", "arguments": ""}
    between = {"role": "assistant", "content": "Wait."}
    found, _ = messages_of(CALL, between, second, DONE | {"call_id": "c3", "output": "two"}, DONE, ASKED)
    assert [message["role"] for message in found] == ["assistant", "tool", "assistant", "tool", "user"]
    assert (found[1]["tool_call_id"], found[3]["tool_call_id"]) == ("c2", "c3")
    unnamed = {"type": "function_call_output", "output": "ok"}
    assert messages_of(CALL, second, unnamed, unnamed)[0][1:] == [answered("c2", "ok"), answered("c3", "ok")]
    more = {"type": "custom_tool_call_output", "call_id": "c2", "output": "more"}
    assert messages_of(CALL, DONE, more)[0][1:] == [answered("c2", "ok\nmore")]
    for items, policy in (((unnamed,), "warn"), ((CALL, unnamed), "refuse"), ((DONE,), "warn"), ((CALL,), "warn")):
        with pytest.raises(RequestError, match="call"):
            messages_of(*items, policy=policy)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running("fastpath", tmp_path_factory.mktemp("history")) as server:
        yield server.wait_ready()


def post(server, path: str = "", **fields):
    body = {"model": MODEL, "input": "Hello", "temperature": 0, "max_output_tokens": 16} | fields
    return server.http.post(f"/v1/responses{path}", json=body)


def test_an_item_of_a_kept_response_can_be_named(server):
    first = post(server).json()
    [said] = first["output"]
    ask = [{"role": "user", "content": "Hello"}, said, ASKED]
    whole = post(server, input=ask).json()
    for reference in ({"type": "item_reference", "id": said["id"]}, {"id": said["id"]}):
        named = post(server, input=[ask[0], reference, ask[2]]).json()
        assert named["output"][0]["content"] == whole["output"][0]["content"]
        assert named["usage"]["input_tokens"] == whole["usage"]["input_tokens"]
    for unknown in (said["id"][:-1] + "9", "rs_1", "../x", ""):
        answer = post(server, input=[{"type": "item_reference", "id": unknown}])
        assert (answer.status_code, answer.json()["error"]["param"]) == (404, "input")


def test_tokens_are_counted(server):
    fields = {"instructions": "Be brief.", "tools": [{"type": "function", "name": "f"}], "input": [ASKED, CALL, DONE]}
    counted = post(server, "/input_tokens", **fields)
    expected = post(server, **fields).json()["usage"]["input_tokens"]
    assert counted.json() == {"object": "response.input_tokens", "input_tokens": expected}
    assert post(server, "/input_tokens", input="word " * 9000).json()["input_tokens"] > 9000
    assert post(server, "/input_tokens", input=3).json()["error"]["param"] == "input"


def test_a_number_beyond_the_machine_s_integers_is_a_number(server):
    """Nothing ends the answer before the context is full."""
    answer = post(server, input="word " * 1900, max_output_tokens=None, min_tokens=10**30).json()
    assert (answer["status"], answer["usage"]["total_tokens"]) == ("incomplete", 2048)
    assert answer["usage"]["output_tokens"] > 20


def test_what_is_not_offered_says_so(server):
    compacted = post(server, "/compact")
    assert (compacted.status_code, compacted.json()["error"]["code"]) == (501, "not_implemented")
    kept = post(server).json()["id"]
    cancelled = server.http.post(f"/v1/responses/{kept}/cancel")
    assert (cancelled.status_code, cancelled.json()["error"]["code"]) == (400, "unsupported_parameter")
    assert server.http.post("/v1/responses/resp_x/cancel").status_code == 404


def test_a_request_of_codex_is_answered_and_names_nothing(server):
    """What it sends in 0.171.0, in our own words."""
    fields = {
        "stream": True, "store": False, "tool_choice": "auto", "parallel_tool_calls": True, "max_output_tokens": 16,
        "reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "thread",
        "client_metadata": {"turn_id": "t", "x-codex-turn-metadata": "{}"},
        "tools": [
            {"type": "function", "name": "exec_command", "description": "Runs it.", "strict": False,
             "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}},
            {"type": "namespace", "name": "agents", "tools": [{"type": "function", "name": "f"}]},
            {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "s: "}},
            {"type": "web_search", "external_web_access": True}, {"type": "local_shell"},
        ],
        "input": [{"role": "developer", "content": [{"type": "input_text", "text": "Be good."}]}, ASKED],
    }  # fmt: skip
    answer = post(server, **fields)
    assert answer.status_code == 200 and "x-verbatim-ignored" not in answer.headers
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert events[-1]["type"] in ("response.completed", "response.incomplete")
    named = post(server, **fields | {"reasoning": {"effort": "high", "summary": "auto"}, "text": {"verbosity": "low"}})
    assert named.headers["x-verbatim-ignored"] == "text.verbosity, reasoning.effort"


def test_the_router_finds_what_a_request_is_about():
    adapter, made = adapter_of("/v1/responses"), "0123456789abcdef" * 2
    item = {"type": "item_reference", "id": output_item_id("msg", f"resp_{made}", 2)}
    for path in ("/v1/responses", "/v1/responses/input_tokens"):
        assert adapter.kept_id(path, {"input": [ASKED, item]}) == f"resp_{made}"
        assert adapter.kept_id(path, {"input": [item], "previous_response_id": "resp_x"}) == "resp_x"
        assert adapter.kept_id(path, {"input": "Hello"}) is None and not adapter.is_kept_itself(path)
    assert adapter.kept_id(f"/v1/responses/resp_{made}/cancel", {}) == f"resp_{made}"
    event = sse.read_event(adapter.error_event(RequestError("No.", field="input"), []))
    assert event["param"] == event["error"]["param"] == "input"
