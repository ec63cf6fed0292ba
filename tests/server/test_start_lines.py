"""What the server says when it starts, and what it does until the model has loaded."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from live_server import wait_until
from small_models import write_chat_model
from verbatim.demo import MODEL
from verbatim.server.models.start_lines import is_local, rows
from verbatim.server.settings.options import Options

PACKAGE = Path(__file__).parents[2] / "src" / "verbatim"


def pause_engine(server) -> int:
    """Stop the engine's process before it has loaded, and wait until HTTP is answered; the process id."""
    engine = wait_until(server.engine_pid)
    os.kill(engine, signal.SIGSTOP)

    def answers():
        try:
            return server.http.get("/health").status_code == 503
        except httpx.TransportError:
            return False

    wait_until(answers)
    return engine


def row(log: str, name: str) -> str:
    """The text of a line of the block."""
    (text,) = re.findall(rf"^  {name} +(.*)$", log, re.MULTILINE)
    return text


def test_a_request_waits_while_the_model_loads_and_the_block_says_where_it_is(start):
    server = start("reference")
    engine = pause_engine(server)
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(server.chat(max_tokens=2)))
    waiting.start()
    waiting.join(0.5)
    assert server.http.get("/ready").status_code == server.http.get("/health").status_code == 503
    assert waiting.is_alive() and "ready after" not in server.log
    os.kill(engine, signal.SIGCONT)
    waiting.join(100)
    assert answers[0].status_code == 200
    log = wait_until(lambda: "ready after" in server.log and server.log)
    assert row(log, "model").startswith("verbatim-demo") and row(log, "engine").startswith("reference on CPU")
    assert row(log, "context") == "2048 tokens; 4 answers at once"
    assert re.fullmatch(r"2048 tokens, [\d.]+ GiB of [\d.]+ GiB free", row(log, "cache"))
    assert row(log, "key") == "none asked for" and "warning" not in log
    assert row(log, "tool calls") == "hermes"
    for name, path in (("page", "/"), ("API", "/v1"), ("docs", "/docs")):
        assert row(log, name) == server.url + path
    assert httpx.get(row(log, "page")).status_code == httpx.get(row(log, "docs")).status_code == 200
    done = subprocess.run(row(log, "try"), shell=True, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"]


@pytest.fixture
def unbuilt(tmp_path):
    """A folder with the package as it is without the extensions."""
    package = tmp_path / "unbuilt" / "verbatim"
    package.mkdir(parents=True)
    for path in PACKAGE.iterdir():
        if path.name != "fastpath":
            (package / path.name).symlink_to(path.resolve())
    shutil.copytree(PACKAGE / "fastpath", package / "fastpath", ignore=shutil.ignore_patterns("*.so"))
    (package / "not_built.txt").write_text("the compiler is on holiday")
    return package.parent


def test_a_format_that_is_only_assumed_is_named_as_that(tmp_path):
    template = tmp_path / "plain.jinja"
    template.write_text("{{ messages[0].content }}<think>")
    sizes = {"max_num_sequence": 1, "max_total_seq_length": 64, "prefill_chunk_size": 16}
    options = Options(backend="reference", model=MODEL, device="cpu", chat_template=template, **sizes)
    found = dict(rows([options], "http://127.0.0.1:8000"))
    assert found["tool calls"].startswith("hermes is assumed: the chat template shows no known format (--tool-parser")
    assert found["thoughts"] == "think: they stand apart from the answer"
    chosen = dict(rows([replace(options, tool_parser="granite", reasoning_parser="none")], "http://127.0.0.1:8000"))
    assert chosen["tool calls"] == "granite" and "thoughts" not in chosen


FACTORS = [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5]
LONGROPE = {"rope_type": "longrope", "short_factor": FACTORS, "long_factor": FACTORS} | {
    "original_max_position_embeddings": 64
}


@pytest.mark.parametrize(
    ("scaling", "context", "words"),
    [
        (
            LONGROPE,
            None,
            "longrope, with the factors for long contexts: those for short ones need --context-window-size 64",
        ),
        (LONGROPE, 64, "longrope, with the factors for short contexts"),
        (
            {"rope_type": "dynamic", "factor": 2.0},
            None,
            "dynamic, not stretched: --context-window-size may be up to 512",
        ),
        ({"rope_type": "dynamic", "factor": 2.0}, 300, "dynamic, stretched for a context of 300 tokens"),
        (None, None, None),
    ],
)
def test_positions_that_depend_on_the_context_are_named(tmp_path, scaling, context, words):
    model = write_chat_model(tmp_path, rope_scaling=scaling, favourite_colour="green")
    sizes = {"max_num_sequence": 1, "max_total_seq_length": 512, "prefill_chunk_size": 16}
    options = Options(backend="reference", model=model, device="cpu", context_window_size=context, **sizes)
    found = dict(rows([options], "http://127.0.0.1:8000"))
    assert found.get("positions") == words
    assert found["unread"] == "of config.json, as nothing here knows them: favourite_colour"


def test_without_a_fast_path_the_reference_serves_and_says_so_once(unbuilt):
    """On any free port, at every address, with lines for programs; under load there is a line every so often."""
    words = ("--port", "0", "--host", "0.0.0.0", "--log-format", "json", "--stats-interval", "0.1")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VERBATIM_")}
    environment["PYTHONPATH"] = str(unbuilt)
    command = [sys.executable, "-m", "verbatim", "serve"]
    refused = subprocess.run([*command, "--backend", "fastpath"], env=environment, capture_output=True, text=True)
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1
    assert "not built: the compiler is on holiday" in refused.stderr and "--backend reference" in refused.stderr
    speculation = ("--speculative-mode", "small_draft")
    process = subprocess.Popen([*command, *words, *speculation], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        lines = map(json.loads, process.stdout)
        start = next(line for line in lines if "start" in line)
        fallback, address = start["warnings"]
        assert "the reference serves" in fallback and "the compiler is on holiday" in fallback
        assert "0.0.0.0" in address and "--api-key" in address
        body = {"model": "verbatim-demo", "prompt": "Hello", "max_tokens": 32, "ignore_eos": True}
        answer = httpx.post(start["start"]["API"] + "/completions", json=body, timeout=60)
        assert answer.json()["usage"]["completion_tokens"] == 32
        load = next(line for line in lines if "accepted" in line)
        assert load["running"] in (0, 1) and load["waiting"] == 0 and load["tokens_per_second"] > 0
        assert 0 <= load["cache"] <= 100 and 0 <= load["accepted"] <= 100 and load["drafted"] > 0
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", None)),
        *((host, False) for host in ("0.0.0.0", "::", "192.168.1.7", "model.example")),
    ],
)
def test_which_addresses_only_this_machine_reaches(host, expected):
    assert is_local(host) is expected
