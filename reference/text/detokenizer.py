"""Mirrored. Bytes to text, never half a character: bytes wait until they complete a UTF-8 sequence.

Deltas joined equal the whole text. A byte that can begin or continue nothing becomes U+FFFD at once; a sequence that
the end of the answer breaks off becomes one U+FFFD (the practice of the Unicode Standard, section 3.9). The fast path
compiles this file.
"""

from codecs import utf_8_decode


class Detokenizer:
    """The text of one choice."""

    def __init__(self):
        self._waiting = b""

    def push(self, released: bytes) -> str:
        """Return the text that these bytes complete."""
        if not self._waiting and released.isascii():  # most tokens, and there is a faster way for them
            return released.decode("ascii")
        data = self._waiting + released if self._waiting else released
        text, consumed = utf_8_decode(data, "replace", False)
        self._waiting = data[consumed:]
        return text

    def finish(self) -> str:
        """Return the rest: U+FFFD if a character was left incomplete, else nothing."""
        rest, self._waiting = self._waiting, b""
        return rest.decode(errors="replace")
