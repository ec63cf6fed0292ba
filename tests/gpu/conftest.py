"""`gpu`: the kernels on the CPU emulator under three orders of threads in turn, or with GPU_TESTS=device on a GPU.

Skipped where no C++ compiler is.
"""

import os
from pathlib import Path

import pytest

from gpu.emulator import Emulator, build, compiler
from gpu.on_device import OnDevice
from verbatim.fastpath.gpu.device import Device

os.environ.setdefault("EMU_THREADS", "1")
ON_DEVICE = os.environ.get("GPU_TESTS") == "device"
SCHEDULES = {"forward": 0, "backward": 1, "shuffled": 7}


def cache_folder() -> Path:
    """The folder of compiled emulators, kept from run to run."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "verbatim-tests"


@pytest.fixture(scope="session")
def cpp_compiler():
    """Skip a test that needs a C++ compiler where there is none."""
    if compiler() is None:
        pytest.skip("no C++ compiler (g++ or clang++), which the emulator of the GPU's kernels needs")


@pytest.fixture(scope="session")
def emulator(cpp_compiler):
    return Emulator(build(cache_folder(), *os.environ.get("EMULATOR_FLAGS", "").split()))


@pytest.fixture(scope="session")
def real_device():
    return OnDevice(Device("cuda"))


@pytest.fixture(params=["device"] if ON_DEVICE else SCHEDULES)
def gpu(request):
    place = request.getfixturevalue("real_device" if ON_DEVICE else "emulator")
    if not ON_DEVICE:
        place.use_schedule(SCHEDULES[request.param])
    yield place
    place.free()
