"""Peak rates of this processor, for benchmarks: bytes read, and operations on bytes and on floats, per second.

All threads take part, with the instruction set in use.
"""

import time

import numpy as np

from verbatim.fastpath.machine.dispatch cimport address, table
from verbatim.fastpath.machine.threads cimport claim, finish_phase, run, team

cdef struct probe:
    const char *memory
    long bytes_each, items, rounds
    bint is_float


cdef void _read(team *members, void *argument) noexcept nogil:
    cdef probe *work = <probe *>argument
    cdef long item = claim(members)
    while item < work.items:
        table().probe_read(work.memory + item * work.bytes_each, work.bytes_each)
        item = claim(members)
    finish_phase(members)


cdef void _compute(team *members, void *argument) noexcept nogil:
    cdef probe *work = <probe *>argument
    cdef float[192] memory
    cdef long item, i
    for i in range(192):
        memory[i] = 1
    item = claim(members)
    while item < work.items:
        if work.is_float:
            table().probe_floats(work.rounds, memory)
        else:
            table().probe_integers(work.rounds, memory)
        item = claim(members)
    finish_phase(members)


def read_bandwidth(long num_bytes=1 << 28, long times=16) -> float:
    """Bytes per second over `times` passes through memory, after a warm-up pass."""
    cdef probe work
    memory = np.ones(num_bytes // 8, np.uint64)
    work.memory, work.bytes_each, work.items = <const char *><size_t>address(memory), 1 << 20, num_bytes >> 20
    rates = [_rate(<size_t>&work, True, work.items * work.bytes_each) for _ in range(times + 1)]
    return times / sum([1 / rate for rate in rates[1:]])


def peak_operations(bint is_float=False, long times=3) -> float:
    """Operations per second in registers, the best of `times` runs: a product and its addition are two."""
    cdef probe work
    cdef float[192] memory
    cdef long i
    for i in range(192):
        memory[i] = 1
    work.rounds, work.items, work.is_float = 100_000, 400, is_float
    cdef double operations = table().probe_floats(1, memory) if is_float else table().probe_integers(1, memory)
    return max([_rate(<size_t>&work, False, operations * work.rounds * work.items) for _ in range(times)])


def _rate(size_t work, bint reads, double amount) -> float:
    start = time.perf_counter()
    with nogil:
        run(_read if reads else _compute, <void *>work)
    return amount / (time.perf_counter() - start)
