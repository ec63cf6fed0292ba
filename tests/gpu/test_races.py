"""No two accesses of a kernel race: each load and store is checked, where compute-sanitizer is missing.

races.cpp says what orders. Overlapping launches are checked as well, on the fake driver: test_fake_driver.py.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpu.conftest import cache_folder
from gpu.emulator import COOPERATIVE, EMULATOR, OVERLAPS, RACES, Emulator, build

PLANTED = {
    "block_barrier": 0, "warp_barrier": 0, "second_round": 0, "two_blocks": 0, "half_a_warp": 0, "copied": 0,
    "early_load": OVERLAPS, "early_end": OVERLAPS, "grouped": COOPERATIVE, "not_grouped": COOPERATIVE,
}  # fmt: skip


@pytest.fixture(scope="module")
def watched():
    """A test that asks for it is skipped where nothing could tell of loads and stores."""
    if shutil.which("g++") is None:
        pytest.skip("no g++, whose calls for each load and store races.cpp answers")


@pytest.fixture(scope="module")
def planted(watched):
    return Emulator(build(cache_folder(), *RACES, source=EMULATOR / "planted.cu"))


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("schedule", [0, 1, 7])
def test_a_race_is_told_and_its_ordered_twin_is_not(planted, name, schedule, capfd):
    """Whatever the order in which threads run here: not the result decides, but what was ordered."""
    planted.use_schedule(schedule)
    threads = 32 if name == "warp_barrier" else 64
    count = {"two_blocks": 2, "grouped": 4, "not_grouped": 2}.get(name, 1)
    first = {"copied": np.arange(64), "grouped": np.zeros(2), "not_grouped": np.zeros(1)}.get(name)
    for twin in ("ordered", "racing"):
        _, y = planted.buffer(count * threads, dtype=np.int32)
        arrays = (y,) if first is None else (planted.put(first.astype(np.int32)), y)
        arguments = (count,), threads, 256, "P" * len(arrays), *arrays
        planted.launch("early_load_ordered", (1,), 64, 0, "P", planted.buffer(64, dtype=np.int32)[1])
        if PLANTED[name] == OVERLAPS:  # something ahead of it that writes the same
            planted.launch("early_load_ordered", (1,), 64, 0, "P", y)
        if twin == "ordered":
            planted.launch(f"{name}_{twin}", *arguments, flags=PLANTED[name])
        else:
            with pytest.raises(AssertionError, match="has a race"):
                planted.launch(f"{name}_{twin}", *arguments, flags=PLANTED[name])
    told = capfd.readouterr().err
    assert f"race in {name}_racing" in told and "_ordered" not in told
    planted.free()


@pytest.mark.slow
def test_the_kernels_have_none(watched):
    """All kernel tests once more, in one order of threads, which is as good as any other here."""
    names = ("kernels", "block_kernels", "sampling_kernels")
    tests = [str(Path(__file__).with_name(f"test_{name}.py")) for name in names]
    environment = os.environ | {"EMULATOR_FLAGS": " ".join(RACES)}
    chosen = "forward and not (16 or equal)"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", chosen, *tests]
    done = subprocess.run(command, cwd=EMULATOR.parents[2], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert " passed" in done.stdout


def test_a_library_that_watches_leaves_another_alone(planted):
    """Two builds of the emulator in one process keep their own state: what one has of a block differs in the other."""
    planted.use_schedule(7)
    plain = Emulator(build(cache_folder(), source=EMULATOR / "planted.cu"))
    plain.use_schedule(0)
    shared = [name for name in unique_symbols(plain) if name in unique_symbols(planted)]
    assert shared == []


def unique_symbols(emulator):
    """The symbols that the dynamic linker would bind to one address for the whole process."""
    if shutil.which("nm") is None:
        pytest.skip("no nm, which lists a library's symbols")
    listed = subprocess.run(["nm", "-D", emulator._library._name], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1] for line in listed.splitlines() if f" {'u'} " in line}
