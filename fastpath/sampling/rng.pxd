# Counter-based random bits, for rules.pyx.
from libc.stdint cimport uint32_t, uint64_t

cpdef uint64_t random_bits(seed, position, choice) except? 0
cdef uint64_t bits_at(uint64_t key, uint32_t position, uint32_t choice) noexcept nogil
