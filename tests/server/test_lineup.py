"""Several models in one server: each answers by its own id as it would alone, and none ends another."""

import hashlib
import json
import os
import shutil
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from live_server import Reader, children, command_line, running, wait_until
from verbatim.demo import DRAFT, MODEL
from verbatim.reference.checkpoint.families import load_config
from verbatim.server.engine.memory import fit_all
from verbatim.server.errors import NotEnoughMemoryError
from verbatim.server.settings.options import Options

GIB = 1 << 30


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """The demo, its draft as a model of its own, and one for embeddings."""
    directory = tmp_path_factory.mktemp("several")
    words = shutil.copytree(MODEL, directory / "words")
    arguments = ("--additional-models", str(DRAFT), "--embedding-model", str(words))
    with running("fastpath", directory, *arguments) as server:
        yield server.wait_ready()


def answer_of(server, **body) -> dict:
    response = server.chat(temperature=1, seed=3, logprobs=True, **body)
    assert response.status_code == 200, response.text
    return {name: value for name, value in response.json().items() if name not in ("id", "created")}


def embedding_of(server, model: str):
    response = server.http.post("/v1/embeddings", json={"model": model, "input": "Hello there"})
    return response.json()["data"][0]["embedding"]


def test_each_answers_as_it_would_alone(several, start):
    listed = several.http.get("/v1/models").json()["data"]
    assert [model["id"] for model in listed] == ["verbatim-demo", "draft", "words"]
    assert [model["max_model_len"] for model in listed] == [2048, load_config(DRAFT).context_size, 2048]
    assert several.http.get("/v1/models/draft").json() == listed[1]
    alone = start("fastpath", "--model", str(DRAFT)).wait_ready()
    assert answer_of(several, model="draft") == answer_of(alone, model="draft")
    assert answer_of(several)["model"] == "verbatim-demo"
    assert answer_of(several)["choices"] != answer_of(several, model="draft")["choices"]
    ids = several.http.post("/tokenize", json={"model": "draft", "prompt": "Hello"}).json()
    assert ids["max_model_len"] == load_config(DRAFT).context_size
    assert embedding_of(several, "words") == embedding_of(several, "verbatim-demo") != embedding_of(several, "draft")


def test_a_model_for_embeddings_answers_nothing_else(several):
    response = several.chat(model="words")
    assert response.status_code == 400
    assert response.json()["error"]["message"] == "The model 'words' is here for /v1/embeddings alone"
    assert response.json()["error"]["param"] == "model"


@pytest.mark.parametrize("path", ["chat/completions", "completions", "embeddings", "responses"])
def test_unknown_ids_are_told_what_there_is(several, path):
    body = {"model": "other", "messages": [], "prompt": "", "input": ""}
    response = several.http.post(f"/v1/{path}", json=body)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (404, "model_not_found")
    assert error["message"] == ("The model 'other' does not exist; this server has 'verbatim-demo', 'draft', 'words'.")


def test_an_engine_that_dies_ends_its_own_streams_only(several):
    witness = {"max_tokens": 400, "seed": 5, "temperature": 1}
    alone = [without_id(event) for event in Reader(several, **witness).finish()]
    engines = [pid for pid in children(several.process.pid) if "verbatim.server.engine.process" in command_line(pid)]
    assert len(engines) == 3
    healthy = several.http.get("/health").json()
    assert set(healthy["engines"]) == {"verbatim-demo", "draft", "words"}
    beside, doomed = Reader(several, **witness), Reader(several, model="draft", max_tokens=900).wait_for(3)
    os.kill(engine_of(engines, str(DRAFT)), signal.SIGKILL)
    assert "error" in json.loads(doomed.finish()[-1])
    assert [without_id(event) for event in beside.finish()] == alone
    wait_until(lambda: several.http.get("/health").status_code == 200)
    assert several.chat(model="draft").status_code == 200


