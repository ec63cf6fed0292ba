"""Weights in huge pages, which need fewer address translations, and buffers that are reused from step to step.

A forward pass reads all weights. A mapped file has small pages, so its arrays are copied, too: a few percent of the
start-up time. A reused buffer saves the system's clearing of new memory in every step.
"""

import mmap
import sys

import numpy as np

from verbatim.reference.checkpoint.weights import release
from verbatim.reference.records.checksums import Seal

CHUNK_BYTES, PART_BYTES = 64 << 20, 16 << 20
LINE_BYTES = 64  # a cache line
KEPT_BYTES = 64 << 20  # larger buffers are not kept


class HugePages:
    """Copies arrays side by side into huge pages, which are freed with the last copy."""

    def __init__(self):
        self._buffer = np.empty(0, np.uint8)
        self.seals: list[Seal] = []

    def seal(self, name: str, array: np.ndarray) -> Seal:
        """Keep the checksum of an array that lies here and is not to change any more."""
        self.seals.append(Seal(name, array))
        return self.seals[-1]

    def copy(self, array: np.ndarray) -> np.ndarray:
        """A contiguous copy that begins at a cache line."""
        copy = self._empty(array)
        copy[...] = array
        return copy

    def move(self, array: np.ndarray) -> np.ndarray:
        """Copy a mapped file's array, releasing its pages part by part (reference/checkpoint/weights.py)."""
        copy = self._empty(array)
        rows = max(1, len(array) * PART_BYTES // max(1, array.nbytes))
        for at in range(0, len(array), rows):
            copy[at : at + rows] = array[at : at + rows]
            release(array[at : at + rows])
        return copy

    def _empty(self, like: np.ndarray) -> np.ndarray:
        size = -(-like.nbytes // LINE_BYTES) * LINE_BYTES
        if size > len(self._buffer):
            self._buffer = _anonymous(max(size, CHUNK_BYTES))
        memory, self._buffer = self._buffer[: like.nbytes], self._buffer[size:]
        return memory.view(like.dtype).reshape(like.shape)


class ReusedBuffer:
    """A buffer for a step's results: the same memory as last time, unless an earlier array still refers to it."""

    def __init__(self, dtype):
        self._buffer = np.empty(0, dtype)

    def empty(self, rows: int, width: int) -> np.ndarray:
        """An uninitialised array (rows, width)."""
        size = rows * width
        if size * self._buffer.itemsize > KEPT_BYTES:
            return np.empty((rows, width), self._buffer.dtype)
        if size > len(self._buffer) or sys.getrefcount(self._buffer) > 2:  # every view holds a reference
            self._buffer = np.empty(size, self._buffer.dtype)
        return self._buffer[:size].reshape(rows, width)


def _anonymous(size: int) -> np.ndarray:
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):  # Linux only
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)
