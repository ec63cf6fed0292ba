"""`python -m benchmarks.gpu_checks`: all checks that need a GPU, in one command and a bounded time.

Builds what is missing, then runs kernel tests, model tests, kernel tests under compute-sanitizer (racecheck, memcheck),
and `benchmarks.gpu` in the minutes that remain. A step that fails or times out does not stop the others. Each step's
output goes to a file in --out, beside the benchmark's JSON; a table of results comes last. It needs no network, and the
project need not be installed: it is meant for a machine that is rented by the minute.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
KERNELS = [f"tests/gpu/test_{name}.py" for name in ("kernels", "block_kernels", "sampling_kernels")]
ON_A_DEVICE = [f"tests/gpu/{name}_on_a_device.py" for name in ("models", "formats", "published", "engines")]
NEEDED = ("numpy", "pytest", "llguidance", "tokenizers", "sentencepiece", "jinja2", "rich", "pycuda")

NO_TIME = "no time is left"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command with its time limit and its optional requirements."""

    name: str
    command: list[str]
    seconds: float
    lacks: str | None = None


def steps(out: Path, is_rehearsal: bool) -> list[Step]:
    """All steps, the most important first; `{minutes}` in a command stands for the remaining minutes."""
    python, tests = sys.executable, [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    sanitizer = shutil.which("compute-sanitizer")
    watched = [sanitizer or "", "--error-exitcode", "3", "--tool"]
    is_built = importlib.util.find_spec("verbatim.fastpath.gpu.driver")
    no_sanitizer = None if sanitizer else "compute-sanitizer is not on the PATH"
    build = [python, "setup.py", "build_ext", "--inplace", "--parallel", "8"]
    speed = [python, "-m", "benchmarks.gpu", "--without-tests", "--minutes", "{minutes:.2f}", "--out", str(out)]
    return [
        Step(name="build", command=build, seconds=180, lacks="it is built already" if is_built else None),
        Step(name="kernels", command=[*tests, *KERNELS], seconds=120),
        Step(name="models", command=[*tests, *ON_A_DEVICE], seconds=120),
        Step(name="racecheck", command=[*watched, "racecheck", *tests, *KERNELS], seconds=75, lacks=no_sanitizer),
        Step(name="memcheck", command=[*watched, "memcheck", *tests, *KERNELS], seconds=45, lacks=no_sanitizer),
        Step(name="benchmark", command=[*speed, *["--rehearse"] * is_rehearsal], seconds=600),
    ]


def run(step: Step, out: Path, left: float) -> str:
    """Run a step for at most so many seconds; returns its result in a few words."""
    if step.lacks or left < 10:
        return f"skipped: {step.lacks or NO_TIME}"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"GPU_TESTS": "device", "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}
    command = [word.format(minutes=left / 60) for word in step.command]
    log, ended = out / f"{step.name}.log", "passed"
    with log.open("wb") as file:
        options = {"cwd": ROOT, "env": environment, "stdout": file, "stderr": subprocess.STDOUT}
        try:
            subprocess.run(command, check=True, timeout=min(step.seconds, left), **options)
        except subprocess.TimeoutExpired:
            ended = "out of time"
        except subprocess.CalledProcessError as error:
            ended = f"FAILED ({error.returncode})"
    last = (log.read_text(errors="replace").strip().splitlines() or [""])[-1]
    return f"{ended}: {last[:120]}"


def main(arguments: list[str] | None = None) -> int:
    """The command; returns 1 if a step failed or did not run for lack of time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_checks", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR")
    parser.add_argument("--minutes", type=float, default=9.5, help="for everything together")
    parser.add_argument("--rehearse", action="store_true", help="a toy model for the benchmark, as it has it")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            print(f"missing: the Python package {name}", flush=True)
    end, found = time.monotonic() + 60 * options.minutes, {}
    for step in steps(options.out, options.rehearse):
        start = time.monotonic()
        found[step.name] = run(step, options.out, end - start)
        print(f"{step.name} ({time.monotonic() - start:.0f} s) {found[step.name]}", flush=True)
    print("\n".join(f"{name:12} {ended}" for name, ended in found.items()))
    return int(any(ended.startswith(("FAILED", "out of time", f"skipped: {NO_TIME}")) for ended in found.values()))


if __name__ == "__main__":
    sys.exit(main())
