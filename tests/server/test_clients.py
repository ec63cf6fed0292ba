"""Clients that others wrote, unmodified, against a running server. `pip install 'verbatim[clients]'` brings them.

A small model says little that makes sense, so what is checked is that each client understands what it gets: texts,
streams, forced calls with arguments that fit, structured answers, vectors. A client that is not there is skipped.
"""

import asyncio
import json
from typing import Literal

import openai
import pytest

from live_server import running

pydantic = pytest.importorskip("pydantic")

MODEL = "verbatim-demo"
SAY = [{"role": "user", "content": "Hello"}]
ASK = [{"role": "user", "content": "What is the weather in Paris?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
COMMON = {"model": MODEL, "temperature": 0}


class Person(pydantic.BaseModel):
    """Someone, small enough for any model to write."""

    name: Literal["Ada", "Bo"]
    is_old: bool


class get_weather(pydantic.BaseModel):  # noqa: N801 - the name is the function's
    """The weather of a city."""

    city: Literal["Paris", "Rome"]


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """One server is enough: clients see no engine."""
    with running("fastpath", tmp_path_factory.mktemp("clients")) as server:
        yield server.wait_ready()


@pytest.fixture
def client(live):
    return live.client()


@pytest.fixture
def base_url(live):
    return live.url + "/v1"


# openai-python


def test_openai_chat(client):
    whole = client.chat.completions.create(**COMMON, messages=SAY, max_tokens=12)
    chunks = list(client.chat.completions.create(**COMMON, messages=SAY, max_tokens=12, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    with client.chat.completions.stream(**COMMON, messages=SAY, max_completion_tokens=400) as stream:
        stream.until_done()
    assert stream.get_final_completion().choices[0].finish_reason == "stop"


def test_openai_async(base_url):
    async def ask():
        async with openai.AsyncOpenAI(base_url=base_url, api_key="none") as client:
            whole = await client.chat.completions.create(**COMMON, messages=SAY, max_tokens=12)
            text = ""
            async for chunk in await client.chat.completions.create(**COMMON, messages=SAY, max_tokens=12, stream=True):
                text += chunk.choices[0].delta.content or ""
            return whole.choices[0].message.content, text

    whole, streamed = asyncio.run(ask())
    assert whole == streamed != ""


def test_openai_tools(client):
    tools = [openai.pydantic_function_tool(get_weather)]
    body = COMMON | {"messages": ASK, "tools": tools, "tool_choice": "required", "parallel_tool_calls": False}
    [call] = client.chat.completions.parse(**body).choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, get_weather)
    with client.chat.completions.stream(**body) as stream:
        types = {event.type for event in stream}
    assert "tool_calls.function.arguments.done" in types
    [streamed] = stream.get_final_completion().choices[0].message.tool_calls
    assert streamed.function.parsed_arguments == call.function.parsed_arguments
    message = {
        "role": "assistant",
        "tool_calls": [call.model_dump(include={"id", "type", "function"}, exclude_none=True)],
    }
    message["tool_calls"][0]["function"].pop("parsed_arguments", None)
    answer = {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}
    rest = client.chat.completions.create(**COMMON, messages=[*ASK, message, answer], tools=tools, max_tokens=200)
    assert rest.choices[0].finish_reason in ("stop", "length", "tool_calls")


def test_openai_parse(client):
    message = client.chat.completions.parse(**COMMON, messages=SAY, response_format=Person).choices[0].message
    assert isinstance(message.parsed, Person)
    with client.chat.completions.stream(**COMMON, messages=SAY, response_format=Person) as stream:
        stream.until_done()
    assert stream.get_final_completion().choices[0].message.parsed == message.parsed


def test_openai_completions_and_models(client):
    answer = client.completions.create(**COMMON, prompt=["Hello", "Once"], n=2, max_tokens=5, logprobs=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert client.models.retrieve(MODEL).id == client.models.list().data[0].id == MODEL


def test_openai_embeddings(client):
    plain = client.embeddings.create(model=MODEL, input=["a", "b"], encoding_format="float")
    packed = client.embeddings.create(model=MODEL, input=["a", "b"])
    assert [item.embedding for item in plain.data] == [item.embedding for item in packed.data]


def test_openai_raw_response(client):
    raw = client.chat.completions.with_raw_response.create(**COMMON, messages=SAY, max_tokens=3)
    assert raw.status_code == 200 and raw.headers["x-request-id"] == raw.parse()._request_id
    with client.chat.completions.with_streaming_response.create(**COMMON, messages=SAY, max_tokens=3) as response:
        assert json.loads(response.read())["object"] == "chat.completion"


def test_openai_errors(client):
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(**COMMON | {"temperature": -1}, messages=SAY)
    assert (bad.value.param, bad.value.code) == ("temperature", "decimal_below_min_value")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="other", messages=SAY)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_" + 32 * "0")


def test_openai_responses(client):
    first = client.responses.create(**COMMON, input="Hello", instructions="Be brief.", max_output_tokens=400)
    assert first.status == "completed" and first.output_text
    second = client.responses.create(**COMMON, input="And now?", previous_response_id=first.id, max_output_tokens=16)
    assert second.previous_response_id == first.id
    assert client.responses.retrieve(first.id).output_text == first.output_text
    assert client.responses.input_items.list(first.id).data[0].content[0].text == "Hello"
    client.responses.delete(first.id)
    with client.responses.stream(**COMMON, input="Hello", instructions="Be brief.", max_output_tokens=400) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    assert text == stream.get_final_response().output_text == first.output_text
    parsed = client.responses.parse(**COMMON, input="Who?", text_format=Person)
    assert isinstance(parsed.output_parsed, Person)
    tool = openai.pydantic_function_tool(get_weather)["function"] | {"type": "function"}
    with client.responses.stream(**COMMON, input="Weather?", tools=[tool], tool_choice="required") as stream:
        types = [event.type for event in stream]
    assert "response.function_call_arguments.done" in types
    assert stream.get_final_response().output[0].name == "get_weather"


# LangChain


@pytest.fixture
def langchain(base_url):
    module = pytest.importorskip("langchain_openai")
    return lambda **settings: module.ChatOpenAI(base_url=base_url, api_key="none", **COMMON, **settings)


def test_langchain(langchain):
    chat = langchain(max_tokens=20)
    whole = chat.invoke("Hello")
    assert whole.content and whole.usage_metadata["output_tokens"] > 0
    assert "".join(chunk.content for chunk in chat.stream("Hello")) == whole.content
    assert asyncio.run(chat.ainvoke("Hello")).content == whole.content


def test_langchain_tools(langchain):
    chat = langchain().bind_tools([get_weather], tool_choice="required", parallel_tool_calls=False)
    [call] = chat.invoke("The weather in Paris?").tool_calls
    assert call["name"] == "get_weather" and get_weather(**call["args"])
    chunks = list(chat.stream("The weather in Paris?"))
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    assert [(made["name"], made["args"]) for made in total.tool_calls] == [("get_weather", call["args"])]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain_structured_output(langchain, method):
    assert isinstance(langchain().with_structured_output(Person, method=method).invoke("Who?"), Person)


def test_langchain_on_responses(langchain):
    chat = langchain(use_responses_api=True, max_tokens=400)
    whole = chat.invoke("Hello")
    streamed = "".join(part["text"] for chunk in chat.stream("Hello") for part in chunk.content if "text" in part)
    assert whole.content[0]["text"] == streamed != ""


def test_langchain_embeddings(base_url, client):
    module = pytest.importorskip("langchain_openai")
    settings = {"model": MODEL, "base_url": base_url, "api_key": "none", "check_embedding_ctx_length": False}
    vectors = module.OpenAIEmbeddings(**settings).embed_documents(["a", "b"])
    assert vectors == [item.embedding for item in client.embeddings.create(model=MODEL, input=["a", "b"]).data]


# LlamaIndex


def test_llama_index(base_url):
    module = pytest.importorskip("llama_index.llms.openai_like")
    from llama_index.core.llms import ChatMessage
    from llama_index.core.tools import FunctionTool

    settings = {"api_base": base_url, "api_key": "none", "is_chat_model": True, "is_function_calling_model": True}
    model = module.OpenAILike(model=MODEL, temperature=0, max_tokens=40, context_window=2048, **settings)
    message = ChatMessage(role="user", content="Hello")
    whole = model.chat([message]).message.content
    assert "".join(part.delta for part in model.stream_chat([message])) == whole != ""
    assert asyncio.run(model.achat([message])).message.content == whole
    tool = FunctionTool.from_defaults(fn=lambda city: city, name="get_weather", fn_schema=get_weather)
    answer = model.chat_with_tools([tool], "The weather in Paris?", tool_required=True, allow_parallel_tool_calls=False)
    [call] = model.get_tool_calls_from_response(answer)
    assert call.tool_name == "get_weather" and get_weather(**call.tool_kwargs)
    plain = module.OpenAILike(model=MODEL, api_base=base_url, api_key="none", max_tokens=5, context_window=2048)
    assert plain.complete("Hello").text


# LiteLLM


@pytest.fixture
def litellm(monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it asks the network for prices
    return pytest.importorskip("litellm")


def test_litellm(litellm, base_url):
    common = {"model": f"openai/{MODEL}", "api_base": base_url, "api_key": "none", "temperature": 0}
    whole = litellm.completion(**common, messages=SAY, max_tokens=12).choices[0].message.content
    chunks = litellm.completion(**common, messages=SAY, max_tokens=12, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole != ""
    called = litellm.completion(**common, messages=ASK, tools=[WEATHER], tool_choice="required", max_tokens=200)
    call = called.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather" and "city" in json.loads(call.function.arguments)
    assert len(litellm.embedding(**common | {"temperature": None}, input=["a", "b"]).data) == 2
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(**common, messages=[{"role": "user", "content": "word " * 9000}])
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(**common | {"model": "openai/other"}, messages=SAY)


# Instructor


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
def test_instructor(base_url, mode):
    instructor = pytest.importorskip("instructor")
    client = instructor.from_openai(
        openai.OpenAI(base_url=base_url, api_key="none"), mode=getattr(instructor.Mode, mode)
    )
    messages = [{"role": "user", "content": "Who is it? Answer in JSON."}]
    person = client.create(**COMMON, messages=messages, response_model=Person, max_retries=0)
    assert isinstance(person, Person)
    *_, last = client.create_partial(**COMMON, messages=messages, response_model=Person, max_retries=0)
    assert last.name in ("Ada", "Bo") and isinstance(last.is_old, bool)


# OpenAI Agents SDK


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_agents(base_url, api):
    agents = pytest.importorskip("agents")
    agents.set_tracing_disabled(True)
    client = openai.AsyncOpenAI(base_url=base_url, api_key="none")
    model_type = agents.OpenAIChatCompletionsModel if api == "chat" else agents.OpenAIResponsesModel
    model = model_type(model=MODEL, openai_client=client)
    cities = []

    @agents.function_tool
    def find_weather(city: Literal["Paris", "Rome"]) -> str:
        """The weather of a city."""
        cities.append(city)
        return "Sunny."

    settings = agents.ModelSettings(temperature=0, max_tokens=200)
    talker = agents.Agent(name="talker", instructions="Be brief.", model=model, model_settings=settings)
    forced = agents.ModelSettings(temperature=0, max_tokens=300, tool_choice="required", parallel_tool_calls=False)
    caller = agents.Agent(name="caller", model=model, model_settings=forced, tools=[find_weather])
    writer = agents.Agent(name="writer", model=model, model_settings=settings, output_type=Person)

    async def run():
        whole = await agents.Runner.run(talker, "Hello")
        streamed = agents.Runner.run_streamed(talker, "Hello")
        types = {event.type async for event in streamed.stream_events()}
        called = await agents.Runner.run(caller, "The weather in Paris?", max_turns=4)
        written = await agents.Runner.run(writer, "Who?")
        return whole.final_output, streamed.final_output, types, called.final_output, written.final_output

    whole, streamed, types, called, written = asyncio.run(run())
    assert whole == streamed != ""
    assert "raw_response_event" in types
    assert cities and isinstance(called, str)
    assert isinstance(written, Person)
