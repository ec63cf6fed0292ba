"""The command `verbatim`: what it says of itself and of mistakes, quickly, and in folders that are not ours."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from live_server import Server
from verbatim.cli.main import COMMANDS
from verbatim.server.settings.serving import name_model

ROOT = Path(__file__).parents[2]
VERBATIM = (sys.executable, "-m", "verbatim")
HOSTILE = "print('hostile'); raise SystemExit('hostile')"


def verbatim(*words, cwd=None):
    return subprocess.run([*VERBATIM, *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def hostile_folder(tmp_path_factory):
    """A folder whose files have the names of what we import, and stop the importer."""
    folder = tmp_path_factory.mktemp("hostile")
    for name in ("server", "sanic", "cyclopts", "numpy"):
        (folder / f"{name}.py").write_text(HOSTILE)
    for name in ("demo", "reference", "fastpath", "router", "conformance", "benchmarks", "src"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(HOSTILE)
    return folder


def test_the_help_names_every_command_and_imports_little():
    code = "import sys; from verbatim.cli.main import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    text, _, modules = done.stdout.rstrip().rpartition("\n")
    assert [name for name in COMMANDS if re.search(rf"^\W*{name} ", text, re.MULTILINE)] == [*COMMANDS]
    assert not {"numpy", "sanic", "tokenizers", "verbatim.server.settings.options"} & {*modules.split()}


def test_the_version_names_revision_and_cpu_level(hostile_folder):
    done = verbatim("--version", cwd=hostile_folder)
    assert done.stderr == ""
    assert re.fullmatch(r"verbatim [\d.]+(dev\d+)? \(revision (\w{12}|unknown), CPU level [\w: ]+\)\n", done.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_suggests_the_option_that_was_meant(command):
    if command == "bench" and not (ROOT / "benchmarks").exists():
        pytest.skip("benchmarks/ is in a checkout only")
    done = verbatim(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    options = re.findall(r"--[a-z][\w-]+[a-z]\b", done.stdout)
    if not options or command == "bench":
        return
    meant = next(option for option in options if len(option) > 5)
    misspelt = meant[:-2] + meant[-1] + meant[-2]
    done = verbatim(command, misspelt, "x", "x")
    assert done.returncode == 2
    assert done.stderr.endswith(f": {misspelt}: did you mean {meant}?\n") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["demo", "--port", "1"], ["--model", "demo", "--port", "1"]),
        (["--port", "1"], ["--port", "1"]),
        (["stop"], ["stop"]),
        ([], []),
    ],
)
def test_the_first_word_of_serve_may_be_the_model(words, expected):
    assert name_model(words) == expected


def test_a_model_that_is_named_twice():
    done = verbatim("serve", "demo", "--model=stories260k")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "verbatim serve: the model is named twice: 'demo', and by --model\n"


def test_the_help_of_serve_begins_with_our_options():
    text = verbatim("serve", "--help").stdout
    places = [
        text.index(word) for word in ("--backend", "--max-num-sequence", "--enable-tracing", "--host", "--workers")
    ]
    assert places == sorted(places)
    assert "--auto-tls" not in text
    assert "--auto-tls" in verbatim("serve", "--help-all").stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["serve", "--port", "99999"], 2, "99999"),
        (["serve", "--modle", "x"], 2, "--modle: did you mean --model?"),
        (["serve", "--model", "no/such/model"], 1, "no/such/model does not exist"),
        (["run", "--model", "no/such/model", "hi"], 1, "no/such/model does not exist"),
        (
            ["run", "--model", "meta-nobody/Llama-9", "hi"],
            2,
            "on the Hugging Face hub that is HF://meta-nobody/Llama-9",
        ),
        (["run", "--speculative-mode", "eagle", "--draft-model", "HF://no name", "hi"], 2, "HF://user/repo"),
        (["run", "--modle", "x", "hi"], 2, "--modle: did you mean --model?"),
        (["run", "--model", "HF://no name", "hi"], 2, "HF://user/repo"),
        (["run", "--kv-cache-dtype", "fp8", "hi"], 2, "--kv-cache-dtype: invalid choice: 'fp8'"),
        (["run", "--spec-draft-length", "17", "hi"], 2, "--spec-draft-length: invalid number: '17'"),
        (["run"], 2, "give a prompt"),
        (["diff"], 2, "either --ids or --prompt"),
        (["logits", "--out", "x"], 2, "--ids"),
        (["router", "--router-prot", "1"], 2, "--router-prot: did you mean --router-port?"),
        (["explian"], 2, "explian: did you mean explain?"),
    ],
)
def test_a_mistake_is_one_line(words, code, message):
    done = verbatim(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_a_port_that_is_in_use_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = verbatim("serve", "--backend", "reference", "--port", taken.getsockname()[1])
    assert done.returncode == 2
    assert "in use" in done.stderr and done.stderr.count("\n") == 1


def test_older_names_of_options_are_read():
    words = ["run", "--backend", "reference", "--greedy", "--max-tokens", "3", "hi"]
    new = verbatim(*words, "--speculative-mode", "small_draft", "--spec-draft-length", "2", "--spec-tree-width", "2")
    old = verbatim(*words, "--speculative-mode", "small_draft", "--draft-length=2", "--tree-width", "2")
    assert (new.returncode, new.stdout) == (0, old.stdout)


def test_a_prompt_of_one_hyphen_is_read_from_standard_input():
    command = [*VERBATIM, "run", "--backend", "reference", "--raw", "--greedy", "--max-tokens", "1", "-"]
    done = subprocess.run(command, input="typed", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("typed")


def test_the_doctor_says_whether_the_fast_path_can_serve():
    from live_server import is_built

    done = verbatim("doctor")
    assert done.stderr == ""
    assert (done.returncode == 0) == (is_built("fastpath") is None)
    subjects = [line.split("  ")[0] for line in done.stdout.splitlines()]
    assert {"Python", "C compiler", "CPU levels", "threads", "memory", "GPU", "pycuda", "fast path"} <= {*subjects}


def test_benchmarks_are_listed_by_name_and_run():
    if not (ROOT / "benchmarks").exists():
        pytest.skip("benchmarks/ is in a checkout only")
    assert {"cpu", "http", "overhead"} <= {line.split()[0] for line in verbatim("bench").stdout.splitlines() if line}
    done = verbatim("bench", "overhead", "--help")
    assert done.returncode == 0 and "benchmarks.overhead" in done.stdout
    assert verbatim("bench", "overhed").stderr == "verbatim bench: overhed: did you mean overhead?\n"


def test_hostile_files_change_no_answer(hostile_folder, tmp_path):
    words = ["run", "--backend", "reference", "--greedy", "--max-tokens", "4", "hi"]
    assert verbatim(*words, cwd=hostile_folder).stdout == verbatim(*words).stdout != ""
    assert verbatim("conform", "--list", "--id", "models.*", cwd=hostile_folder).returncode == 0
    server = Server("reference", tmp_path / "log", command=(*VERBATIM, "serve"), cwd=hostile_folder)
    try:
        assert server.wait_ready().chat(max_tokens=2).status_code == 200
        assert "hostile" not in server.log and "Traceback" not in server.log
    finally:
        server.close()
