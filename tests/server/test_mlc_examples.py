"""The calls of MLC-LLM's REST guide, with `requests` as there: only host, port and model are ours.

What a stream's reader does there holds only if every event comes in an HTTP chunk of its own. Whether a small model
calls a function is its own affair; where it has to, the call is where the guide looks for it.
"""

import json

import pytest

requests = pytest.importorskip("requests", reason="`pip install 'verbatim[clients]'` brings requests")

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "The weather of a place as it is now",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string", "description": "A city with its state, such as Austin, TX"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["location"],
        },
    },
}
ASK = "What is the current weather in Pittsburgh, PA in fahrenheit?"


def post(server, content: str, **fields):
    payload = {"model": "verbatim-demo", "messages": [{"role": "user", "content": content}]} | fields
    response = requests.post(f"{server.url}/v1/chat/completions", json=payload, stream=fields["stream"], timeout=120)
    assert response.status_code == 200, response.text
    return response


def read_events(response) -> list[dict]:
    """As the guide reads them: cut off six characters of what comes, and it is JSON or the end."""
    found = []
    for chunk in response.iter_content(chunk_size=None):
        text = chunk.decode("utf-8")
        if "[DONE]" in text[6:]:
            return found
        found.append(json.loads(text[6:]))
    raise AssertionError("the stream ended without [DONE]")


def test_models(server):
    response = requests.get(f"{server.url}/v1/models", headers={"accept": "application/json"}, timeout=60)
    assert response.status_code == 200
    assert [model["id"] for model in response.json()["data"]] == ["verbatim-demo"]


def test_an_answer(server):
    choices = post(server, "Write a haiku about apples.", stream=False, max_tokens=300).json()["choices"]
    assert [type(choice["message"]["content"]) for choice in choices] == [str]


def test_a_streamed_answer(server):
    events = read_events(post(server, "Write a haiku", stream=True))
    assert all(isinstance(event["choices"][0]["delta"].get("content", ""), str) for event in events)
    assert events[-1]["choices"][0]["finish_reason"]


@pytest.mark.parametrize("fields", [{}, {"tool_choice": "required"}])
def test_a_function_call(server, fields):
    message = post(server, ASK, stream=False, tools=[WEATHER], max_tokens=300, **fields).json()["choices"][0]["message"]
    if fields:
        assert message["tool_calls"][0]["function"]["name"] == "get_current_weather"
    else:
        assert isinstance(message["content"], str) or message["tool_calls"][0]["function"]["arguments"]


@pytest.mark.parametrize("fields", [{}, {"tool_choice": "required"}])
def test_a_streamed_function_call(server, fields):
    events = read_events(post(server, ASK, stream=True, tools=[WEATHER], max_tokens=300, **fields))
    deltas = [event["choices"][0]["delta"] for event in events]
    calls = [fragment for delta in deltas for fragment in delta.get("tool_calls", [])]
    assert calls if fields else calls or "".join(delta.get("content", "") for delta in deltas)
    if calls:
        head = calls[0]
        assert (head["index"], head["type"], head["function"]["name"]) == (0, "function", "get_current_weather")
