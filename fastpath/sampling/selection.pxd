# The rules by weight, for sampling.pyx; selection.pyx says what each does.
from libc.stdint cimport uint64_t

cdef void cut_top_k(uint64_t *weights, long n, uint64_t top_k, uint64_t *room) noexcept nogil
cdef void cut_top_p(uint64_t *weights, long n, uint64_t top_p, uint64_t *room) noexcept nogil
cdef void cut_min_p(uint64_t *weights, long n, uint64_t min_p) noexcept nogil
