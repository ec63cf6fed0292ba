# The rules by weight, for sampling.pyx; selection.pyx says what each does.
from libc.stdint cimport uint64_t

cpdef cut_top_k(uint64_t[::1] weights, top_k)
cpdef cut_top_p(uint64_t[::1] weights, uint64_t top_p)
cpdef cut_min_p(uint64_t[::1] weights, uint64_t min_p)
cpdef uint64_t total_weight(const uint64_t[::1] weights) noexcept
cpdef Py_ssize_t draw(const uint64_t[::1] weights, uint64_t bits) noexcept
