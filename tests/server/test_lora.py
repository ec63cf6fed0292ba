"""LoRA adapters of a server: names for clients, loaded at the start or later, in every API, with two workers."""

import json
import os
import signal

import pytest

from live_router import routed
from live_server import chat_body, running, wait_until
from lora_adapters import ATTENTION, shapes_in, write_adapter
from verbatim.demo import MODEL

PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    """Directories of adapters of the demo model."""
    place = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(("sql", "poems", "later")):
        write_adapter(place / name, shapes_in(MODEL), rank=4, seed=seed, scale=0.2, modules=ATTENTION)
    return place


@pytest.fixture(scope="module")
def lora(adapters, tmp_path_factory):
    """A server of the demo model with two workers and two adapters."""
    arguments = ("--lora", f"sql={adapters / 'sql'}", "--lora", f"poems={adapters / 'poems'}", "--enable-debug",
                 "--workers", "2", "--unknown-fields", "refuse")  # fmt: skip
    with running("fastpath", tmp_path_factory.mktemp("lora"), *arguments) as server:
        yield server.wait_ready()


def complete(server, model, **fields):
    body = {"model": model, "prompt": PROMPT, "temperature": 0, "max_tokens": 12, "ignore_eos": True, "logprobs": 1}
    response = server.http.post("/v1/completions", json=body | fields)
    assert response.status_code == 200, response.text
    return response.json()


def words_of(answer):
    return answer["choices"][0]["text"], answer["choices"][0]["logprobs"]["token_logprobs"]


def load(server, name, path, **fields):
    return server.http.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": str(path)} | fields)


def unload(server, name):
    return server.http.post("/v1/unload_lora_adapter", json={"lora_name": name})


def test_an_adapter_answers_to_its_name_and_to_that_behind_its_models(lora):
    base, sql, poems = (complete(lora, name) for name in ("verbatim-demo", "sql", "poems"))
    assert len({json.dumps(words_of(answer)) for answer in (base, sql, poems)}) == 3
    assert words_of(complete(lora, "verbatim-demo:sql")) == words_of(sql)
    assert words_of(complete(lora, "verbatim-demo")) == words_of(base)
    assert [answer["model"] for answer in (base, sql, poems)] == ["verbatim-demo", "sql", "poems"]
    fingerprints = [answer["system_fingerprint"] for answer in (base, sql, poems)]
    assert len(set(fingerprints)) == 3 and fingerprints[1].startswith(f"{fingerprints[0]}-lora-")
    assert lora.http.get("/ready").json()["models"] == {
        name: answer["system_fingerprint"]
        for answer, names in ((base, ["verbatim-demo"]), (sql, ["sql", "verbatim-demo:sql"]),
                              (poems, ["poems", "verbatim-demo:poems"]))
        for name in names
    }  # fmt: skip


def test_every_api_has_them(lora):
    """One way from a name to an adapter: the first words of the same conversation are the same in each API."""
    question = [{"role": "user", "content": "Hello"}]
    body = {"model": "sql", "temperature": 0}
    chat = lora.chat(model="sql", ignore_eos=None, max_tokens=16).json()["choices"][0]["message"]["content"]
    assert chat != lora.chat(ignore_eos=None, max_tokens=16).json()["choices"][0]["message"]["content"]
    message = lora.http.post("/v1/messages", json=body | {"messages": question, "max_tokens": 16}).json()
    response = lora.http.post("/v1/responses", json=body | {"input": "Hello", "max_output_tokens": 16}).json()
    options = {"temperature": 0, "num_predict": 16}
    ollama = {"model": "sql:latest", "messages": question, "stream": False, "options": options}
    told = lora.http.post("/api/chat", json=ollama).json()
    assert message["content"][0]["text"] == chat and message["model"] == "sql"
    assert response["output"][0]["content"][0]["text"] == chat and response["model"] == "sql"
    assert told["message"]["content"] == chat and told["model"] == "sql:latest"
    with lora.http.stream("POST", "/v1/chat/completions", json=chat_body(model="sql", stream=True)) as stream:
        assert '"model":"sql"' in stream.read().decode()
    vectors = [
        lora.http.post("/v1/embeddings", json={"model": name, "input": "Hi"}).json() for name in ("sql", "poems")
    ]
    assert vectors[0]["data"][0]["embedding"] != vectors[1]["data"][0]["embedding"]


def test_lists_name_them_and_their_models(lora, adapters):
    listed = {entry["id"]: entry for entry in lora.http.get("/v1/models").json()["data"]}
    assert list(listed) == ["verbatim-demo", "sql", "poems"]
    assert (listed["sql"]["parent"], listed["sql"]["root"]) == ("verbatim-demo", str(adapters / "sql"))
    assert "parent" not in listed["verbatim-demo"]
    assert lora.http.get("/v1/models/sql").json() == listed["sql"]
    assert lora.http.get("/v1/models/verbatim-demo:sql").json()["parent"] == "verbatim-demo"
    tags = {entry["name"]: entry for entry in lora.http.get("/api/tags").json()["models"]}
    assert tags["poems:latest"]["details"]["parent_model"] == "verbatim-demo"


@pytest.mark.parametrize("name", ["nosql", "verbatim-demo:nosql", "sql:verbatim-demo", "verbatim-demo:sql:sql"])
def test_an_unknown_adapter_is_named_with_those_that_are_there(lora, name):
    response = lora.http.post("/v1/completions", json={"model": name, "prompt": "x"})
    assert response.status_code == 404
    message = response.json()["error"]["message"]
    assert repr(name) in message and "'verbatim-demo', 'sql', 'poems'" in message


