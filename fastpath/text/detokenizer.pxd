# Bytes to text, for answer.pyx; detokenizer.pyx says how.


cdef class Detokenizer:
    cdef bytes waiting

    cpdef str push(self, bytes released)
    cpdef str finish(self)
