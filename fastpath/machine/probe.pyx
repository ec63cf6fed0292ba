"""What this processor can do at most, for benchmarks to compare with: bytes read, products of bytes and of floats a second.

Each is measured with as many threads as compute, at the instruction set in use.
"""

import time

import numpy as np

from verbatim.fastpath.machine.dispatch cimport address, table
from verbatim.fastpath.machine.threads cimport claim, finish_phase, run, team

cdef struct probe:
    const char *memory
    long bytes_each, pieces, rounds
    bint is_float


cdef void _read(team *members, void *argument) noexcept nogil:
    cdef probe *one = <probe *>argument
    cdef long piece = claim(members)
    while piece < one.pieces:
        table().probe_read(one.memory + piece * one.bytes_each, one.bytes_each)
        piece = claim(members)
    finish_phase(members)


cdef void _compute(team *members, void *argument) noexcept nogil:
    cdef probe *one = <probe *>argument
    cdef float[192] memory
    cdef long piece, i
    for i in range(192):
        memory[i] = 1
    piece = claim(members)
    while piece < one.pieces:
        if one.is_float:
            table().probe_floats(one.rounds, memory)
        else:
            table().probe_integers(one.rounds, memory)
        piece = claim(members)
    finish_phase(members)


def read_bandwidth(long num_bytes=1 << 28, long times=16) -> float:
    """Some passes over memory, after one that does not count, in bytes a second."""
    cdef probe one
    memory = np.ones(num_bytes // 8, np.uint64)
    one.memory, one.bytes_each, one.pieces = <const char *><size_t>address(memory), 1 << 20, num_bytes >> 20
    rates = [_rate(<size_t>&one, True, one.pieces * one.bytes_each) for _ in range(times + 1)]
    return times / sum([1 / rate for rate in rates[1:]])


def peak_operations(bint is_float=False, long times=3) -> float:
    """The best of some passes over registers, in operations a second: a product and its addition are two."""
    cdef probe one
    cdef float[192] memory
    cdef long i
    for i in range(192):
        memory[i] = 1
    one.rounds, one.pieces, one.is_float = 100_000, 400, is_float
    cdef double operations = table().probe_floats(1, memory) if is_float else table().probe_integers(1, memory)
    return max([_rate(<size_t>&one, False, operations * one.rounds * one.pieces) for _ in range(times)])


def _rate(size_t one, bint reads, double amount) -> float:
    start = time.perf_counter()
    with nogil:
        run(_read if reads else _compute, <void *>one)
    return amount / (time.perf_counter() - start)
