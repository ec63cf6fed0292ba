"""The command line: `sanic server.app --backend fastpath`, what it accepts, and how it says no."""

import subprocess
import sys
from pathlib import Path

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
        (["--device", "metal:0"], ["--device", "metal", "no kernels", "cpu runs everywhere", "cuda"]),
        (["--device", "tpu"], ["--device", "tpu", "cpu", "cuda"]),
        (["--quantization", "q3"], ["--quantization", "q3", "w8a8"]),
        (["--kv-cache-dtype", "fp8"], ["--kv-cache-dtype", "fp8", "float32", "float16", "bfloat16"]),
        (
            ["--tool-parser", "json"],
            ["--tool-parser", "json", "hermes", "llama3", "mistral", "pythonic", "functionary"],
        ),
        (["--backend", "reference", "--model", "/no/such/model"], ["/no/such/model"]),
        (["--model", "meta-nobody/Llama-9"], ["no directory 'meta-nobody/Llama-9'", "HF://meta-nobody/Llama-9"]),
        (["--load-wait=-1"], ["--load-wait", "-1", "seconds from 0 on"]),
        (["--backend", "reference", "--device", "cuda:3"], ["cuda"]),
        (["--numerics", "native"], ["--numerics native", "fastpath", "exact"]),
        (["--numerics", "fast"], ["--numerics", "fast", "exact", "native"]),
        (["--speculative-mode", "eagles"], ["--speculative-mode", "eagles", "ngram", "small_draft", "medusa", "eagle"]),
        (["--spec-tree-width", "0"], ["--spec-tree-width", "0", "1 to 8"]),
        (["--spec-draft-length", "17"], ["--spec-draft-length", "17", "0 to 16"]),
        (["--mode", "fast"], ["--mode", "fast", "local", "interactive", "server"]),
        (["--max-num-sequence", "0"], ["--max-num-sequence", "0", "1 to 4096"]),
        (["--max-total-seq-length", "many"], ["--max-total-seq-length", "many", "whole numbers from 1 on"]),
        (["--max-queue=-1"], ["--max-queue", "-1", "1 to"]),
        (["--request-timeout", "0"], ["--request-timeout", "0", "seconds above 0"]),
        (["--served-model-name", ""], ["--served-model-name"]),
        (["--max-total-seq-length", "100000000000"], ["memory", "weights", "cache", "scratch", "lower"]),
        (["--max-num-sequence", "9", "--prefill-chunk-size", "8"], ["--prefill-chunk-size", "(9)", "not 8"]),
        (["--context-window-size", "4096"], ["context_window_size", "2048", "4096"]),
        (["--allow-origins", "*", "--allow-credentials"], ["--allow-credentials", "--allow-origins by name"]),
        (["--overrides", "max_num_sequence"], ["--overrides", "max_num_sequence", "NAME=VALUE"]),
        (["--overrides", "max_num_sequence=0"], ["--overrides", "max_num_sequence", "'0'", "1 to 4096"]),
        (["--overrides", "tensor_parallel_shards=2"], ["tensor_parallel_shards must be 1, not 2", "one device"]),
        (["--overrides", "max_history_size=x"], ["--overrides", "max_history_size", "'x'", "0 to 16"]),
        (["--overrides", "max_single_sequence_length=9;context_window_size=8"], ["contradicts", "context_window_size"]),
        (["--overrides", "prefix_cache_max_num_recycling_seqs=-2"], ["recycling_seqs", "'-2'", "-1 to"]),
        (["--overrides", "banana=1"], ["--overrides", "'banana'", "max_num_sequence", "spec_tree_width"]),
        (["--overrides", "gpu_memory_utilization=2"], ["--overrides", "gpu_memory_utilization", "at most 1"]),
        (["--chat-template", "/no/such/template"], ["/no/such/template"]),
        (["--backend", "reference", "--threads", "2"], ["--backend reference has no --threads"]),
        (["--threads", "0"], ["--threads", "'0'", "1 to 256"]),
        (["--config", "/no/such/config"], ["--config", "/no/such/config"]),
    ],
)
def test_what_cannot_be_served_ends_at_once_with_one_line(arguments, words):
    code, line = run(*arguments)
    assert code in (1, 2)
    for word in words:
        assert word in line


