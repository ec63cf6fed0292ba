# The rules that keep tokens by weight, for rules.pyx; selection.pyx documents each.
from libc.stdint cimport uint64_t

cdef void cut_top_k(uint64_t *weights, long n, uint64_t top_k, uint64_t *scratch) noexcept nogil
cdef void cut_top_p(uint64_t *weights, long n, uint64_t top_p, uint64_t *scratch) noexcept nogil
cdef void cut_min_p(uint64_t *weights, long n, uint64_t min_p) noexcept nogil
