"""Builds the .cu files for the CPU with a C++ compiler, and launches their kernels by name over NumPy's own memory."""

import ctypes
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
EMULATOR = Path(__file__).parent / "emulator"
FLAGS = ["-std=c++20", "-O1", "-DCUDA_EMU", "-ffp-contract=off", "-fno-strict-aliasing", "-shared", "-fPIC"]
ASAN = ["-fsanitize=address", "-g1"]
CTYPES = {
    "P": ctypes.c_void_p, "i": ctypes.c_int, "I": ctypes.c_uint, "Q": ctypes.c_ulonglong, "f": ctypes.c_float,
}  # fmt: skip


def compiler() -> str | None:
    """A C++ compiler, if the machine has one."""
    return next((path for name in ("g++", "clang++") if (path := shutil.which(name))), None)


def build(folder: Path, *extra: str) -> Path:
    """The kernels as a shared object in `folder`, made once for each state of the sources."""
    sources = sorted([*(ROOT / "cuda").glob("*.cu*"), *EMULATOR.glob("*")])
    content = hashlib.sha256(b"".join(path.read_bytes() for path in sources) + repr(extra).encode())
    library = folder / f"kernels-{content.hexdigest()[:16]}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = library.with_suffix(f".{os.getpid()}")
        command = [compiler(), *FLAGS, *extra, f"-I{EMULATOR}", f"-I{ROOT / 'cuda'}", EMULATOR / "host.cpp"]
        subprocess.run([*map(str, command), "-o", str(unfinished)], check=True)
        unfinished.rename(library)
    return library


class Emulator:
    """The kernels on this machine's processor. An array's address is good until `forget`."""

    def __init__(self, library: Path):
        self._library = ctypes.CDLL(str(library))
        self._kept = []

    def use_schedule(self, number: int) -> None:
        """Threads run forward (0), backward (1), or shuffled."""
        self._library.emu_use_schedule(number)

    def launch(self, name, grid, threads, shared, types, *values) -> None:
        """Run one kernel to its end."""
        assert len(types) == len(values), f"{name} takes {len(types)} arguments, not {len(values)}"
        holders = [CTYPES[letter](value) for letter, value in zip(types, values, strict=True)]
        pointers = (ctypes.c_void_p * len(holders))(*[ctypes.addressof(one) for one in holders])
        sizes = [ctypes.c_uint(size) for size in (*grid, *[1] * (3 - len(grid)), threads, 1, 1)]
        assert self._library.emu_launch(name.encode(), *sizes, ctypes.c_size_t(shared), 0, pointers) == 0, name

    def put(self, array) -> int:
        """The address of a copy of an array, which ends where its memory ends; 0 for None."""
        if array is None:
            return 0
        copy = np.empty(max(array.nbytes, 1), np.uint8)
        copy[: array.nbytes] = np.ascontiguousarray(array).view(np.uint8).ravel()
        assert copy.ctypes.data % 16 == 0
        self._kept.append(copy)
        return copy.ctypes.data

    def room(self, *shape, dtype=np.float32) -> tuple[np.ndarray, int]:
        """An array that a kernel is to fill, full of rubbish, and its address."""
        memory = np.full(int(np.prod(shape)) * np.dtype(dtype).itemsize, 0xCD, np.uint8)
        self._kept.append(memory)
        return memory.view(dtype).reshape(shape), memory.ctypes.data

    def forget(self) -> None:
        """Let go of every array."""
        self._kept.clear()