def test_pages_of_adapters_never_mix(lora):
    prompt = "A long beginning that many requests have in common, so that it is kept. " * 3
    fresh = [complete(lora, name, prompt=prompt) for name in ("verbatim-demo", "sql", "poems")]
    cached = [answer["usage"]["prompt_tokens_details"]["cached_tokens"] for answer in fresh]
    assert cached == [0, 0, 0]
    again = [complete(lora, name, prompt=prompt) for name in ("verbatim-demo", "sql", "poems")]
    assert all(answer["usage"]["prompt_tokens_details"]["cached_tokens"] > 16 for answer in again)
    assert [words_of(answer) for answer in again] == [words_of(answer) for answer in fresh]


def test_loading_and_unloading(lora, adapters):
    """Whichever of the two workers answers: the engine knows, and it tells both."""
    loaded = load(lora, "later", adapters / "later")
    assert loaded.status_code == 200, loaded.text
    assert (loaded.json()["id"], loaded.json()["parent"]) == ("later", "verbatim-demo")
    answers = [words_of(complete(lora, name)) for name in ("later", "verbatim-demo:later") * 4]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0] != words_of(complete(lora, "sql"))
    again = load(lora, "later", adapters / "later")
    assert again.status_code == 400 and "'later' is the name of" in again.json()["error"]["message"]
    assert load(lora, "twin", adapters / "sql").status_code == 200
    assert words_of(complete(lora, "twin")) == words_of(complete(lora, "sql"))
    assert unload(lora, "twin").json() == {"id": "twin", "object": "model", "deleted": True}
    assert words_of(complete(lora, "sql")), "the files were the same, and stay"
    assert unload(lora, "later").status_code == 200
    gone = unload(lora, "later")
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "model_not_found")
    for _ in range(4):
        assert lora.http.post("/v1/completions", json={"model": "later", "prompt": "x"}).status_code == 404
        assert len(lora.http.get("/v1/models").json()["data"]) == 3


def test_an_adapter_that_is_unloaded_answers_to_the_end(lora, adapters):
    assert load(lora, "later", adapters / "later").status_code == 200
    body = chat_body(model="later", stream=True, max_tokens=400)
    with lora.http.stream("POST", "/v1/chat/completions", json=body) as stream:
        lines = stream.iter_lines()
        next(lines)
        assert unload(lora, "later").status_code == 200
        assert list(lines)[-2:] == ["data: [DONE]", ""]
    assert lora.http.post("/v1/completions", json={"model": "later", "prompt": "x"}).status_code == 404


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"lora_name": "a:b"}, "lora_name must have no colon"),
        ({"lora_name": ""}, "lora_name must be"),
        ({"lora_name": "verbatim-demo"}, "is the name of a model"),
        ({"lora_name": "x", "lora_path": "/nowhere"}, "LoRA adapter /nowhere does not exist"),
        ({"lora_name": "x", "lora_path": "HF://x"}, "HF://user/repo"),
        ({"lora_name": "x", "lora_path": str(MODEL)}, "has no adapter_config.json"),
        ({"lora_name": "x", "banana": 1}, "banana"),
        ({}, "lora_name"),
    ],
)
def test_what_cannot_be_loaded_is_named(lora, adapters, body, message):
    response = lora.http.post("/v1/load_lora_adapter", json={"lora_path": str(adapters / "later")} | body)
    assert response.status_code == 400 and message in response.json()["error"]["message"]
    assert "\n" not in response.json()["error"]["message"]


def test_an_engine_that_is_restarted_has_those_that_it_had(lora, adapters):
    before = words_of(complete(lora, "sql"))
    assert load(lora, "later", adapters / "later").status_code == 200
    later = words_of(complete(lora, "later"))
    pid = lora.engine_pid()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: lora.engine_pid() not in (None, pid) and lora.is_ready())
    assert words_of(complete(lora, "sql")) == before
    assert words_of(complete(lora, "later")) == later
    assert unload(lora, "later").status_code == 200


def test_a_router_finds_the_server_that_has_the_adapter(adapters, tmp_path):
    with routed(tmp_path, (), ("--lora", f"sql={adapters / 'sql'}")) as router:
        assert {entry["id"] for entry in router.http.get("/v1/models").json()["data"]} == {"verbatim-demo", "sql"}
        for name in ("sql", "verbatim-demo:sql") * 2:
            assert complete(router, name)["system_fingerprint"].partition("-lora-")[2]
        assert "-lora-" not in complete(router, "verbatim-demo")["system_fingerprint"]


def test_without_the_debug_key_nobody_loads(server):
    assert load(server, "x", "/nowhere").status_code == 404
    assert unload(server, "x").status_code == 404


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["sql"], "argument --lora: invalid adapter: 'sql' (write NAME=DIR or NAME=HF://user/repo)"),
        (["a:b=x"], "argument --lora: invalid adapter: the name must have no colon"),
        (["x=/nowhere"], "verbatim: LoRA adapter /nowhere does not exist"),
        (["verbatim-demo={sql}"], "verbatim: two models would be called 'verbatim-demo'"),
        (["x={sql}", "--model", "stories260k"], "has shape"),
    ],
)
def test_a_server_does_not_start_with_a_bad_adapter(start, adapters, values, message):
    words = [value.replace("{sql}", str(adapters / "sql")) for value in values]
    server = start("fastpath", "--lora", *words)
    assert server.process.wait(60) != 0
    assert message in server.log and "Traceback" not in server.log
