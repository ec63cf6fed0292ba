"""What must come out in a form does, from either engine and however it is asked for."""

import json

import jsonschema
import pytest

SCHEMA = {
    "type": "object",
    "properties": {"mood": {"enum": ["glad", "glum"]}, "count": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["mood", "count"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"type": "integer", "maximum": 9}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
TIME = {"type": "function", "function": {"name": "get_time", "parameters": NOTHING}}
PARAMETERS = {"get_weather": WEATHER["function"]["parameters"], "get_time": NOTHING}
ASK = [{"role": "user", "content": "Say something in JSON about the weather."}]


@pytest.fixture
def client(server):
    return server.client()


def ask(client, **changes):
    body = {"model": "verbatim-demo", "messages": ASK, "temperature": 1, "seed": 5, "max_tokens": 200} | changes
    return client.chat.completions.create(**body)


def json_format(schema):
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_keeps_its_schema(client, seed, stream):
    answer = ask(client, response_format=json_format(SCHEMA), seed=seed, stream=stream)
    if stream:
        content = "".join(chunk.choices[0].delta.content or "" for chunk in answer)
    else:
        assert answer.choices[0].finish_reason == "stop"
        content = answer.choices[0].message.content
    value = json.loads(content)
    jsonschema.validate(value, SCHEMA)
    assert list(value) == ["mood", "count"]


def test_json_mode_begins_an_object(client):
    choice = ask(client, response_format={"type": "json_object"}).choices[0]
    assert choice.message.content.startswith("{")
    assert choice.finish_reason == "length" or isinstance(json.loads(choice.message.content), dict)


@pytest.mark.parametrize(
    ("tool_choice", "names"),
    [
        ("required", {"get_weather", "get_time"}),
        ({"type": "function", "function": {"name": "get_weather"}}, {"get_weather"}),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [WEATHER]}}, {"get_weather"}),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_forced_call_is_made_with_fitting_arguments(client, tool_choice, names, seed):
    answer = ask(
        client, tools=[WEATHER, TIME], tool_choice=tool_choice, parallel_tool_calls=False, seed=seed, max_tokens=300
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls
    assert call.function.name in names
    jsonschema.validate(json.loads(call.function.arguments), PARAMETERS[call.function.name])


def test_a_streamed_call_is_the_same(client):
    body = {"tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": False}
    whole = ask(client, **body).choices[0].message.tool_calls[0]
    name, arguments = "", ""
    for chunk in ask(client, **body, stream=True):
        for fragment in chunk.choices[0].delta.tool_calls or []:
            name += fragment.function.name or ""
            arguments += fragment.function.arguments or ""
    assert (name, arguments) == (whole.function.name, whole.function.arguments)


@pytest.mark.parametrize("dialect", ["mistral", "pythonic"])
def test_a_server_speaks_the_dialect_it_is_told(start, dialect):
    with start("fastpath", "--tool-parser", dialect).wait_ready().client() as client:
        body = {"tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": False}
        choice = ask(client, **body).choices[0]
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
        (call,) = choice.message.tool_calls
        assert call.function.name == "get_weather"
        jsonschema.validate(json.loads(call.function.arguments), PARAMETERS["get_weather"])


def test_a_prompt_that_is_known_is_counted_as_cached(client):
    messages = [{"role": "user", "content": "Count the words: one two three four five six seven eight nine"}]
    ask(client, messages=messages, max_tokens=1)
    usage = ask(client, messages=messages, max_tokens=1).usage
    assert usage.prompt_tokens_details.cached_tokens == usage.prompt_tokens - 1
    other = ask(client, messages=messages, max_tokens=1, prompt_cache_key="mine").usage
    assert other.prompt_tokens_details.cached_tokens == 0