def test_help_shows_our_options_among_sanics():
    done = subprocess.run([COMMAND, "server.app", "--help"], capture_output=True, text=True, timeout=60)
    for word in (
        "Verbatim: Model",
        "Verbatim: Engine",
        "Verbatim: Operation",
        "--backend {reference,fastpath}",
        "--model DIR",
        "--device DEVICE",
        "--kv-cache-dtype {float32,float16,bfloat16}",
        "--host",
        "--port",
    ):
        assert word in done.stdout


def test_a_model_that_breaks_on_loading_ends_the_server(start, tmp_path):
    from verbatim.demo import MODEL

    model = tmp_path / "broken"
    model.mkdir()
    for path in MODEL.iterdir():
        (model / path.name).write_bytes(path.read_bytes()[: 100 if path.suffix == ".safetensors" else None])
    server = start("reference", "--model", str(model))
    assert server.process.wait(60) != 0
    assert sum("verbatim: " in line for line in server.log.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--speculative-mode", "eagle", "--additional-models", "/no/such/head"], ["/no/such/head", "does not exist"]),
        (["--speculative-mode", "eagle", "--spec-tree-width", "2"], ["spec_tree_width must be 1", "eagle", "not 2"]),
    ],
)
def test_speculation_that_cannot_be_ends_the_server(start, arguments, words):
    server = start("reference", *arguments)
    assert server.process.wait(60) != 0
    (line,) = [line for line in server.log.splitlines() if "verbatim: " in line]
    assert all(word in line for word in words)


def test_packed_weights_are_kept_where_the_option_says(start, tmp_path):
    file, answers = tmp_path / "packed", []
    for _ in range(2):
        server = start("fastpath", "--model-lib", str(file), "--quantization", "w8a8").wait_ready()
        answers.append(server.chat(temperature=0).json()["choices"][0]["message"]["content"])
        made = file.stat().st_mtime_ns
        server.process.terminate()
        assert server.process.wait(60) == 0
    assert answers[0] == answers[1] and file.stat().st_mtime_ns == made
    server = start("fastpath", "--model-lib", str(file))
    assert server.process.wait(60) != 0
    assert "does not hold these weights in this format" in server.log
    server = start("reference", "--model-lib", str(file))
    assert server.process.wait(60) != 0
    assert "has no --model-lib" in server.log


def test_an_engine_is_told_how_to_compute(start):
    server = start("fastpath", "--threads", "3", VERBATIM_CPU="plain").wait_ready()
    told = Path(f"/proc/{server.engine_pid()}/environ").read_text().split("\0")
    assert {"VERBATIM_THREADS=3", "VERBATIM_CPU=plain"} <= {*told}
    assert server.chat().status_code == 200


@pytest.mark.parametrize("mode", ["small_draft", "medusa", "eagle"])
def test_the_demo_speculates_with_the_shipped_drafts(start, mode):
    server = start("fastpath", "--speculative-mode", mode, "--spec-draft-length", "2").wait_ready()
    details = server.complete(max_tokens=30, temperature=0).json()["usage"]["completion_tokens_details"]
    assert details["accepted_prediction_tokens"] + details["rejected_prediction_tokens"] > 0


def test_options_reach_every_process(start, tmp_path):
    from verbatim.demo import MODEL

    model = tmp_path / "other-name"
    model.symlink_to(MODEL)
    forms = ("--quantization", "w8a8", "--kv-cache-dtype", "bfloat16")
    server = start("reference", "--model", str(model), "--device", "cpu", *forms, "--workers", "2").wait_ready()
    assert server.http.get("/v1/models").json()["data"][0]["id"] == "other-name"
    answer = server.complete(model="other-name", max_tokens=2)
    assert answer.status_code == 200
    assert answer.json()["system_fingerprint"].endswith("-w8a8-kv-bfloat16")
    wait_until(lambda: len(server.worker_pids()) == 2)


