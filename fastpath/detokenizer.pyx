"""Mirrored. Bytes to text, never half a character: bytes wait until they complete a UTF-8 sequence.

Python's incremental decoder is in C already and has the very rule that reference/detokenizer.py states.
"""

from codecs import getincrementaldecoder


cdef class Detokenizer:
    """The text side of one choice."""

    cdef object _decode

    def __init__(self):
        self._decode = getincrementaldecoder("utf-8")(errors="replace").decode

    def push(self, bytes released) -> str:
        """The text that these bytes complete."""
        return self._decode(released)

    def finish(self) -> str:
        """The rest: U+FFFD if a character was left incomplete, else nothing."""
        return self._decode(b"", final=True)
