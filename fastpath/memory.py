"""Memory for the weights, which every step reads from end to end: in huge pages, whose addresses are found faster.

A mapped file has small pages, so what is mapped is copied here as well; a few percent of a start are well spent.
"""

import mmap

import numpy as np

CHUNK_BYTES = 64 << 20
LINE_BYTES = 64  # of a processor's cache


class HugePages:
    """Copies arrays, one behind the other, into memory of its own; it is given back when the last copy is gone."""

    def __init__(self):
        self._room = np.empty(0, np.uint8)

    def copy(self, array: np.ndarray) -> np.ndarray:
        """A contiguous copy that begins at a cache line."""
        size = -(-array.nbytes // LINE_BYTES) * LINE_BYTES
        if size > len(self._room):
            self._room = _anonymous(max(size, CHUNK_BYTES))
        memory, self._room = self._room[: array.nbytes], self._room[size:]
        copy = memory.view(array.dtype).reshape(array.shape)
        copy[...] = array
        return copy


def release(array: np.ndarray) -> None:
    """Let go of the memory that holds what was read of an array in a mapped file; the file's cache stays."""
    owner = array
    while owner is not None and not isinstance(owner, mmap.mmap):
        owner = owner.obj if isinstance(owner, memoryview) else owner.base
    if owner is not None and hasattr(mmap, "MADV_DONTNEED"):
        begin = array.ctypes.data - np.frombuffer(owner, np.uint8).ctypes.data
        start = begin // mmap.PAGESIZE * mmap.PAGESIZE
        owner.madvise(mmap.MADV_DONTNEED, start, begin + array.nbytes - start)


def _anonymous(size: int) -> np.ndarray:
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):  # Linux; elsewhere pages are what they are
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)
