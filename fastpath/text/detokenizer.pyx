"""Mirrored. Bytes to text, never half a character: bytes wait until they complete a UTF-8 sequence.

CPython's decoder that stops before an incomplete sequence has the very rule that reference/text/detokenizer.py states.
"""

cdef extern from "Python.h":
    str PyUnicode_DecodeUTF8Stateful(const char *data, Py_ssize_t size, const char *errors, Py_ssize_t *consumed)


cdef class Detokenizer:
    """The text side of one choice."""

    def __init__(self):
        self.waiting = b""

    cpdef str push(self, bytes released):
        """The text that these bytes complete."""
        cdef bytes data = self.waiting + released if self.waiting else released
        cdef Py_ssize_t consumed = 0
        text = PyUnicode_DecodeUTF8Stateful(data, len(data), b"replace", &consumed)
        self.waiting = data[consumed:] if consumed < len(data) else b""
        return text

    cpdef str finish(self):
        """The rest: U+FFFD if a character was left incomplete, else nothing."""
        rest, self.waiting = self.waiting, b""
        return rest.decode(errors="replace")
