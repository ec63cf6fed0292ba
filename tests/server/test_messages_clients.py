"""Anthropic's own clients, unmodified: the SDK for Python, and Claude Code where its npm package is installed.

A small random model with a long context answers, since Claude Code's first prompt has some 60,000 of its tokens. What
is checked is that the clients understand what they get. A client that is not there is skipped.
"""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from live_server import running
from small_models import write_chat_model

anthropic = pytest.importorskip("anthropic", reason="the SDK is not installed: pip install '.[clients]'")

NODE = Path(__file__).parent / "node"
CLAUDE = NODE / "agents" / "node_modules" / ".bin" / "claude"
KEY = "sk-test"
NAMES = ("tiny", "claude-test")
TINY = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1,
        "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 131072}  # fmt: skip
CITY = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}}, "required": ["city"]}
TOOLS = [{"name": "get_weather", "description": "The weather of a city.", "input_schema": CITY}]
USER = {"role": "user", "content": "Hello"}
COMMON = {"model": "claude-test", "max_tokens": 12, "messages": [USER], "extra_body": {"temperature": 0}}
FORCED = COMMON | {"max_tokens": 300, "tools": TOOLS, "tool_choice": {"type": "any", "disable_parallel_tool_use": True}}


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    place = tmp_path_factory.mktemp("anthropic")
    model = write_chat_model(place / "tiny", **TINY)
    limits = ("--max-num-sequence", "4", "--max-total-seq-length", "262144", "--context-window-size", "131072")
    names = ("--served-model-name", ",".join(NAMES), "--api-key", KEY)
    with running("fastpath", place, "--model", str(model), *limits, *names) as server:
        yield server.wait_ready()


@pytest.fixture
def client(live):
    return anthropic.Anthropic(base_url=live.url, api_key=KEY, max_retries=0)


def test_whole_and_streamed(client):
    whole = client.messages.create(**COMMON, system=[{"type": "text", "text": "Be brief."}])
    assert whole.type == "message" and whole.content[0].type == "text" and whole.stop_reason == "max_tokens"
    assert whole.usage.output_tokens == 12 and whole._request_id
    with client.messages.stream(**COMMON, system="Be brief.") as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text == whole.content[0].text and final.stop_reason == "max_tokens"
    events = [event.type for event in client.messages.create(**COMMON, stream=True)]
    assert events[0] == "message_start" and events[-2:] == ["message_delta", "message_stop"]


def test_async(live):
    async def run():
        async with anthropic.AsyncAnthropic(base_url=live.url, auth_token=KEY, api_key=None) as client:
            whole = await client.messages.create(**COMMON)
            async with client.messages.stream(**COMMON) as stream:
                return whole.content[0].text, "".join([piece async for piece in stream.text_stream])

    whole, streamed = asyncio.run(run())
    assert whole == streamed != ""


def test_tools_there_and_back(client):
    whole = client.messages.create(**FORCED)
    call = whole.content[-1]
    assert (whole.stop_reason, call.type, call.name) == ("tool_use", "tool_use", "get_weather")
    assert call.input["city"] in ("Paris", "Rome")
    with client.messages.stream(**FORCED) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
    assert json.loads("".join(pieces)) == stream.get_final_message().content[-1].input == call.input
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "Sunny.", "is_error": False}
    messages = [USER, {"role": "assistant", "content": whole.content}, {"role": "user", "content": [result]}]
    answer = client.messages.create(**COMMON | {"messages": messages}, tools=TOOLS)
    counted = client.messages.count_tokens(model="tiny", messages=messages, tools=TOOLS)
    assert counted.input_tokens == answer.usage.input_tokens + answer.usage.cache_read_input_tokens


def test_models(client):
    assert [model.id for model in client.models.list()] == list(NAMES)
    assert client.models.retrieve("tiny").display_name == "tiny"


def test_errors(live, client):
    with pytest.raises(anthropic.BadRequestError, match="max_tokens must be at least 1") as bad:
        client.messages.create(**COMMON | {"max_tokens": 0})
    assert bad.value.body["error"]["type"] == "invalid_request_error" and bad.value.request_id
    with pytest.raises(anthropic.NotFoundError, match="--served-model-name"):
        client.messages.create(**COMMON | {"model": "claude-other"})
    with pytest.raises(anthropic.AuthenticationError):
        anthropic.Anthropic(base_url=live.url, api_key="sk-wrong", max_retries=0).messages.create(**COMMON)
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        client.messages.create(**COMMON | {"messages": [{"role": "user", "content": "word " * 140_000}]})


def claude(live, place: Path, body: dict, *arguments: str) -> tuple[dict, list[str]]:
    """What Claude Code prints as JSON about one question, and the server's log lines of its requests."""
    if not CLAUDE.exists() or shutil.which("node") is None:
        pytest.skip("`npm install` in tests/server/node/agents brings Claude Code")
    variables = {
        "PATH": os.environ["PATH"], "HOME": str(place), "ANTHROPIC_BASE_URL": live.url, "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_MODEL": "claude-test", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_TELEMETRY": "1",
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "200", "CLAUDE_CODE_EXTRA_BODY": json.dumps(body),
    }  # fmt: skip
    command, num_before = [str(CLAUDE), "-p", "Say hello.", "--output-format", "json", *arguments], len(live.log)
    done = subprocess.run(command, cwd=place, env=variables, capture_output=True, text=True, timeout=240)
    lines = [line for line in live.log[num_before:].splitlines() if "POST /v1/messages" in line]
    assert done.stdout.startswith("{"), (done.stdout, done.stderr, lines)
    return json.loads(done.stdout), lines


def test_claude_code_answers(live, tmp_path):
    """With all its tools on offer. A format makes the model's answer sensible, and a bias makes it answer at all."""
    schema = {"type": "object", "properties": {"word": {"enum": ["hello"]}}, "required": ["word"]}
    starts = [live.http.post("/tokenize", json={"prompt": text, "add_special_tokens": False},
                             headers={"x-api-key": KEY}).json()["tokens"] for text in ("{", '{"')]  # fmt: skip
    body = {"logit_bias": dict.fromkeys((str(ids[-1]) for ids in starts), 100), "temperature": 0}
    body |= {"output_config": {"format": {"type": "json_schema", "schema": schema | {"additionalProperties": False}}}}
    printed, lines = claude(live, tmp_path, body)
    assert json.loads(printed["result"]) == {"word": "hello"} and not printed["is_error"], printed
    assert len(lines) == 1 and "/v1/messages 200" in lines[0]
    assert printed["usage"]["input_tokens"] > 10_000 and printed["stop_reason"] == "end_turn"


def test_claude_code_uses_a_tool(live, tmp_path):
    """The model has to call a harmless tool each time: calls and results go to and fro up to the number of turns."""
    body = {"tool_choice": {"type": "tool", "name": "TaskList"}}
    printed, lines = claude(live, tmp_path, body, "--tools", "TaskList", "--max-turns", "3")
    assert printed["subtype"] == "error_max_turns" and printed["num_turns"] >= 3, printed
    assert len(lines) == 3 and all("/v1/messages 200" in line for line in lines)
