"""Ollama's API with Ollama's own Python package, and by hand: streams equal wholes; the words are those of chats."""

import json

import httpx
import pytest

from live_server import running

USER = {"role": "user", "content": "What is 17 + 25?"}
GREEDY = {"temperature": 0, "num_predict": 12}
TIME = {
    "type": "function",
    "function": {
        "name": "get_time",
        "description": "The time in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
OWN = ("created_at", "total_duration", "prompt_eval_duration", "eval_duration")  # differ from answer to answer


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One under the default policy, as Ollama's clients send much that has no effect here."""
    with running("fastpath", tmp_path_factory.mktemp("ollama")) as server:
        yield server.wait_ready()


@pytest.fixture(scope="module")
def client(server):
    ollama = pytest.importorskip("ollama", reason="ollama is not installed: pip install '.[clients]'")
    return ollama.Client(host=server.url)


def lines(server, path: str, **body) -> list[dict]:
    with server.http.stream("POST", path, json={"model": "verbatim-demo"} | body) as response:
        assert response.status_code == 200 and response.headers["content-type"] == "application/x-ndjson"
        return [json.loads(line) for line in response.iter_lines()]


def whole(server, path: str, **body) -> dict:
    response = server.http.post(path, json={"model": "verbatim-demo", "stream": False} | body)
    assert response.status_code == 200, response.text
    return response.json()


def timeless(answer: dict) -> dict:
    return {name: value for name, value in answer.items() if name not in OWN}


def test_a_chat_has_the_words_of_openais(server, client):
    answer = client.chat("verbatim-demo:latest", [USER], options=GREEDY | {"num_ctx": 4096}, keep_alive="5m")
    expected = server.chat(messages=[USER], max_tokens=12, ignore_eos=None).json()
    assert answer.message.content == expected["choices"][0]["message"]["content"]
    assert answer.model == "verbatim-demo:latest" and answer.done
    assert answer.done_reason == expected["choices"][0]["finish_reason"]
    assert answer.prompt_eval_count == expected["usage"]["prompt_tokens"]
    assert answer.eval_count == expected["usage"]["completion_tokens"]
    assert answer.total_duration >= answer.prompt_eval_duration + answer.eval_duration > 0
    parts = client.chat("verbatim-demo", [USER], stream=True, options=GREEDY)
    assert "".join(part.message.content for part in parts) == answer.message.content


@pytest.mark.parametrize("options", [GREEDY, {"seed": 5, "temperature": 1.2, "top_k": 30, "stop": ["e"]}])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"messages": [USER]}),
        ("/api/chat", {"messages": [USER], "format": SCHEMA}),
        ("/api/chat", {"messages": [USER, {"role": "assistant", "content": "17 + 25 ="}]}),
        ("/api/generate", {"prompt": "Hello", "system": "Be brief."}),
        ("/api/generate", {"prompt": "Once upon", "raw": True}),
        ("/api/generate", {"prompt": "JSON", "format": "json"}),
    ],
)
def test_streams_equal_wholes(server, path, body, options):
    *pieces, last = lines(server, path, **body, options=options)
    answer = whole(server, path, **body, options=options)
    assert not any(piece["done"] for piece in pieces) and last["done"]
    text = [piece["message"]["content"] if "message" in piece else piece["response"] for piece in (*pieces, last)]
    assert "".join(text) == (answer["message"]["content"] if "message" in answer else answer["response"])
    for both in (last, answer):
        both.pop("message", None), both.pop("response", None)
    assert timeless(last) == timeless(answer)
    assert set(last) == set(answer) and all(last[name] >= 0 for name in OWN[1:])


def test_formats_hold(client):
    answer = client.generate("verbatim-demo", "JSON", format=SCHEMA, options={"num_predict": 60, "temperature": 0})
    assert answer.done_reason == "length" or list(json.loads(answer.response)) == ["a"]


def test_a_prompt_is_answered_by_way_of_the_template_or_not(server, client):
    messages = [{"role": "system", "content": "Be brief."}, USER]
    chat = client.chat("verbatim-demo", messages, options=GREEDY).message.content
    assert client.generate("verbatim-demo", USER["content"], system="Be brief.", options=GREEDY).response == chat
    raw = client.generate("verbatim-demo", "Once upon a time", raw=True, options=GREEDY).response
    assert raw == server.complete(prompt="Once upon a time", max_tokens=12, temperature=0).json()["choices"][0]["text"]


