"""A row of a sparse gate (N9a): what lies far above the row's mean, less that bound; 0 for the rest."""

from verbatim.fastpath.machine.dispatch cimport LANES, table
from libc.math cimport sqrtf


cdef void keep_above(float *gate, long size, float cutoff) noexcept nogil:
    """gate = max(gate - (mean + deviation * cutoff), 0)."""
    cdef float[LANES] lanes
    cdef float mean = table().lane_sum(gate, size) / size, centred, bound
    cdef long i
    for i in range(LANES):
        lanes[i] = 0
    for i in range(size):
        centred = gate[i] - mean
        lanes[i % LANES] += centred * centred
    bound = mean + sqrtf(table().lane_sum(lanes, LANES) / size) * cutoff
    for i in range(size):
        gate[i] = max(gate[i] - bound, <float>0)
