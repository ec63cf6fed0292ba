"""An ordinary `pip install` in a fresh environment, with a C compiler and without one; slow, for `make test-all`."""

import os
import subprocess
import venv
from pathlib import Path

import pytest

from live_server import Server

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def only_what_is_installed(monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)


def install(directory, **environment):
    """A new environment with the project in it, built from a copy so that this checkout stays as it is."""
    source = directory / "source"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True)
    venv.create(directory / "venv", with_pip=True)
    python = directory / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", source], check=True, env=os.environ | environment)
    return python.parent


def answer(bin_directory, backend, tmp_path):
    server = Server(backend, tmp_path / "log", command=(str(bin_directory / "sanic"), "server.app"))
    try:
        return server.wait_ready().chat(max_tokens=4).json()["choices"][0]["message"]["content"]
    finally:
        server.close()


def test_with_a_compiler_both_backends_answer_alike(tmp_path):
    bin_directory = install(tmp_path)
    assert answer(bin_directory, "fastpath", tmp_path) == answer(bin_directory, "reference", tmp_path)


def test_without_a_compiler_the_reference_serves_and_the_fast_path_says_what_is_missing(tmp_path):
    bin_directory = install(tmp_path, CC="/bin/false")
    assert answer(bin_directory, "reference", tmp_path)
    command = [bin_directory / "sanic", "server.app", "--backend", "fastpath"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 1
    assert "the fast path is not built: run `pip install -e .` with a C compiler" in done.stderr
