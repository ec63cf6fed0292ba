"""Memory for the weights, which every step reads from end to end: in huge pages, whose addresses are found faster.

A mapped file has small pages, so what is mapped is copied here as well; a few percent of a start are well spent. And
memory for what every step makes anew, which the system would have to clear each time.
"""

import mmap
import sys

import numpy as np

from verbatim.reference.checkpoint.weights import release

CHUNK_BYTES, PART_BYTES = 64 << 20, 16 << 20
LINE_BYTES = 64  # of a processor's cache
KEPT_BYTES = 64 << 20  # more than that is given back at once


class HugePages:
    """Copies arrays, one behind the other, into memory of its own; it is given back when the last copy is gone."""

    def __init__(self):
        self._room = np.empty(0, np.uint8)

    def copy(self, array: np.ndarray) -> np.ndarray:
        """A contiguous copy that begins at a cache line."""
        copy = self._empty(array)
        copy[...] = array
        return copy

    def move(self, array: np.ndarray) -> np.ndarray:
        """The same of a mapped file's array, little of which is held at a time (reference/checkpoint/weights.py)."""
        copy = self._empty(array)
        rows = max(1, len(array) * PART_BYTES // max(1, array.nbytes))
        for at in range(0, len(array), rows):
            copy[at : at + rows] = array[at : at + rows]
            release(array[at : at + rows])
        return copy

    def _empty(self, like: np.ndarray) -> np.ndarray:
        size = -(-like.nbytes // LINE_BYTES) * LINE_BYTES
        if size > len(self._room):
            self._room = _anonymous(max(size, CHUNK_BYTES))
        memory, self._room = self._room[: like.nbytes], self._room[size:]
        return memory.view(like.dtype).reshape(like.shape)


class KeptRoom:
    """Room for a step's numbers: the same memory as last time, unless somebody still looks at what was put there."""

    def __init__(self, dtype):
        self._room = np.empty(0, dtype)

    def empty(self, rows: int, width: int) -> np.ndarray:
        """An array (rows, width) of any content."""
        size = rows * width
        if size * self._room.itemsize > KEPT_BYTES:
            return np.empty((rows, width), self._room.dtype)
        if size > len(self._room) or sys.getrefcount(self._room) > 2:  # every view of it counts as one more
            self._room = np.empty(size, self._room.dtype)
        return self._room[:size].reshape(rows, width)


def _anonymous(size: int) -> np.ndarray:
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):  # Linux; elsewhere pages are what they are
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)
