"""Levels are chosen by the machine or by VERBATIM_CPU; a missing one raises an error and is never replaced silently."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from verbatim.reference.records.errors import BackendError

dispatch = pytest.importorskip("verbatim.fastpath.machine.dispatch", reason="the fast path is not built")
ROOT = Path(__file__).parents[2]


def run(code, cwd=ROOT / "src", **environment):
    """The output of a new Python process that imports our packages from `cwd` only."""
    only_here = "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f)]; "
    only_here += f"sys.path = [{str(cwd)!r}, *(p for p in sys.path if p != {str(ROOT / 'src')!r})]; "
    command = [sys.executable, "-P", "-c", only_here + code]
    kept = {name: value for name, value in os.environ.items() if name not in ("VERBATIM_CPU", "PYTHONPATH")}
    return subprocess.run(command, cwd=cwd, env=kept | environment, capture_output=True, text=True, timeout=60)


def test_the_best_level_is_the_default_and_plain_is_always_there():
    levels = dispatch.available()
    assert levels[-1] == "plain"
    assert run("from verbatim.fastpath.machine import dispatch; print(dispatch.level())").stdout.strip() == levels[0]


@pytest.mark.parametrize("name", dispatch.available())
def test_the_environment_chooses(name):
    assert (
        run("from verbatim.fastpath.machine import dispatch; print(dispatch.level())", VERBATIM_CPU=name).stdout.strip()
        == name
    )


def test_an_unknown_level_is_refused_with_those_that_there_are():
    with pytest.raises(BackendError, match=f"one of {', '.join(dispatch.available())} on this machine, not 'sse9'"):
        dispatch.use("sse9")
    code = "from verbatim.cli.main import main; sys.exit(main(['run', 'hello']))"
    result = run(code, VERBATIM_CPU="sse9")
    assert result.returncode == 1
    assert result.stderr.startswith("error: VERBATIM_CPU must be one of")


def test_an_engine_that_is_not_built_names_the_command_that_builds_it(tmp_path):
    for package in ("reference", "fastpath", "server", "demo", "src/verbatim/cli"):
        target = tmp_path / "verbatim" / Path(package).name
        shutil.copytree(ROOT / package, target, ignore=shutil.ignore_patterns("*.so", "build", "*.pt"))
    (tmp_path / "verbatim" / "__init__.py").touch()
    code = "from verbatim.cli.main import main; sys.exit(main(['run', 'hello']))"
    result = run(code, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("error: the fast path is not built: ")
    assert "`pip install --force-reinstall --no-cache-dir --no-deps .`" in result.stderr
