# One draw, for answer.pyx; rules.pyx has the definitions.
from libc.stdint cimport uint64_t


cdef struct draw_params:  # a request's sampling parameters, converted once
    float factor  # log2(e) / temperature, 0 for greedy
    uint64_t seed, top_p, min_p  # top_p and min_p with 32 binary places
    long top_k  # 0 for all


cdef draw_params draw_params_of(sampling) except *
cdef bint adjusts(sampling) except -1
cdef long choose(const float *row, long n, float peak, const draw_params *params, uint64_t position, long choice,
                 uint64_t *scratch) noexcept nogil
