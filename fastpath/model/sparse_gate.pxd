# The gate of a sparse network.

cdef void keep_above(float *gate, long size, float cutoff) noexcept nogil
