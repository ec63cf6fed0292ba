# C types for reference/text/detokenizer.py, which is compiled as this module.
cimport cython


cdef class Detokenizer:
    cdef bytes _waiting

    @cython.locals(data=bytes, text=str, consumed=Py_ssize_t)
    cpdef str push(self, bytes released)
    @cython.locals(rest=bytes)
    cpdef str finish(self)
