"""The demo model uses tools it has never seen: what it calls always fits its schema, and mostly is what was meant."""

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import jsonschema
import pytest

from live_server import running
from verbatim.demo.corpus import conversations
from verbatim.demo.evaluate import SEED

NUM_REQUESTS, A_FEW = 100, 40
LEAST_ACCURACY = 0.95  # the right tool with the right arguments, of all requests
MAX_TOKENS = 300  # more than any right answer takes


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running("fastpath", tmp_path_factory.mktemp("tools")) as server:
        yield server.wait_ready()


def questions(count):
    """Held-out conversations that end with a call of one of their tools."""
    found = (case for case in conversations(SEED, "heldout") if case.skill == "tool call")
    return list(islice(found, count))


def ask(server, conversation, tool_choice):
    """The server's answer to a conversation whose last message is left out."""
    body = {
        "model": "verbatim-demo", "messages": conversation.messages[:-1], "tools": conversation.tools,
        "tool_choice": tool_choice, "temperature": 0, "max_tokens": MAX_TOKENS,
    }  # fmt: skip
    return server.http.post("/v1/chat/completions", json=body).raise_for_status().json()["choices"][0]


def calls(message):
    """(name, arguments) of every call of a message."""
    functions = [call["function"] for call in message.get("tool_calls") or []]
    return [(function["name"], json.loads(function["arguments"])) for function in functions]


def check_valid(choice, tools):
    """Every call names a tool that was listed, and its arguments fit that tool's schema."""
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
    found = calls(choice["message"])
    assert (choice["finish_reason"] == "tool_calls") == bool(found)
    for name, arguments in found:
        jsonschema.validate(arguments, schemas[name])


def test_forty_held_out_requests(server, capsys):
    check_requests(server, "auto", A_FEW, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("tool_choice", ["auto", "required"])
def test_a_hundred_held_out_requests(server, tool_choice, capsys):
    check_requests(server, tool_choice, NUM_REQUESTS, capsys)


def check_requests(server, tool_choice, count, capsys):
    """Every call fits its tool's schema, and nearly all are what was meant."""
    asked = questions(count)
    assert len(asked) == count
    with ThreadPoolExecutor(16) as pool:
        choices = list(pool.map(lambda conversation: ask(server, conversation, tool_choice), asked))
    num_right = num_calls = 0
    for conversation, choice in zip(asked, choices, strict=True):
        check_valid(choice, conversation.tools)
        num_calls += len(calls(choice["message"]))
        num_right += calls(choice["message"]) == calls(conversation.messages[-1])
        assert calls(choice["message"]) or tool_choice == "auto"
    with capsys.disabled():
        print(f"\ntool_choice {tool_choice}: {num_right} of {count} right; all {num_calls} calls fit")
    assert num_right >= LEAST_ACCURACY * count


def test_a_function_without_parameters_takes_none(server):
    tool = {"type": "function", "function": {"name": "probe", "description": "Takes a value."}}
    named = {"type": "function", "function": {"name": "probe"}}
    body = {"model": "verbatim-demo", "messages": [{"role": "user", "content": "Call the tool."}], "temperature": 0}
    answer = server.http.post("/v1/chat/completions", json=body | {"tools": [tool], "tool_choice": named}).json()
    assert calls(answer["choices"][0]["message"]) == [("probe", {})]
