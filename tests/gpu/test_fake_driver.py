"""The whole GPU path, PyCUDA included, on a fake driver over the emulator; and the errors without a driver."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from gpu.conftest import cache_folder
from gpu.emulator import RACES
from gpu.fake_machine import MissingError, environment
from verbatim.fastpath.gpu.driver import is_driver_there

ROOT = Path(__file__).parents[2]
ON_A_DEVICE = [Path(__file__).with_name(f"{n}_on_a_device.py") for n in ("models", "formats", "published", "engines")]
MODELS, BUILDING = ON_A_DEVICE[0], Path(__file__).with_name("test_building.py")


@pytest.fixture(scope="module")
def fake_gpu():
    """The variables of a process that has the fake GPU."""
    try:
        return environment(cache_folder())
    except MissingError as error:
        pytest.skip(f"the fake GPU cannot be made here: {error}")


def python(*words, env=None):
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=env or os.environ, capture_output=True, text=True)


SHORT = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", "not nvrtc", "-m", "not slow"]
SHORT += [*ON_A_DEVICE, BUILDING]


def test_everything_on_the_fake_device(fake_gpu):
    done = python(*SHORT, env=fake_gpu)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout
    assert "PyCUDA WARNING" not in done.stderr


@pytest.mark.slow
def test_nine_lines_in_ten_run_there(fake_gpu, tmp_path):
    """Three times as slow as the test above, of which it is the measure."""
    pytest.importorskip("coverage")
    data = f"--data-file={tmp_path / 'coverage'}"
    done = python("-m", "coverage", "run", data, "--source=verbatim.fastpath.gpu", *SHORT, env=fake_gpu)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    report = python("-m", "coverage", "report", data, "--fail-under=90")
    assert report.returncode == 0, report.stdout


@pytest.mark.slow
def test_the_longer_tests_on_the_fake_device(fake_gpu):
    done = python("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "slow", *ON_A_DEVICE, env=fake_gpu)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout


PASSES = [f"{MODELS}::test_every_family[{name}]" for name in ("llama-w8a8", "mixtral-None", "gemma2-None")]


@pytest.mark.slow
@pytest.mark.parametrize("tests", [PASSES, ON_A_DEVICE], ids=["passes", "all"])
def test_kernels_that_overlap_do_not_race(fake_gpu, tests):
    """Each load and store of a graph's kernels, which begin before the one ahead of them has ended (races.cpp)."""
    watched = fake_gpu | {"EMULATOR_FLAGS": " ".join(RACES)}
    done = python("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests, env=watched)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout


def test_without_a_driver_it_is_one_clear_line():
    if is_driver_there():
        pytest.skip("this machine has a driver")
    done = python("-m", "fastpath", "--device", "cuda", "hi")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "does not run on cuda: no NVIDIA driver: libcuda.so.1 cannot be loaded" in done.stderr
    server = python("-m", "sanic", "server.app", "--device", "cuda:0")
    assert server.returncode != 0 and "cuda:0: no NVIDIA driver" in server.stderr + server.stdout
    assert python("-m", "fastpath", "--device", "auto", "--max-tokens", "1", "hi").returncode == 0


def test_without_pycuda_the_line_says_how_to_get_it(fake_gpu, tmp_path):
    (tmp_path / "pycuda.py").write_text("raise ImportError('not installed')")
    hidden = fake_gpu | {"PYTHONPATH": os.pathsep.join([str(tmp_path), fake_gpu["PYTHONPATH"]])}
    done = python("-m", "fastpath", "--device", "cuda", "hi", env=hidden)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "PyCUDA is not there: not installed; `pip install 'verbatim[cuda]'`" in done.stderr


def test_without_a_compiler_the_line_says_what_to_install(fake_gpu, tmp_path):
    if find_spec("nvidia") or shutil.which("nvrtc"):
        pytest.skip("NVRTC is installed")
    bare = {name: value for name, value in fake_gpu.items() if name != "CUDACXX"} | {"PATH": str(tmp_path)}
    done = python("-m", "fastpath", "--device", "cuda", "hi", env=bare)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no CUDA compiler to build the GPU kernels with" in done.stderr


def test_the_server_computes_on_the_fake_device(fake_gpu):
    """Through the server's own start: sizes from the GPU's memory, then an engine on it."""
    script = (
        "from verbatim.server.engine.backends import load_engine; from verbatim.server.models.lineup import settle; "
        "from verbatim.server.settings.options import Options;"
        "[fitted] = settle(Options.from_environment());"
        "engine = load_engine(fitted); print(type(engine.model).__module__, fitted.max_total_seq_length)"
    )
    names = {"VERBATIM_DEVICE": "cuda", "VERBATIM_MODE": "server", "VERBATIM_GPU_MEMORY_UTILIZATION": "0.25"}
    done = python("-c", script, env=fake_gpu | names)
    assert done.returncode == 0, done.stderr
    module, tokens = done.stdout.split()
    assert module == "verbatim.fastpath.gpu.model" and 10_000 < int(tokens) < 128 * 2048


@pytest.mark.slow
def test_the_benchmark_is_rehearsed(fake_gpu, tmp_path):
    """Every part of `python -m benchmarks.gpu` runs and is written down; what it measures here means nothing."""
    done = python("-m", "benchmarks.gpu", "--rehearse", "--minutes", "30", "--out", tmp_path, env=fake_gpu)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    (path,) = tmp_path.glob("gpu-*.json")
    report = json.loads(path.read_text())
    assert report["gpu"] == "emulated GPU" and report["is_rehearsal"] and report["skipped"] == {}
    parts = report["parts"]
    assert parts["kernel tests"]["is_equal"] and " passed" in parts["kernel tests"]["summary"]
    assert parts["first tokens"]["is_equal"] and len(parts["first tokens"]["tokens"]) == 4
    for quantization in ("bf16", "w8a8", "w4a8"):
        part = parts[f"rehearsal {quantization}"]
        assert [row["batch"] for row in part["decode"]] == [1, 3]
        assert all(row["tokens_per_second"] > 0 and row["device_ms"] >= 0 for row in part["decode"])
        assert part["prefill"]["tokens_per_second"] > 0
        assert all(row["overlapping_kernels"] > 10 and row["apart_ms"] >= 0 for row in part["decode"])
        assert [len(spans) for spans in part["decode"][0]["timeline"]] == [3] * 3
        kernels = part["kernels"]
        assert kernels["attend_blocks_float32"]["launches"] == 2 and kernels["rms_norm"]["fused_ms"] >= 0
        assert set(part["products"]) == {"query, key, value", "output", "gate and up", "down"}


def test_the_benchmark_without_time_or_gpu_says_so(fake_gpu, tmp_path):
    words = ("-m", "benchmarks.gpu", "--rehearse", "--minutes", "0", "--out", tmp_path)
    done = python(*words, env=fake_gpu)
    assert done.returncode == 0 and "kernel tests: skipped" in done.stdout
    if not is_driver_there():
        done = python(*words)
        assert done.returncode == 1 and "nothing to measure: no NVIDIA driver" in done.stdout
