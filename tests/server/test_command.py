"""The command line: `sanic server.app --backend fastpath`, what it accepts, and how it says no."""

import subprocess
import sys

import pytest
from live_server import COMMAND, wait_until


def run(*arguments) -> tuple[int, str]:
    """Exit code and last line of a command that should end by itself."""
    command = [COMMAND, "server.app", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, start_new_session=True)
    return done.returncode, (done.stdout + done.stderr).strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--backend", "banana"], ["--backend", "banana", "reference", "fastpath"]),
        (["--device", "tpu"], ["--device", "tpu", "cpu", "cuda"]),
        (["--quantization", "q3"], ["--quantization", "q3", "w8a8"]),
        (
            ["--tool-parser", "json"],
            ["--tool-parser", "json", "hermes", "llama3", "mistral", "pythonic", "functionary"],
        ),
        (["--backend", "reference", "--model", "/no/such/model"], ["/no/such/model"]),
        (["--backend", "reference", "--device", "cuda:3"], ["cuda"]),
    ],
)
def test_what_cannot_be_served_ends_at_once_with_one_line(arguments, words):
    code, line = run(*arguments)
    assert code in (1, 2)
    for word in words:
        assert word in line


def test_help_shows_our_options_among_sanics():
    done = subprocess.run([COMMAND, "help", "--full"], capture_output=True, text=True, timeout=60)
    for word in ("Verbatim", "--backend {reference,fastpath}", "--model DIR", "--device DEVICE", "--host", "--port"):
        assert word in done.stdout


def test_a_model_that_breaks_on_loading_ends_the_server(start, tmp_path):
    from demo import MODEL

    model = tmp_path / "broken"
    model.mkdir()
    for path in MODEL.iterdir():
        (model / path.name).write_bytes(path.read_bytes()[: 100 if path.suffix == ".safetensors" else None])
    server = start("reference", "--model", str(model))
    assert server.process.wait(60) != 0
    assert sum("verbatim: " in line for line in server.log.splitlines()) == 1


def test_options_reach_every_process(start, tmp_path):
    from demo import MODEL

    model = tmp_path / "other-name"
    model.symlink_to(MODEL)
    server = start("reference", "--model", str(model), "--device", "cpu", "--quantization", "w8a8", "--workers", "2")
    server.wait_ready()
    assert server.http.get("/v1/models").json()["data"][0]["id"] == "other-name"
    assert server.complete(model="other-name", max_tokens=2).status_code == 200
    wait_until(lambda: server.log.count("Worker ready") == 2)


def test_python_m_server_is_the_same(start):
    server = start("reference", command=(sys.executable, "-m", "server")).wait_ready()
    assert server.complete(max_tokens=2).status_code == 200
    assert server.stop() == 0
