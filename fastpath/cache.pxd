# Pages of keys and values, as the model reaches them.
from libc.stdint cimport int32_t


cdef class PagedCache:
    cdef readonly object keys, values
    cdef readonly long num_pages
    cdef readonly long num_idle
    cdef readonly dict let_go
    cdef list _users, _free
    cdef dict _kept
    cdef float *_keys
    cdef float *_values
    cdef long _layer_keys, _layer_values, num_kv_heads, head_dim, padded

    cpdef bint is_shared(self, long page)
    cdef float *layer_keys(self, long layer) noexcept nogil
    cdef float *layer_values(self, long layer) noexcept nogil
    cdef void store(self, long layer, const int32_t *pages, long position, const float *key,
                    const float *value) noexcept nogil
