# C types for reference/speculation/eagle.py, which is compiled as this module.
cimport cython

from verbatim.fastpath.speculation.speculators cimport Speculator


cdef class _History:
    cdef readonly long start, num_computed
    cdef readonly object states
    cdef readonly list pages

    cdef long _stop(self) except -1
    cdef _truncate(self, long stop)


cdef class EagleSpeculator(Speculator):
    cdef readonly object model, head, cache
    cdef dict _histories

    cdef bint _append(self, _History history, long start, states) except -1
    @cython.locals(history=_History, num_tokens=long, missing=long)
    cdef bint _reserve(self, sequence, long length) except -1
    @cython.locals(history=_History)
    cdef _chunk(self, sequence)
    @cython.locals(history=_History, last=long)
    cdef _take_states(self, sequence)
    cdef _next_chunk(self, sequence, chunk)
