"""Mirrored. When an answer ends, and which bytes of it may be shown already (docs/semantics.md, "Stopping").

Checked in this order after every token: end-of-sequence ids, stop strings, a complete grammar, the count of tokens,
the context. Stop strings are searched in bytes across token borders. While the end of the text could still become a
stop string, that end is held back and nothing else. The fast path compiles this file.
"""

from typing import NamedTuple

from verbatim.reference.records.request import FinishReason, StoppingParams


class Decision(NamedTuple):
    """What one token changes: the bytes that may be shown now, and the reason if the answer ends here.

    `stop_reason` is the stop string or token id that ended it.
    """

    released: bytes
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None


class Stopper:
    """The stopping state of one choice: the bytes that are held back, and the count of tokens."""

    def __init__(self, stopping: StoppingParams, *, eos_ids: tuple[int, ...], num_prompt: int, context_size: int):
        self.stopping = stopping
        self.stop_ids = frozenset(stopping.token_ids) | (frozenset() if stopping.ignore_eos else frozenset(eos_ids))
        self.strings = tuple([(string.encode(), string) for string in stopping.strings])
        self.max_tokens = min(stopping.max_tokens or context_size, context_size - num_prompt)
        self.min_tokens = min(stopping.min_tokens, context_size)
        self.num_tokens = 0
        self.held = b""

    def excluded_ids(self) -> tuple[int, ...]:
        """Ids that must not be sampled next: those that would end the answer before `min_tokens`."""
        return tuple(sorted(self.stop_ids)) if self.num_tokens < self.min_tokens else ()

    def push(self, token_id: int, token: bytes, is_complete: bool = False) -> Decision:
        """Add a sampled token and its bytes, and decide; `is_complete` says that a grammar is complete with it."""
        self.num_tokens += 1
        if token_id in self.stop_ids:
            return Decision(self._release(len(self.held)), FinishReason.STOP, token_id)
        if not self.strings and not is_complete and self.num_tokens < self.max_tokens:  # nothing is ever held back
            return tuple.__new__(Decision, (token, None, None))  # a third of the time of Decision(token)
        num_searched = len(self.held)
        self.held += token
        match = self._find_stop_string(num_searched) if self.num_tokens >= self.min_tokens else None
        if match is not None:
            end, start, string = match
            shown = self.held[: end if self.stopping.include_stop_string else start]
            self.held = b""
            return Decision(shown, FinishReason.STOP, string)
        if is_complete:
            return Decision(self._release(len(self.held)), FinishReason.STOP)
        if self.num_tokens >= self.max_tokens:
            return Decision(self._release(len(self.held)), FinishReason.LENGTH)
        return tuple.__new__(Decision, (self._release(len(self.held) - self._num_undecided()), None, None))

    def _find_stop_string(self, num_searched: int) -> tuple[int, int, str] | None:
        """The match that ends earliest, and of those the longest: where it ends, where it starts, and its string.

        A match that ends in the first `num_searched` bytes ended with an earlier token, below `min_tokens`.
        """
        best = None
        for encoded, string in self.strings:
            start = self.held.find(encoded, max(0, num_searched + 1 - len(encoded)))
            if start >= 0:
                match = (start + len(encoded), start, string)
                best = match if best is None else min(best, match)
        return best

    def _num_undecided(self) -> int:
        """How many bytes at the end could still become a stop string."""
        longest = 0
        for encoded, _ in self.strings:
            for count in range(min(len(encoded) - 1, len(self.held)), longest, -1):
                if self.held.endswith(encoded[:count]):
                    longest = count
                    break
        return longest

    def _release(self, count: int) -> bytes:
        """Take the first `count` of the bytes that are held back."""
        released, self.held = self.held[:count], self.held[count:]
        return released
