"""Clients that others wrote, unmodified, in a second round: what they got comes back in their own form.

A small model answers; what is checked is that each history is read, and read as what it says. A client that is not
there is skipped.
"""

from typing import Literal

import openai
import pytest

from live_server import running

pydantic = pytest.importorskip("pydantic")

MODEL = "verbatim-demo"
HELLO = {"role": "user", "content": "Hello"}
MORE = {"role": "user", "content": "And now?"}
ASK = {"role": "user", "content": "The weather in Paris?"}
FORCED = {"tool_choice": "required", "parallel_tool_calls": False}


class Person(pydantic.BaseModel):
    """Someone, small enough for any model to write."""

    name: Literal["Ada", "Bo"]
    is_old: bool


class get_weather(pydantic.BaseModel):  # noqa: N801 - the name is the function's
    """The weather of a city."""

    city: Literal["Paris", "Rome"]


@pytest.fixture(scope="module")
def base_url(tmp_path_factory):
    with running("fastpath", tmp_path_factory.mktemp("history")) as server:
        yield server.wait_ready().url + "/v1"


@pytest.fixture
def client(base_url):
    return openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)


def test_parsed_chats_come_back(client):
    common = {"model": MODEL, "temperature": 0, "max_tokens": 60}
    first = client.chat.completions.parse(**common, messages=[HELLO], response_format=Person).choices[0].message
    history = [HELLO, first, MORE]
    again = client.chat.completions.parse(**common, messages=history, response_format=Person).choices[0].message
    assert isinstance(again.parsed, Person)
    plain = [HELLO, {"role": "assistant", "content": first.content}, MORE]
    same = client.chat.completions.parse(**common, messages=plain, response_format=Person).choices[0].message
    assert again.content == same.content
    tools = [openai.pydantic_function_tool(get_weather)]
    called = client.chat.completions.parse(**common, **FORCED, messages=[ASK], tools=tools).choices[0].message
    result = {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "Sunny."}
    rest = client.chat.completions.parse(**common, messages=[ASK, called, result], tools=tools)
    assert "Sunny" in rest.choices[0].message.content


def test_parsed_responses_come_back(client):
    common = {"model": MODEL, "temperature": 0, "max_output_tokens": 60}
    first = client.responses.parse(**common, input=[HELLO], text_format=Person)
    again = client.responses.parse(**common, input=[HELLO, *first.output, MORE], text_format=Person)
    kept = client.responses.parse(**common, input=[MORE], previous_response_id=first.id, text_format=Person)
    assert again.output_parsed == kept.output_parsed and again.usage.input_tokens == kept.usage.input_tokens
    tools = [openai.pydantic_function_tool(get_weather)]
    called = client.responses.parse(**common, **FORCED, input=[ASK], tools=tools)
    [call] = called.output
    assert isinstance(call.parsed_arguments, get_weather)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."}
    rest = client.responses.parse(**common, input=[ASK, *called.output, result], tools=tools)
    assert "Sunny" in rest.output_text
    flat = [tools[0]["function"] | {"type": "function"}]
    counted = client.responses.input_tokens.count(model=MODEL, input=[ASK, *called.output, result], tools=flat)
    assert counted.input_tokens == rest.usage.input_tokens


REASONING = [
    {"reasoning_effort": "low"},
    {"use_responses_api": True, "reasoning": {"effort": "low", "summary": "auto"}},
    {"use_responses_api": True, "reasoning": {"effort": "low"}, "output_version": "v0"},
    {"use_responses_api": True, "reasoning": {"effort": "high"}, "store": False, "verbosity": "low",
     "include": ["reasoning.encrypted_content"]},
    {"use_responses_api": True, "reasoning": {"effort": "low"}, "use_previous_response_id": True},
]  # fmt: skip


@pytest.mark.parametrize("settings", REASONING)
def test_langchain_with_reasoning_settings(base_url, settings):
    module = pytest.importorskip("langchain_openai")
    from langchain_core.messages import HumanMessage, ToolMessage

    chat = module.ChatOpenAI(base_url=base_url, api_key="none", model=MODEL, temperature=0, max_tokens=60, **settings)
    first = chat.invoke([HumanMessage("Hello")])
    history = [HumanMessage("Hello"), first, HumanMessage("And now?")]
    second = chat.invoke(history)
    assert first.text and second.usage_metadata["input_tokens"] > first.usage_metadata["total_tokens"]
    ask = HumanMessage("The weather in Paris?")
    called = chat.bind_tools([get_weather], **FORCED).invoke([ask])
    [call] = called.tool_calls
    told = [ask, called, ToolMessage("Sunny.", tool_call_id=call["id"])]
    whole = chat.invoke(told).text
    assert "Sunny" in whole and "".join(chunk.text for chunk in chat.stream(told)) == whole


def test_litellm_appended_histories(base_url, monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it asks the network for prices
    litellm = pytest.importorskip("litellm")
    common = {"model": f"openai/{MODEL}", "api_base": base_url, "api_key": "none", "temperature": 0, "max_tokens": 60}
    first = litellm.completion(**common, messages=[HELLO]).choices[0].message
    second = litellm.completion(**common, messages=[HELLO, first, MORE])
    plain = litellm.completion(**common, messages=[HELLO, {"role": "assistant", "content": first.content}, MORE])
    assert second.choices[0].message.content == plain.choices[0].message.content
    tools = [openai.pydantic_function_tool(get_weather)]
    called = litellm.completion(**common, **FORCED, messages=[ASK], tools=tools).choices[0].message
    call = called.tool_calls[0]
    result = {"role": "tool", "tool_call_id": call.id, "name": call.function.name, "content": "Sunny."}
    rest = litellm.completion(**common, messages=[ASK, called, result], tools=tools)
    assert "Sunny" in rest.choices[0].message.content
    common |= {"max_output_tokens": common.pop("max_tokens")}
    assert litellm.responses(**common, input="Hello", reasoning={"effort": "low"}).output_text
