# The counter-based bits, for sampling.pyx.
from libc.stdint cimport uint64_t

cpdef uint64_t random_bits(seed, position, choice) except? 0
