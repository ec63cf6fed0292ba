"""`verbatim pull`, `list`, `show` and `rm`, against a small hub and caches of their own."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from gguf_models import STORIES, story_words, write_gguf
from hub_server import commit_of, hub
from mlc_models import write_mlc
from small_models import write_chat_model, write_model
from terminal import Terminal
from verbatim.cli.models.fit import fits
from verbatim.cli.models.names import read_repository
from verbatim.demo import MODEL
from verbatim.fastpath.model.model_lib import open_model_lib
from verbatim.reference.records.errors import ModelError


@pytest.fixture
def verbatim(tmp_path):
    """Run the command with a hub of three models and empty caches; gives code, stdout, stderr."""
    models = tmp_path / "models/acme"
    models.mkdir(parents=True)
    shutil.copytree(MODEL, models / "echo")
    write_model(models / "odd")
    config = json.loads((models / "odd/config.json").read_text())
    (models / "odd/config.json").write_text(json.dumps(config | {"architectures": ["MambaForCausalLM"]}))
    (models / "gguf").mkdir()
    (models / "gguf/model-Q4_K_M.gguf").write_bytes(b"GGUF")
    with hub(tmp_path / "models") as (url, handler):
        names = ("PATH", "PYTHONPATH", "HOME")
        kept = {name: os.environ[name] for name in names if name in os.environ}
        own = {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "hf"), "XDG_CACHE_HOME": str(tmp_path / "cache")}

        def run(*words, **variables):
            command = [sys.executable, "-m", "verbatim", *map(str, words)]
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
                env=kept | own | variables,
            )  # fmt: skip
            return done.returncode, done.stdout, done.stderr

        run.handler, run.environment = handler, kept | own
        yield run


def packed(tmp_path, name):
    """A file of packed weights as the fast path would name it."""
    path = tmp_path / f"cache/verbatim/models/{name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(3000))
    return path


def test_a_model_is_fetched_listed_shown_and_removed(verbatim, tmp_path, monkeypatch):
    code, out, err = verbatim("pull", "hf.co/acme/echo", HF_TOKEN="hf_secret")
    assert code == 0, err
    assert re.search(r"acme/echo: [\d.]+ MiB in 6 files", out)
    assert "serve it: verbatim serve --model HF://acme/echo\n" in out
    assert "Fetching" in err
    assert "Bearer hf_secret" in verbatim.handler.tokens
    snapshot = tmp_path / f"hf/hub/models--acme--echo/snapshots/{commit_of('acme/echo')}"
    assert f"in {snapshot}\n" in out
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("verbatim.fastpath.model.model_lib.LEAST_BYTES", 0)
    of_echo = packed(tmp_path, open_model_lib(snapshot, "w8a8").path.name)
    other = packed(tmp_path, "other-float-0123456789abcdef.safetensors")

    code, out, _ = verbatim("list")
    assert code == 0
    assert re.search(r"(?m)^demo +[\d.]+ MiB +embedded$", "\n".join(map(str.rstrip, out.splitlines())))
    assert re.search(r"acme/echo +[\d.]+ MiB +main", out)
    assert re.search(rf"{of_echo.name} +2\.9 KiB +acme/echo", out)
    assert re.search(rf"{other.name} +2\.9 KiB +other", out)

    code, out, _ = verbatim("show", "acme/echo", HF_HUB_OFFLINE="1")
    assert code == 0
    for row in ("architecture +LlamaForCausalLM", "context +2048 tokens", "tool calls +in the format hermes",
                r"weights, w8a8 +[\d.]+ MiB", r"cache, bfloat16 +[\d.]+ KiB", "fingerprint +verbatim-"):  # fmt: skip
        assert re.search(row, out), row

    code, _, err = verbatim("rm", "acme/echo")
    assert (code, snapshot.exists()) == (2, True)
    assert "--yes removes without a question" in err
    terminal = Terminal("rm", "HF://acme/echo", **verbatim.environment)
    terminal.wait(r"remove\? \[y/N\]$")
    terminal.process.send("n\r")
    terminal.wait("nothing is removed")
    code, out, _ = verbatim("rm", "acme/echo", "--yes")
    assert code == 0
    assert re.search(r"[\d.]+ MiB freed", out)
    assert (snapshot.exists(), of_echo.exists(), other.exists()) == (False, False, True)
    assert verbatim("rm", "-y", other.name)[0] == 0
    assert not other.exists()


def test_a_file_of_a_repository_of_gguf_files(verbatim, tmp_path):
    write_gguf(tmp_path / "models/acme/gguf/story-Q8_0.gguf", STORIES, "Q8_0", vocabulary=story_words)
    code, out, err = verbatim("pull", "acme/gguf:q8_0")
    assert code == 0, err
    assert re.search(r"acme/gguf: [\d.]+ KiB in 1 file\n", out)
    assert "serve it: verbatim serve --model HF://acme/gguf:q8_0\n" in out
    assert not any("Q4_K_M" in path for path in verbatim.handler.paths)
    code, out, _ = verbatim("show", "acme/gguf:q8_0", HF_HUB_OFFLINE="1")
    assert code == 0
    for row in (
        r"file +/.*/story-Q8_0\.gguf",
        "stored as +Q8_0, float32",
        "context +512 tokens",
        "fingerprint +verbatim-",
    ):
        assert re.search(row, out), row
    code, _, err = verbatim("pull", "acme/gguf:Q5_K_M")
    assert (code, "no file is in that format; the repository has model-Q4_K_M.gguf, story-Q8_0.gguf" in err) == (
        1,
        True,
    )
    code, _, err = verbatim("pull", "acme/gguf:Q4_K_M")
    assert code == 1
    assert "model-Q4_K_M.gguf is truncated or damaged" in err


def test_an_artifact_of_mlc(verbatim, tmp_path):
    write_mlc(tmp_path / "models/acme/echo-q4f16_1-MLC", MODEL, "llama", "q4f16_1")
    code, out, err = verbatim("pull", "acme/echo-q4f16_1-MLC")
    assert code == 0, err
    assert "serve it: verbatim serve --model HF://acme/echo-q4f16_1-MLC\n" in out
    code, out, _ = verbatim("show", "acme/echo-q4f16_1-MLC", HF_HUB_OFFLINE="1")
    assert (code, bool(re.search("stored as +MLC q4f16_1", out))) == (0, True)


def test_weights_that_cannot_be_served_are_not_fetched(verbatim, tmp_path):
    code, out, err = verbatim("pull", "acme/odd")
    assert (code, out) == (1, "")
    assert "acme/odd cannot be served, its weights are not fetched" in err
    assert "'MambaForCausalLM' is not supported; supported: " in err and "GemmaForCausalLM, " in err
    assert not any("safetensors" in path for path in verbatim.handler.paths)
    code, _, err = verbatim("pull", "acme/gguf")
    assert (code, "of a repository of GGUF files name one: acme/gguf:Q4_K_M" in err) == (1, True)
    code, _, err = verbatim("serve", "--model", "HF://acme/gguf")
    assert code != 0 and "HF://acme/gguf has no safetensors; of a repository of GGUF files name one" in err
    assert "acme/odd" not in verbatim("list")[1]
    assert re.search(r"acme/odd .*cannot be served: config.json: architecture", verbatim("list", "--all")[1])
    code, _, err = verbatim("pull", "--anyway", "acme/odd")
    assert (code, "cannot be served" in err) == (1, True)
    assert any("safetensors" in path for path in verbatim.handler.paths)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pull", "acme/nothing"], "Repository Not Found"),
        (["pull", "echo"], "'echo' is no model of the hub: write user/repo"),
        (["pull", "acme/echo@main", "--revision", "v2"], "names the revision main, --revision v2"),
        (["show", "acme/none"], "acme/none is not in the hub's cache: verbatim pull acme/none fetches it"),
        (["show", "echo"], "echo is no directory, and no embedded model"),
        (["rm", "acme/none"], "acme/none is not in the hub's cache"),
        (
            ["rm", "acme/none:Q8_0"],
            "acme/none:Q8_0 is a file of a repository; rm removes all of it: verbatim rm acme/none",
        ),
        (["rm", "verbatim-demo"], "verbatim-demo is a part of verbatim"),
    ],
)
def test_a_mistake_is_a_single_line(verbatim, words, message):
    code, out, err = verbatim(*words)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert message in err


def test_a_directory_is_shown_and_never_removed(verbatim, tmp_path):
    write_chat_model(tmp_path / "own")
    code, out, _ = verbatim("show", tmp_path / "own")
    assert code == 0
    assert re.search(r"chat template +yes", out)
    code, _, err = verbatim("rm", "--yes", tmp_path / "own")
    assert (code, (tmp_path / "own/config.json").exists()) == (1, True)
    assert "is a directory of yours" in err


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("a/b", "HF://a/b"),
        ("HF://a/b@v1", "HF://a/b@v1"),
        ("hf.co/a/b.c-d", "HF://a/b.c-d"),
        ("https://huggingface.co/a/b/", "HF://a/b"),
        ("hf.co/a/b:Q4_K_M", "HF://a/b:Q4_K_M"),
        ("https://huggingface.co/a/b/tree/feature/x", "HF://a/b@feature/x"),
    ],
)
def test_a_repository_has_many_spellings(text, url):
    assert read_repository(text).url == url
    assert read_repository(text.partition("@")[0].partition("/tree")[0], "v2").url.endswith("@v2")
    for bad in ("", "a", "a/b/c", "a/b c", "../b", "https://example.com/a/b"):
        with pytest.raises(ModelError, match="is no model of the hub"):
            read_repository(bad)


def test_the_doctor_says_whether_a_model_fits(verbatim, tmp_path):
    found = dict(fits(MODEL, free=1 << 30))
    assert found["chat"] == "yes; tool calls as hermes" and found["on a GPU"].startswith("yes")
    assert found["fits, as stored"].startswith("yes: 6.7 MiB of weights, 4 answers at once, 2048 tokens in the cache")
    assert found["fits, w4a8"].startswith("yes: 2.1 MiB of weights")
    little = dict(fits(MODEL, free=1 << 20))
    assert little["fits, as stored"].startswith("no: the memory does not suffice")
    code, told, wrong = verbatim("doctor", "--model", "demo")
    assert (code, wrong) == (0, "") and "LlamaForCausalLM" in told
    code, told, wrong = verbatim("doctor", "--model", tmp_path / "models/acme/odd")
    assert (code, wrong) == (1, "") and "cannot be served" in told and "MambaForCausalLM" in told
