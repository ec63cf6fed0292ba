"""New arrays hold garbage between guards, to detect kernels that read, skip or overrun their output."""

from contextlib import contextmanager
from unittest.mock import patch

import numpy as np

GUARD = 64  # words on either side
RUBBISH = np.uint32(0x7FBFABAB)  # as float32 a signalling NaN: to add zero to it changes it


@contextmanager
def poisoned():
    """`np.empty` returns garbage between guards, which must be intact at the end."""
    memories, genuine = [], np.empty

    def empty(shape, dtype=np.float64, **options):
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        num_words = -(-size // 4)
        memory = genuine(num_words + 2 * GUARD, np.uint32)
        memory.fill(RUBBISH)
        memories.append((memory, GUARD + num_words))
        return memory[GUARD : GUARD + num_words].view(np.uint8)[:size].view(dtype).reshape(shape)

    with patch.object(np, "empty", empty):
        yield
    assert memories, "nothing was allocated, so nothing was guarded"
    for memory, end in memories:
        assert (memory[:GUARD] == RUBBISH).all(), "written before the beginning"
        assert (memory[end:] == RUBBISH).all(), "written past the end"
