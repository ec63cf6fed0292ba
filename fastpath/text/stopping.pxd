# What may be shown and when an answer ends, for answer.pyx; stopping.pyx says how.


cdef class Stopper:
    cdef readonly object stopping, stop_ids
    cdef readonly tuple strings
    cdef readonly long max_tokens, num_tokens
    cdef readonly bytes held
    cdef long min_tokens

    cpdef tuple excluded_ids(self)
    cpdef push(self, token_id, bytes token, bint is_complete=*)
    cdef _find_stop_string(self, Py_ssize_t num_searched)
    cdef Py_ssize_t _num_undecided(self)
    cdef bytes _release(self, Py_ssize_t count)
