"""Builds the .cu files for the CPU with a C++ compiler, and launches their kernels by name over NumPy's own memory."""

import ctypes
import hashlib
import mmap
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
EMULATOR = Path(__file__).parent / "emulator"
ASAN = ["-fsanitize=address", "-g1"]
RACES = ["-fsanitize=thread", "-DEMU_RACES", "-g1"]  # the compiler's part of it; the library's is races.cpp
COOPERATIVE, OVERLAPS = 1, 2  # how a kernel is launched: host.cpp
CTYPES = {
    "P": ctypes.c_void_p, "i": ctypes.c_int, "I": ctypes.c_uint, "Q": ctypes.c_ulonglong, "f": ctypes.c_float,
}  # fmt: skip


def compiler() -> str | None:
    """A C++ compiler, if the machine has one."""
    return next((path for name in ("g++", "clang++") if (path := shutil.which(name))), None)


def build(folder: Path, *extra: str, source: Path = ROOT / "cuda" / "kernels.cu") -> Path:
    """Build the kernels as a shared object in `folder`, once for each version of the sources."""
    sources = sorted([*(ROOT / "cuda").glob("*.cu*"), *EMULATOR.glob("*")])
    content = hashlib.sha256(b"".join(path.read_bytes() for path in sources) + repr((extra, source.name)).encode())
    library = folder / f"kernels-{content.hexdigest()[:16]}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = library.with_suffix(f".{os.getpid()}")
        subprocess.run([EMULATOR / "build", unfinished, source, "-O1", *extra], check=True)
        unfinished.rename(library)
    return library


class Emulator:
    """The kernels on this machine's processor. An array's address is valid until `free`."""

    def __init__(self, library: Path):
        self._library = ctypes.CDLL(str(library))
        self._kept, self._finds_races = [], bool(self._library.emu_finds_races())

    def use_schedule(self, number: int) -> None:
        """Threads run forward (0), backward (1), or shuffled."""
        self._library.emu_use_schedule(number)

    def launch(self, name, grid, threads, shared, types, *values, flags: int = 0, is_cooperative: bool = False) -> None:
        """Run a kernel to its end; host.cpp defines `flags`."""
        flags |= COOPERATIVE * is_cooperative
        assert len(types) == len(values), f"{name} takes {len(types)} arguments, not {len(values)}"
        holders = [CTYPES[letter](value) for letter, value in zip(types, values, strict=True)]
        pointers = (ctypes.c_void_p * len(holders))(*[ctypes.addressof(holder) for holder in holders])
        sizes = [ctypes.c_uint(size) for size in (*grid, *[1] * (3 - len(grid)), threads, 1, 1)]
        status = self._library.emu_launch(name.encode(), *sizes, ctypes.c_size_t(shared), flags, pointers)
        assert status == 0, f"{name} has a race" if status == 719 else f"no kernel {name}"

    def put(self, array) -> int:
        """Copy an array to memory of exactly its size; returns the address, 0 for None."""
        if array is None:
            return 0
        copy = self._memory(max(array.nbytes, 1))
        copy[: array.nbytes] = np.ascontiguousarray(array).view(np.uint8).ravel()
        assert copy.ctypes.data % 16 == 0
        return copy.ctypes.data

    def buffer(self, *shape, dtype=np.float32) -> tuple[np.ndarray, int]:
        """An output array, full of garbage, and its address."""
        memory = self._memory(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        memory[...] = 0xCD
        return memory.view(dtype).reshape(shape), memory.ctypes.data

    def _memory(self, num_bytes: int) -> np.ndarray:
        """Bytes that live until `free`; to find races, in separate pages (races.cpp)."""
        if self._finds_races:
            pages = mmap.mmap(-1, max(num_bytes, 1))
            self._kept.append(np.frombuffer(pages, np.uint8, num_bytes))
            self._library.emu_watch(ctypes.c_void_p(self._kept[-1].ctypes.data), ctypes.c_size_t(num_bytes), 1)
        else:
            self._kept.append(np.empty(num_bytes, np.uint8))
        return self._kept[-1]

    def free(self) -> None:
        """Free every array."""
        for memory in self._kept if self._finds_races else ():
            self._library.emu_watch(ctypes.c_void_p(memory.ctypes.data), ctypes.c_size_t(memory.nbytes), 0)
        self._kept.clear()
