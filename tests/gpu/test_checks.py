"""`python -m benchmarks.gpu_checks` reports the result of each step, and a failure stops no other step."""

import sys
from importlib import util

import pytest
from benchmarks import gpu_checks
from benchmarks.gpu_checks import Step, run, steps


def python(code: str, seconds: float = 60.0, **rest) -> Step:
    return Step(name="one", command=[sys.executable, "-c", code], seconds=seconds, **rest)


@pytest.mark.parametrize(
    ("step", "left", "ended"),
    [
        (python("print('first'); print('last line')"), 60, "passed: last line"),
        (python("print('two failed'); raise SystemExit(3)"), 60, "FAILED (3): two failed"),
        (python("import time; print('begun', flush=True); time.sleep(60)", seconds=1), 60, "out of time: begun"),
        (python("print('{minutes:.1f}')"), 90, "passed: 1.5"),
        (python("", lacks="no such tool"), 60, "skipped: no such tool"),
        (python("print()"), 9, "skipped: no time is left"),
    ],
)
def test_how_a_step_ended(step, left, ended, tmp_path):
    assert run(step, tmp_path, left) == ended


def test_the_command_continues_after_a_failure_and_reports_it(tmp_path, monkeypatch, capsys):
    planned = [python("print('bad'); raise SystemExit(1)"), Step(name="two", command=[sys.executable, "-V"], seconds=9)]
    for chosen, code in ((planned, 1), (planned[1:], 0)):
        monkeypatch.setattr(gpu_checks, "steps", lambda out, is_rehearsal, found=chosen: found)
        assert gpu_checks.main(["--out", str(tmp_path)]) == code
    told = capsys.readouterr().out
    assert "FAILED (1): bad" in told and "two          passed: Python" in told
    assert gpu_checks.main(["--out", str(tmp_path), "--minutes", "0.01"]) == 1, "nothing was checked"


def test_what_is_not_there_is_named(tmp_path, monkeypatch):
    """No sanitizer, and an extension that has yet to be built."""
    monkeypatch.setattr(gpu_checks.shutil, "which", lambda name: None)
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    found = {step.name: step for step in steps(tmp_path, is_rehearsal=True)}
    assert list(found) == ["build", "kernels", "models", "racecheck", "memcheck", "benchmark"]
    assert found["build"].lacks is None and "compute-sanitizer" in found["racecheck"].lacks
    assert found["benchmark"].command[-1] == "--rehearse"
