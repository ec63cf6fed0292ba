"""Weights in huge pages: copies are equal and aligned to cache lines; the pages of mapped files are released."""

from pathlib import Path

import numpy as np
import pytest

from verbatim.fastpath.machine import memory
from verbatim.reference.checkpoint.weights import release

MIB = 1 << 20


def held_of_files():
    """Bytes of mapped files in this process's memory."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("only Linux reports it")
    lines = status.read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssFile"))


def test_copies_are_equal_and_aligned_and_do_not_touch(monkeypatch):
    monkeypatch.setattr(memory, "CHUNK_BYTES", 4096)  # several chunks, and an array that is larger than one
    random, pages = np.random.default_rng(3), memory.HugePages()
    originals = [
        random.integers(0, 255, size).astype(dtype).T
        for size, dtype in [((3, 5), "u1"), ((0, 4), "<f4"), ((7, 9), "<u2"), ((50, 64), "<f4"), ((1,), "u1")]
    ]
    copies = [pages.copy(original) for original in originals]
    for original, copy in zip(originals, copies, strict=True):
        assert copy.dtype == original.dtype and copy.shape == original.shape
        assert (copy == original).all() and copy.flags.c_contiguous and copy.ctypes.data % 64 == 0
        assert not any(np.shares_memory(copy, other) for other in copies if other is not copy)


def test_moved_arrays_are_equal(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "PART_BYTES", 8192)
    expected = np.arange(MIB, dtype=np.uint32).reshape(1024, 4, 256)
    expected.tofile(tmp_path / "numbers")
    mapped = np.frombuffer(np.memmap(tmp_path / "numbers", np.uint8, "r"), np.uint32).reshape(expected.shape)
    before = held_of_files()
    moved = memory.HugePages().move(mapped)
    assert held_of_files() - before < MIB
    assert (moved == expected).all() and moved.ctypes.data % 64 == 0
    assert memory.HugePages().move(mapped[:0]).shape == (0, 4, 256)


def test_released_pages_of_a_file_are_read_again(tmp_path):
    expected = np.arange(8 * MIB, dtype=np.uint32)
    expected.tofile(tmp_path / "numbers")
    mapped = np.frombuffer(np.memmap(tmp_path / "numbers", np.uint8, "r")[4:], np.uint32)
    before = held_of_files()
    assert (mapped == expected[1:]).all()
    assert held_of_files() - before > 30 * MIB
    release(mapped[: 4 * MIB])
    assert 12 * MIB < held_of_files() - before < 20 * MIB
    assert (mapped == expected[1:]).all()


@pytest.mark.parametrize(
    "numbers",
    [
        np.arange(1000),
        np.frombuffer(np.arange(1000).tobytes(), np.int64)[:],
        memory.HugePages().copy(np.arange(1000)),
    ],
)
def test_memory_that_is_no_file_is_unchanged(numbers):
    release(numbers)
    assert (numbers == np.arange(1000)).all()


def test_a_step_s_buffer_is_reused_unless_an_array_refers_to_it(monkeypatch):
    monkeypatch.setattr(memory, "KEPT_BYTES", 4 * 600)
    buffer = memory.ReusedBuffer(np.float32)
    logits = buffer.empty(20, 30)
    assert (logits.shape, logits.dtype) == ((20, 30), np.float32)
    row = logits[3]
    row[:] = 7
    del logits
    buffer.empty(20, 30)[:] = 1
    assert (row == 7).all()
    del row
    place = buffer.empty(20, 30).ctypes.data
    assert buffer.empty(10, 30).ctypes.data == place
    assert buffer.empty(20, 31).shape == (20, 31)  # more than is kept
    assert buffer.empty(20, 30).ctypes.data == place