def test_python_m_server_is_the_same(start):
    server = start("reference", command=(sys.executable, "-m", "server"), cwd=Path(__file__).parents[2]).wait_ready()
    assert server.complete(max_tokens=2).status_code == 200
    assert server.stop() == 0


OVERRIDES = (
    "max_num_sequence=3; max_total_seq_length=320 ;prefill_chunk_size=16;max_single_sequence_length=200;opt=O2;"
    "tensor_parallel_shards=1;pipeline_parallel_stages=1;prefix_cache_max_num_recycling_seqs=0"
)


def test_overrides_reach_the_engine(start):
    server = start("reference", "--max-num-sequence", "7", "--overrides", OVERRIDES).wait_ready()
    assert server.health()["total_pages"] == 20
    assert server.http.get("/v1/models").json()["data"][0]["max_model_len"] == 200
    whole = server.complete(prompt=[5] * 150, max_tokens=60, ignore_eos=True)
    assert whole.json()["usage"]["total_tokens"] == 200
    assert server.complete(prompt=[5] * 200, max_tokens=1).json()["error"]["code"] == "context_length_exceeded"
    again = server.complete(prompt=[5] * 150, max_tokens=1).json()["usage"]
    assert again["prompt_tokens_details"]["cached_tokens"] == server.health()["cached_pages"] == 0


def test_a_template_and_a_name_of_ones_own(start, tmp_path):
    template = tmp_path / "mine.jinja"
    template.write_text("{% for message in messages %}[{{ message['content'] }}]{% endfor %}")
    server = start("reference", "--chat-template", str(template), "--served-model-name", "team/mine").wait_ready()
    assert server.http.get("/v1/models/team/mine").json()["id"] == "team/mine"
    answer = server.chat(model="team/mine", max_tokens=1)
    assert answer.status_code == 200
    plain = server.complete(model="team/mine", prompt="[Hello]", max_tokens=1)
    assert abs(answer.json()["usage"]["prompt_tokens"] - plain.json()["usage"]["prompt_tokens"]) <= 1


def settings_file(tmp_path, text: str) -> str:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return str(path)


def test_a_file_of_settings(start, tmp_path):
    """The command line comes before the environment, and that before the file."""
    path = settings_file(
        tmp_path,
        'served-model-name = "of-the-file"\nmax_num_sequence = 2\nmax-total-seq-length = 640\n'
        'api-key = ["sk-a", "sk-b"]\nport = 1\nmode = "server"\n',
    )
    server = start("reference", "--config", path, "--max-num-sequence", "5", VERBATIM_SERVED_MODEL_NAME="of-the-world")
    server.wait_ready()
    answer = server.http.get("/v1/models", headers={"authorization": "Bearer sk-b"})
    assert answer.json()["data"][0]["id"] == "of-the-world"
    assert server.health()["total_pages"] == 40


def test_host_and_port_of_the_file_and_of_the_environment(start, tmp_path):
    """`--port` is always on the command line of these tests; the host here comes from the file, or the environment."""
    path = settings_file(tmp_path, 'host = "127.0.0.9"\nport = 1\n')
    server = start("reference", "--config", path)
    wait_until(lambda: f"http://127.0.0.9:{server.port}" in server.log)
    server = start("reference", "--config", path, VERBATIM_HOST="127.0.0.8")
    wait_until(lambda: f"http://127.0.0.8:{server.port}" in server.log)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("backend = ", ["--config", "cannot be read"]),
        ("banana = 1", ["--config", "banana", "backend", "port"]),
        ("[model]\nx = 1", ["--config", "model", "table"]),
        ("max-num-sequence = 0", ["--config", "max_num_sequence", "'0'", "1 to 4096"]),
        ("port = 99999", ["port", "99999", "0 to 65535"]),
        ("enable-banana = true", ["--config", "enable_banana"]),
    ],
)
def test_files_that_cannot_be_used(tmp_path, text, words):
    code, line = run("--config", settings_file(tmp_path, text))
    assert code in (1, 2)
    for word in words:
        assert word in line
