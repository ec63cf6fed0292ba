"""The C kernels and the team under the compiler's sanitizers: bounds, undefined behaviour, races."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [Path(__file__).with_name("every_kernel.c"), *sorted(ROOT.glob("fastpath/kernels/*.c"))]
pytestmark = pytest.mark.slow


def build_and_run(directory, sanitizers, sources=SOURCES):
    compiler = shutil.which(os.environ.get("CC", "cc")) or pytest.skip("no C compiler")
    program = directory / "sanitized"
    command = [compiler, "-O1", "-g", "-std=gnu11", "-ffp-contract=off", "-Wno-psabi", f"-fsanitize={sanitizers}",
               "-fno-sanitize-recover=all", f"-I{ROOT / 'fastpath/kernels'}", *map(str, sources), "-lm", "-lpthread",
               "-o", str(program)]  # fmt: skip
    built = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if "cannot find" in built.stderr:
        pytest.skip(f"the compiler has no library for {sanitizers}")
    assert built.returncode == 0, built.stderr
    return subprocess.run([program], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_nothing_oversteps_overflows_or_races(tmp_path, sanitizers):
    result = build_and_run(tmp_path, sanitizers)
    assert result.returncode == 0, result.stderr[-3000:]
    *levels, last = result.stdout.split()
    assert levels[-2] == "plain" and last == "done"
    assert len(set(levels[1::2])) == 1, "levels differ"


def test_a_kernel_that_oversteps_would_be_found(tmp_path):
    wrong = tmp_path / "wrong.c"
    wrong.write_text(SOURCES[0].read_text().replace("y = malloc(rows * outputs", "y = malloc((rows * outputs - 1)"))
    result = build_and_run(tmp_path, "address,undefined", [wrong, *SOURCES[1:]])
    assert result.returncode != 0
    assert "heap-buffer-overflow" in result.stderr
