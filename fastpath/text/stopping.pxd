# C types for reference/text/stopping.py, which is compiled as this module.
cimport cython


cdef class Stopper:
    cdef readonly object stopping
    cdef readonly frozenset stop_ids
    cdef readonly tuple strings
    cdef readonly long max_tokens, min_tokens, num_tokens
    cdef readonly bytes held

    cpdef tuple excluded_ids(self)
    @cython.locals(num_searched=Py_ssize_t)
    cpdef push(self, token_id, bytes token, bint is_complete=*)
    cdef _find_stop_string(self, Py_ssize_t num_searched)
    @cython.locals(longest=Py_ssize_t, count=Py_ssize_t, encoded=bytes)
    cdef Py_ssize_t _num_undecided(self) except -1
    cdef bytes _release(self, Py_ssize_t count)
