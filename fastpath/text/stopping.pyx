"""Mirrored. When an answer ends, and which bytes of it may be shown already (docs/semantics.md, "Stopping").

Checked in this order after every token: end-of-sequence ids, stop strings, the count of tokens, the context. Stop
strings are searched in bytes across token borders. While the tail could still become one, just that tail is held.
"""

from typing import NamedTuple

from verbatim.reference.records.request import FinishReason


class Decision(NamedTuple):
    """What one token changes: bytes released by it, and the reason if the answer ends here.

    `stop_reason` is the stop string or token id that ended it.
    """

    released: bytes
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None


cdef class Stopper:
    """The stopping state of one choice: the bytes that are held back, and nothing else."""

    def __init__(self, stopping, *, eos_ids, long num_prompt, long context_size):
        self.stopping = stopping
        self.stop_ids = frozenset(stopping.token_ids) | (frozenset() if stopping.ignore_eos else frozenset(eos_ids))
        self.strings = tuple([(string.encode(), string) for string in stopping.strings])
        self.max_tokens = min(stopping.max_tokens or context_size, context_size - num_prompt)
        self.min_tokens, self.num_tokens = stopping.min_tokens, 0
        self.held = b""

    cpdef tuple excluded_ids(self):
        """Ids that must not be drawn next: those that would end the answer before `min_tokens`."""
        return tuple(sorted(self.stop_ids)) if self.num_tokens < self.min_tokens else ()

    cpdef push(self, token_id, bytes token, bint is_complete=False):
        """Take in a sampled token and its bytes, and whether a grammar is complete with it; decide."""
        self.num_tokens += 1
        if token_id in self.stop_ids:
            released = self._release(len(self.held))
            return Decision(released=released, finish_reason=FinishReason.STOP, stop_reason=token_id)
        if not self.strings and not is_complete and self.num_tokens < self.max_tokens:  # nothing is ever held back
            return tuple.__new__(Decision, (token, None, None))
        num_searched = len(self.held)
        self.held += token
        found = self._find_stop_string(num_searched) if self.num_tokens >= self.min_tokens else None
        if found is not None:
            end, start, string = found
            shown = self.held[: end if self.stopping.include_stop_string else start]
            self.held = b""
            return Decision(released=shown, finish_reason=FinishReason.STOP, stop_reason=string)
        if is_complete:
            return Decision(released=self._release(len(self.held)), finish_reason=FinishReason.STOP)
        if self.num_tokens >= self.max_tokens:
            return Decision(released=self._release(len(self.held)), finish_reason=FinishReason.LENGTH)
        released = self._release(len(self.held) - self._num_undecided())
        return tuple.__new__(Decision, (released, None, None))

    cdef _find_stop_string(self, Py_ssize_t num_searched):
        """The match that ends earliest, and of those the longest: where it ends, where it starts, and its string.

        One that ends in the first `num_searched` bytes ended with an earlier token, below `min_tokens`.
        """
        best = None
        for encoded, string in self.strings:
            start = self.held.find(encoded, max(0, num_searched + 1 - len(encoded)))
            if start >= 0:
                found = (start + len(encoded), start, string)
                best = found if best is None else min(best, found)
        return best

    cdef Py_ssize_t _num_undecided(self):
        """How many bytes at the end could still become a stop string."""
        cdef Py_ssize_t longest = 0, count
        for encoded, _ in self.strings:
            for count in range(min(len(encoded) - 1, len(self.held)), longest, -1):
                if self.held.endswith(encoded[:count]):
                    longest = count
                    break
        return longest

    cdef bytes _release(self, Py_ssize_t count):
        released, self.held = self.held[:count], self.held[count:]
        return released
