# A model whose intermediate results an observer can read.
from verbatim.fastpath.cache.pages cimport PagedCache
from libc.stdint cimport int32_t


cdef class Watched:
    cdef public object watch
    cdef object failure

    cdef int show(self, long layer, const char *operation, float *x, long rows, long width) noexcept nogil
    cdef int show_cached(self, long layer, long pages_at, const int32_t *pages, long num_tokens,
                         PagedCache cache) noexcept nogil
    cdef raise_failure(self)
