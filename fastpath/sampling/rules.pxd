# One draw, for answer.pyx; sampling.pyx says how.
from libc.stdint cimport uint64_t


cdef struct drawing:  # what a request asks of every draw, read once
    float factor  # log2(e) / temperature, 0 for the largest logit
    uint64_t seed, top_p, min_p  # the latter with 32 binary places
    long top_k  # 0 for all


cdef drawing drawing_of(sampling) except *
cdef bint adjusts(sampling) except -1
cdef long choose(const float *row, long n, float peak, const drawing *how, uint64_t position, long choice,
                 uint64_t *room) noexcept nogil
