# C types for reference/speculation/speculators.py, which is compiled as this module.
cimport cython


cdef class Speculator:
    pass


cdef class NgramSpeculator(Speculator):
    pass


cdef class _Draft:
    cdef public list token_ids, pages, draft_ids

    cpdef _chunk(self, sequence)


cdef class DraftSpeculator(Speculator):
    cdef readonly object model, cache
    cdef long spec_tree_width
    cdef dict _drafts

    @cython.locals(draft=_Draft, num_known=Py_ssize_t, missing=long, token_ids=tuple)
    cdef bint _reserve(self, sequence, long length) except -1
    cdef list _extend(self, list drafts)
    @cython.locals(sides=list)
    cdef list _sides(self, sequence, _Draft draft, logits, long length)


@cython.locals(count=Py_ssize_t, size=Py_ssize_t, end=Py_ssize_t, best_end=Py_ssize_t, best_size=Py_ssize_t)
cpdef list lookup(tuple token_ids, long length)
