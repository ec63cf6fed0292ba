"""Mirrored. Bytes to text, never half a character: bytes wait until they complete a UTF-8 sequence.

Deltas joined equal the whole text. A byte that can begin or continue nothing becomes U+FFFD at once; a sequence that
the end of the answer breaks off becomes one U+FFFD (the practice of the Unicode Standard, section 3.9).
"""

import codecs


class Detokenizer:
    """The text side of one choice."""

    def __init__(self):
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, released: bytes) -> str:
        """The text that these bytes complete."""
        return self._decoder.decode(released)

    def finish(self) -> str:
        """The rest: U+FFFD if a character was left incomplete, else nothing."""
        return self._decoder.decode(b"", final=True)