def test_a_loop_with_a_tool(server, client):
    question = {"role": "user", "content": "What time is it in Paris?"}
    options = {"temperature": 0, "num_predict": 200}
    message = client.chat("verbatim-demo", [question], tools=[TIME], options=options).message
    (call,) = message.tool_calls
    assert call.function.name == "get_time" and list(call.function.arguments) == ["city"]
    body = {"messages": [question], "tools": [TIME], "options": options}  # the package writes tools in another order
    streamed = lines(server, "/api/chat", **body)
    (calls,) = [line["message"]["tool_calls"] for line in streamed if "tool_calls" in line["message"]]
    assert calls == whole(server, "/api/chat", **body)["message"]["tool_calls"]
    assert [each["function"]["arguments"] for each in calls] == [{"city": "Paris"}]
    assert not any("<tool_call>" in line["message"]["content"] for line in streamed)
    answered = [question, message, {"role": "tool", "tool_name": "get_time", "content": "12:30"}]
    second = client.chat("verbatim-demo", answered, tools=[TIME], options=options)
    assert second.message.content and not second.message.tool_calls


def test_vectors(server, client):
    expected = server.http.post("/v1/embeddings", json={"input": ["a", "b"]}).json()["data"]
    found = client.embed("verbatim-demo", ["a", "b"])
    assert [list(vector) for vector in found.embeddings] == [item["embedding"] for item in expected]
    assert found.prompt_eval_count > 0
    assert list(client.embed("verbatim-demo", "a", dimensions=4).embeddings[0]) == pytest.approx(
        server.http.post("/v1/embeddings", json={"input": "a", "dimensions": 4}).json()["data"][0]["embedding"]
    )
    assert list(client.embeddings("verbatim-demo", "a").embedding) == expected[0]["embedding"]


def test_what_there_is(server, client):
    (model,) = client.list().models
    assert model.model == "verbatim-demo:latest" and model.details.family
    shown = client.show(model.model)
    assert "tools" in shown.capabilities and "completion" in shown.capabilities and "im_start" in shown.template
    assert shown.modelinfo[f"{model.details.family}.context_length"] > 0
    assert [loaded.model for loaded in client.ps().models] == ["verbatim-demo:latest"]
    assert client.pull("verbatim-demo").status == "success"
    assert server.http.get("/api/version").json()["version"].count(".") == 2
    assert httpx.head(server.url).status_code == 200


def test_nothing_to_answer(client):
    assert client.generate("verbatim-demo").done_reason == "load"
    assert client.chat("verbatim-demo", []).done_reason == "load"
    assert [part.done for part in client.generate("verbatim-demo", stream=True)] == [True]


@pytest.mark.parametrize(
    ("path", "body", "status", "word"),
    [
        ("/api/chat", {"messages": [USER], "model": "other"}, 404, "other"),
        ("/api/show", {"model": "other"}, 404, "other"),
        ("/api/pull", {"name": "other", "model": None}, 404, "other"),
        ("/api/chat", {"messages": [USER | {"images": ["aGk="]}]}, 400, "messages[0].images"),
        ("/api/chat", {"messages": [{"role": "tool", "content": "x"}]}, 400, "messages[0]"),
        ("/api/chat", {"messages": [USER], "options": {"temperature": "hot"}}, 400, "options.temperature"),
        ("/api/chat", {"messages": [USER], "format": "xml"}, 400, "format"),
        ("/api/chat", {"messages": [USER], "format": {"type": "nope"}}, 400, "format"),
        ("/api/generate", {"prompt": "a", "suffix": "b"}, 400, "suffix"),
        ("/api/generate", {"prompt": "a", "images": ["aGk="]}, 400, "images"),
        ("/api/generate", {"prompt": "word " * 9000}, 400, "context"),
        ("/api/embed", {"input": [3.5]}, 400, "input"),
        ("/api/delete", {"model": "verbatim-demo"}, 404, "/api/delete"),
    ],
)
def test_errors_are_ollamas(server, path, body, status, word):
    response = server.http.post(path, json={"model": "verbatim-demo"} | body)
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error", "param", "code"} and word in response.json()["error"]


def test_json_as_curl_sends_it(server):
    """As Ollama's documents do; a form of a web page is not taken for it."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    body = json.dumps({"model": "verbatim-demo", "prompt": "Hello", "stream": False, "options": GREEDY})
    assert server.http.post("/api/generate", content=body, headers=form).json()["done"]
    from_page = form | {"origin": "https://example.org"}
    assert server.http.post("/api/generate", content=body, headers=from_page).status_code == 403
    assert server.http.post("/v1/completions", content=body, headers=form).status_code == 400


def test_what_has_no_effect_is_named(server):
    body = {"model": "verbatim-demo", "messages": [USER], "stream": False, "think": True, "options": GREEDY}
    answer = server.http.post("/api/chat", json=body | {"options": GREEDY | {"mirostat": 2, "banana": 1}})
    assert answer.status_code == 200
    assert set(answer.headers["x-verbatim-ignored"].split(", ")) == {"think", "options.mirostat", "options.banana"}
