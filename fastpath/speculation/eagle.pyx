"""Mirrored. Eagle: from a state and the token drawn from it, a head of one decoder layer guesses the next state."""

import numpy as np

from verbatim.fastpath.speculation.speculators cimport Speculator

from verbatim.fastpath.cache.pages import pages_for
from verbatim.fastpath.speculation.speculators import guess, shares
from verbatim.reference.records.sequence import Chunk, wanted_rows


cdef class _Past:
    """What an eagle head knows of a sequence, from position `start` on: each state with the token drawn from it.

    The first `num_taken` lie in `pages`; `states` are those behind, (tokens, hidden).
    """

    cdef long start, num_taken
    cdef object states
    cdef list pages

    def __init__(self, long start, states):
        self.start, self.states, self.num_taken, self.pages = start, states, 0, []

    cdef long stop(self) except -1:
        """The position behind the last state."""
        return self.start + self.num_taken + len(self.states)

    cdef cut(self, long stop):
        """Forget the states from that position on."""
        self.num_taken = min(self.num_taken, stop - self.start)
        self.states = self.states[: stop - self.start - self.num_taken]


cdef class EagleSpeculator(Speculator):
    """Lets a head of one layer, `head`, guess state after state, looking back over the model's true ones.

    It has seen only what was computed while the sequence ran: behind a beginning from the prefix cache it starts anew,
    as if the text began there.
    """

    needs_states = True
    cdef readonly object model, head, cache
    cdef dict _pasts

    def __init__(self, model, head, cache):
        self.model, self.head, self.cache, self._pasts = model, head, cache, {}

    def propose(self, dict lengths) -> None:
        """Set `draft_ids` of each sequence; one without pages, or beyond the head's context, goes without."""
        writing = [sequence for sequence, length in lengths.items() if self._reserve(sequence, length)]
        chunks, given = [self._chunk(sequence) for sequence in writing], [self._take(one) for one in writing]
        while writing:
            states = self.head.states(chunks, self.cache, np.concatenate(given))[wanted_rows(chunks)]
            rows = self.model.score(states)
            going = [at for at, (sequence, row) in enumerate(zip(writing, rows))
                     if guess(sequence, sequence.draft_ids, row) and len(sequence.draft_ids) < lengths[sequence]]
            chunks, given = [self._next(writing[at], chunks[at]) for at in going], [states[going]]
            writing = [writing[at] for at in going]

    def observe(self, work, states) -> None:
        """Add a pass's states to each sequence's; where they do not follow, begin anew with them."""
        cdef _Past past
        for sequence, chunk, rows in shares(work, states):
            past = self._pasts.get(sequence)
            if past is not None and past.start <= chunk.start <= past.stop():
                past.cut(chunk.start)
                past.states = np.concatenate([past.states, rows])
            else:
                self.forget(sequence)
                self._pasts[sequence] = _Past(chunk.start, rows)

    def branch(self, sequence, forks) -> None:
        """The further choices have the same prompt."""
        cdef _Past past = self._pasts[sequence]
        for fork in forks:
            self._pasts[fork] = _Past(past.start, past.states)

    def forget(self, sequence) -> None:
        """A sequence has ended."""
        cdef _Past past = self._pasts.pop(sequence, None)
        if past is not None:
            self.cache.release(past.pages)

    def check(self) -> None:
        """Raise if pages are lost or used twice."""
        self.cache.check([(<_Past>past).pages for past in self._pasts.values()])

    cdef bint _reserve(self, sequence, long length) except -1:
        """Drop the states of guesses that were wrong, and reserve pages for what comes."""
        cdef _Past past = self._pasts[sequence]
        cdef long num_tokens, missing
        sequence.draft_ids = []
        past.cut(len(sequence) - 1)
        num_tokens = past.stop() - past.start + length - 1
        missing = pages_for(num_tokens) - len(past.pages)
        if length == 0 or missing > self.cache.num_free or num_tokens > self.head.config.context_size:
            return False
        past.pages.extend([self.cache.allocate() for _ in range(missing)])
        return True

    cdef _chunk(self, sequence):
        """The true states that the head has not taken in yet, each with the token that was drawn from it."""
        cdef _Past past = self._pasts[sequence]
        token_ids = sequence.tokens(past.start + past.num_taken + 1, len(sequence))
        return Chunk(token_ids=token_ids, start=past.num_taken, pages=tuple(past.pages))

    cdef _take(self, sequence):
        """Those states, now in the head's own cache; the last is always taken in again, for what is guessed from it."""
        cdef _Past past = self._pasts[sequence]
        cdef long last = len(past.states) - 1
        states = past.states
        past.num_taken, past.states = past.num_taken + last, states[last:]
        return states

    cdef _next(self, sequence, chunk):
        """The last guess, which goes with the state that it was guessed from."""
        start = chunk.start + len(chunk.token_ids)
        last = sequence.draft_ids[len(sequence.draft_ids) - 1]
        return Chunk(token_ids=(last,), start=start, pages=chunk.pages)