def engine_of(engines: list[int], directory: str) -> int:
    """The engine process that was told to load this directory."""
    variable = f"VERBATIM_MODEL={directory}".encode()
    [found] = [pid for pid in engines if variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")]
    return found


def without_id(event: str):
    if event == "[DONE]":
        return event
    return {name: value for name, value in json.loads(event).items() if name not in ("id", "created")}


def test_two_of_one_name_are_refused(start, tmp_path):
    other = shutil.copytree(DRAFT, tmp_path / "draft")
    server = start("reference", "--additional-models", f"{DRAFT},{other}")
    assert server.process.wait(60) != 0
    assert "verbatim: two models would be called 'draft'" in server.log


def test_a_draft_comes_before_other_models(start, tmp_path):
    other = shutil.copytree(MODEL, tmp_path / "other")
    arguments = (
        "--speculative-mode",
        "small_draft",
        "--additional-models",
        str(DRAFT),
        "--additional-models",
        str(other),
    )
    server = start("fastpath", *arguments).wait_ready()
    assert [model["id"] for model in server.http.get("/v1/models").json()["data"]] == ["verbatim-demo", "other"]
    server.chat(max_tokens=40)
    assert server.health()["drafted_tokens"] > 0


def test_caches_share_what_the_weights_leave():
    pair = [
        (Options(model=MODEL, mode="server"), load_config(MODEL)),
        (Options(model=DRAFT, mode="server"), load_config(DRAFT)),
    ]
    single, both = fit_all(pair[:1], 2 * GIB), fit_all(pair, 2 * GIB)
    assert both[0].max_total_seq_length < single[0].max_total_seq_length
    assert all(each.max_total_seq_length >= 2048 for each in both)
    with pytest.raises(NotEnoughMemoryError, match=r"for verbatim-demo: .*the other models \d.* beside their caches"):
        fit_all(pair, GIB // 4)


class Hub(BaseHTTPRequestHandler):
    """As much of the Hugging Face hub as one download needs, with the draft model as `someone/small`."""

    def log_message(self, *_):
        """Say nothing."""

    def do_HEAD(self):
        """What a file is, without its bytes."""
        self.do_GET(is_whole=False)

    def do_GET(self, is_whole=True):
        """The list of files, or one of them."""
        commit = "c" * 40
        files = {path.name: path.read_bytes() for path in sorted(DRAFT.iterdir())} | {"code.py": b"1"}
        if self.path.startswith("/api/models/someone/small/tree/"):
            tree = [{"type": "file", "path": name, "size": len(files[name]), "oid": "0" * 40} for name in files]
            return self.reply(json.dumps(tree).encode(), {}, is_whole)
        if self.path.startswith("/api/models/someone/small"):
            siblings = [{"rfilename": name} for name in files]
            about = {"id": "someone/small", "sha": commit, "siblings": siblings}
            return self.reply(json.dumps(about).encode(), {}, is_whole)
        name = self.path.rpartition("/")[2]
        if not self.path.startswith("/someone/small/resolve/") or name not in files:
            return self.send_error(404)
        content = files[name]
        self.server.fetched.add(name)
        tag = hashlib.sha256(content).hexdigest()
        return self.reply(content, {"ETag": f'"{tag}"', "X-Repo-Commit": commit}, is_whole)

    def reply(self, content, headers, is_whole):
        self.send_response(200)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if is_whole:
            self.wfile.write(content)


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.fetched = set()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_model_from_the_hub(start, hub, tmp_path):
    variables = {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "",
    }
    server = start("reference", "--model", "HF://someone/small", **variables).wait_ready()
    assert [model["id"] for model in server.http.get("/v1/models").json()["data"]] == ["someone/small"]
    assert server.http.get("/v1/models/someone%2Fsmall").status_code == 200
    assert server.chat(model="someone/small").status_code == 200
    assert {"model.safetensors", "config.json", "tokenizer.model"} <= hub.fetched
    assert "code.py" not in hub.fetched
    server.stop()
    again = start("reference", "--model", "HF://someone/small", **variables, HF_HUB_OFFLINE="1").wait_ready()
    assert again.chat(model="someone/small").status_code == 200


def test_what_the_hub_does_not_have(start, hub, tmp_path):
    variables = {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "",
    }
    server = start("reference", "--model", "HF://someone/else", **variables)
    assert server.process.wait(60) != 0
    assert "verbatim: HF://someone/else cannot be fetched" in server.log


def test_what_is_no_name_on_the_hub(start):
    server = start("reference", "--model", "HF://nobody")
    assert server.process.wait(60) != 0
    places = "a directory, a GGUF file, or HF://user/repo[:FORMAT][@revision]"
    assert f"invalid model: 'HF://nobody' (choose from {places})" in server.log
