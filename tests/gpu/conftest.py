"""`gpu`: the kernels on the CPU emulator, under three orders of threads in turn; skipped where no C++ compiler is."""

import os
from pathlib import Path

import pytest
from gpu.emulator import Emulator, build, compiler

os.environ.setdefault("EMU_THREADS", "1")
SCHEDULES = {"forward": 0, "backward": 1, "shuffled": 7}


def cache_folder() -> Path:
    """Where what these tests build is kept from run to run."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "verbatim-tests"


@pytest.fixture(scope="session")
def emulator():
    if compiler() is None:
        pytest.skip("no C++ compiler (g++ or clang++), which the emulator of the GPU's kernels needs")
    return Emulator(build(cache_folder(), *os.environ.get("EMULATOR_FLAGS", "").split()))


@pytest.fixture(params=SCHEDULES)
def gpu(request, emulator):
    emulator.use_schedule(SCHEDULES[request.param])
    yield emulator
    emulator.forget()
