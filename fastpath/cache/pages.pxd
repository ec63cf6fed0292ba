# Pages of keys and values, as the model reaches them.
from libc.stdint cimport int32_t

from verbatim.fastpath.machine.dispatch cimport PACK

cpdef enum:
    PAGE_SIZE = PACK
    NO_PAGE = -1  # stands in a list of pages for one that was released, as no token attends to it any more


cpdef long pages_for(long num_tokens) noexcept


cdef struct layer_pages:  # of one layer; `values` are NULL where keys hold them
    char *keys
    char *values
    long num_kv_heads, head_dim, padded


cdef class PagedCache:
    cdef readonly object keys, values, states
    cdef readonly str dtype
    cdef int kernel_dtype
    cdef readonly long num_pages
    cdef readonly long num_idle
    cdef readonly dict let_go
    cdef list _users, _free
    cdef dict _kept
    cdef list _groups, _places
    cdef layer_pages *_layers
    cdef long num_layers, latent_at, _size

    cdef _place(self, layer_pages *layer, long group, long place)
    cpdef bint is_shared(self, long page)
    cdef char *layer_keys(self, long layer) noexcept nogil
    cdef char *layer_values(self, long layer) noexcept nogil
    cdef void store(self, long layer, const int32_t *pages, long position, const float *key,
                    const float *value) noexcept nogil
