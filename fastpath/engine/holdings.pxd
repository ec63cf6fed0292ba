# C types for reference/engine/holdings.py, which is compiled as this module.
cimport cython

from verbatim.fastpath.cache.pages cimport PagedCache


cdef class Holdings:
    cdef readonly PagedCache cache
    cdef readonly object prefix_cache, waiting, window, slots
    cdef readonly list running
    cdef readonly long prefill_chunk_size, sinks
    cdef long _num_preempted

    cdef _settle_states(self)
    @cython.locals(index=long, first=long, pages=tuple)
    cdef _release_behind_window(self, sequence, long start)
    cdef long _most_pages(self, long num_tokens) except -1
    @cython.locals(first=long, needed=long, pages=tuple)
    cdef bint _reserve(self, sequence, long start, long stop) except -1
    @cython.locals(slot=long)
    cdef long _reserve_slot(self, sequence) except -2
    cdef bint _free_a_page(self, sequence) except -1
    @cython.locals(holders=list)
    cdef bint _preempt(self, sequence) except -1
    cdef _match_prefix(self, sequence)
    cdef _drop_pages(self, sequence)


cdef tuple _replace_page(tuple pages, long index, page)
