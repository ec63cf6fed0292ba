"""New arrays hold rubbish between guards: a kernel that reads, skips or oversteps its output is found out."""

from contextlib import contextmanager
from unittest.mock import patch

import numpy as np

GUARD, RUBBISH = 256, 0xAB


@contextmanager
def poisoned():
    """`np.empty` gives rubbish with guards around it; they must be whole at the end."""
    memories, genuine = [], np.empty

    def empty(shape, dtype=np.float64, **options):
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        memory = genuine(size + 2 * GUARD, np.uint8)
        memory.fill(RUBBISH)
        memories.append(memory)
        return memory[GUARD : GUARD + size].view(dtype).reshape(shape)

    with patch.object(np, "empty", empty):
        yield
    assert memories, "nothing was allocated, so nothing was guarded"
    for memory in memories:
        assert (memory[:GUARD] == RUBBISH).all(), "written before the beginning"
        assert (memory[-GUARD:] == RUBBISH).all(), "written past the end"
