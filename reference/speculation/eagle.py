"""Mirrored. Eagle: from a state and the token drawn from it, a head of one decoder layer guesses the next state.

The head is a Model whose input joins a token's embedding with the state before it; its guessed states are scored by the
model's own output layer and are its next input (https://arxiv.org/abs/2401.15077).
"""

from dataclasses import dataclass, field

import numpy as np

from verbatim.reference.cache.pages import pages_for
from verbatim.reference.records.sequence import Chunk, Sequence, wanted_rows
from verbatim.reference.speculation.speculators import Speculator, guess, shares


@dataclass(slots=True, eq=False)
class _Past:
    """What an eagle head knows of a sequence, from position `start` on: each state with the token drawn from it.

    The first `num_taken` lie in `pages`; `states` are those behind, (tokens, hidden).
    """

    start: int
    states: np.ndarray
    num_taken: int = 0
    pages: list[int] = field(default_factory=list)

    @property
    def stop(self) -> int:
        """The position behind the last state."""
        return self.start + self.num_taken + len(self.states)

    def cut(self, stop: int) -> None:
        """Forget the states from that position on."""
        self.num_taken = min(self.num_taken, stop - self.start)
        self.states = self.states[: stop - self.start - self.num_taken]


class EagleSpeculator(Speculator):
    """Lets a head of one layer, `head`, guess state after state, looking back over the model's true ones.

    It has seen only what was computed while the sequence ran: behind a beginning from the prefix cache it starts anew,
    as if the text began there.
    """

    needs_states = True

    def __init__(self, model, head, cache):
        self.model, self.head, self.cache = model, head, cache
        self._pasts: dict[Sequence, _Past] = {}

    def propose(self, lengths: dict[Sequence, int]) -> None:
        """Set `draft_ids` of each sequence; one without pages, or beyond the head's context, goes without."""
        writing = [sequence for sequence, length in lengths.items() if self._reserve(sequence, length)]
        chunks, given = [self._chunk(sequence) for sequence in writing], [self._take(one) for one in writing]
        while writing:
            states = self.head.states(chunks, self.cache, np.concatenate(given))[wanted_rows(chunks)]
            rows = self.model.score(states)
            going = [
                at for at, (sequence, row) in enumerate(zip(writing, rows, strict=True))
                if guess(sequence, sequence.draft_ids, row) and len(sequence.draft_ids) < lengths[sequence]
            ]  # fmt: skip
            chunks, given = [self._next(writing[at], chunks[at]) for at in going], [states[going]]
            writing = [writing[at] for at in going]

    def observe(self, work: list[tuple[Sequence, Chunk]], states) -> None:
        """Add a pass's states to each sequence's; where they do not follow, begin anew with them."""
        for sequence, chunk, rows in shares(work, states):
            past = self._pasts.get(sequence)
            if past is not None and past.start <= chunk.start <= past.stop:
                past.cut(chunk.start)
                past.states = np.concatenate([past.states, rows])
            else:
                self.forget(sequence)
                self._pasts[sequence] = _Past(chunk.start, rows)

    def branch(self, sequence: Sequence, forks: list[Sequence]) -> None:
        """The further choices have the same prompt."""
        past = self._pasts[sequence]
        self._pasts |= {fork: _Past(past.start, past.states) for fork in forks}

    def forget(self, sequence: Sequence) -> None:
        """A sequence has ended."""
        past = self._pasts.pop(sequence, None)
        self.cache.release(past.pages if past is not None else [])

    def check(self) -> None:
        """Raise if pages are lost or used twice."""
        self.cache.check([past.pages for past in self._pasts.values()])

    def _reserve(self, sequence: Sequence, length: int) -> bool:
        """Drop the states of guesses that were wrong, and reserve pages for what comes."""
        sequence.draft_ids, past = [], self._pasts[sequence]
        past.cut(len(sequence) - 1)
        num_tokens = past.stop - past.start + length - 1
        missing = pages_for(num_tokens) - len(past.pages)
        if length == 0 or missing > self.cache.num_free or num_tokens > self.head.config.context_size:
            return False
        past.pages.extend(self.cache.allocate() for _ in range(missing))
        return True

    def _chunk(self, sequence: Sequence) -> Chunk:
        """The true states that the head has not taken in yet, each with the token that was drawn from it."""
        past = self._pasts[sequence]
        token_ids = sequence.tokens(past.start + past.num_taken + 1, len(sequence))
        return Chunk(token_ids=token_ids, start=past.num_taken, pages=tuple(past.pages))

    def _take(self, sequence: Sequence) -> np.ndarray:
        """Those states, now in the head's own cache; the last is always taken in again, for what is guessed from it."""
        past = self._pasts[sequence]
        states, past.num_taken, past.states = past.states, past.stop - past.start - 1, past.states[-1:]
        return states

    def _next(self, sequence: Sequence, chunk: Chunk) -> Chunk:
        """The last guess, which goes with the state that it was guessed from."""
        start = chunk.start + len(chunk.token_ids)
        return Chunk(token_ids=(sequence.draft_ids[-1],), start=start, pages=chunk.pages)
