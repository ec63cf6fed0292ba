"""Mirrored. Eagle: from a state and the token sampled from it, a head of one decoder layer predicts the next state.

The head is a Model whose input joins a token's embedding with the state before it. The model's own output layer turns
predicted states into draft tokens, and they are the head's next input (https://arxiv.org/abs/2401.15077). The fast path
compiles this file.
"""

import numpy as np

from verbatim.reference.cache.pages import pages_for
from verbatim.reference.records.sequence import Chunk, Sequence, wanted_rows
from verbatim.reference.speculation.speculators import Speculator, extend_draft, split_rows


class _History:
    """The model's states of a sequence from position `start` on, each to go with the token sampled from it.

    The head has computed the first `num_computed`; their keys and values lie in `pages`. `states` are the others,
    float32 (tokens, hidden).
    """

    def __init__(self, start: int, states: np.ndarray):
        self.start, self.states, self.num_computed = start, states, 0
        self.pages: list[int] = []

    def _stop(self) -> int:
        """The position behind the last state."""
        return self.start + self.num_computed + len(self.states)

    def _truncate(self, stop: int) -> None:
        """Drop the states from position `stop` on."""
        self.num_computed = min(self.num_computed, stop - self.start)
        self.states = self.states[: stop - self.start - self.num_computed]


class EagleSpeculator(Speculator):
    """Lets a head of one layer, `head`, predict state after state, attending to the model's true ones.

    It has only the states that were computed while the sequence ran: behind a prefix from the prefix cache it starts
    anew, as if the text began there.
    """

    needs_states = True

    def __init__(self, model, head, cache):
        self.model, self.head, self.cache = model, head, cache
        self._histories: dict[Sequence, _History] = {}

    def propose(self, lengths: dict[Sequence, int]) -> None:
        """Set `draft_ids` of each sequence; one without pages, or beyond the head's context, goes without."""
        writing = [sequence for sequence, length in lengths.items() if self._reserve(sequence, length)]
        chunks = [self._chunk(sequence) for sequence in writing]
        inputs = [self._take_states(sequence) for sequence in writing]
        while writing:
            states = self.head.states(chunks, self.cache, np.concatenate(inputs))[wanted_rows(chunks)]
            rows = self.model.score(states)
            going = [
                i for i, (sequence, row) in enumerate(zip(writing, rows, strict=True))
                if extend_draft(sequence, sequence.draft_ids, row) and len(sequence.draft_ids) < lengths[sequence]
            ]  # fmt: skip
            chunks, inputs = [self._next_chunk(writing[i], chunks[i]) for i in going], [states[going]]
            writing = [writing[i] for i in going]

    def observe(self, work: list[tuple[Sequence, Chunk]], states) -> None:
        """Append a pass's states to each sequence's; where they do not follow, start anew with them."""
        for sequence, chunk, rows in split_rows(work, states):
            if not self._append(self._histories.get(sequence), chunk.start, rows):
                self.remove(sequence)
                self._histories[sequence] = _History(chunk.start, rows)

    def branch(self, sequence: Sequence, forks: list[Sequence]) -> None:
        """Start the further choices with the states of the same prompt."""
        history = self._histories[sequence]
        for fork in forks:
            self._histories[fork] = _History(history.start, history.states)

    def remove(self, sequence: Sequence) -> None:
        """Release the pages of a sequence that has finished, and drop its states."""
        history = self._histories.pop(sequence, None)
        if history is not None:
            self.cache.release(history.pages)

    def check(self) -> None:
        """Raise AssertionError if pages are lost or used twice."""
        self.cache.check([history.pages for history in self._histories.values()])

    def _append(self, history: _History | None, start: int, states: np.ndarray) -> bool:
        """Put states at position `start` and behind it; False if there is a gap before them, or nothing to join."""
        if history is None or not history.start <= start <= history._stop():
            return False
        history._truncate(start)
        history.states = np.concatenate([history.states, states])
        return True

    def _reserve(self, sequence: Sequence, length: int) -> bool:
        """Drop the states of rejected draft tokens, and allocate pages for `length` new ones."""
        sequence.draft_ids, history = [], self._histories[sequence]
        history._truncate(len(sequence) - 1)
        num_tokens = history._stop() - history.start + length - 1
        missing = pages_for(num_tokens) - len(history.pages)
        if length == 0 or missing > self.cache.num_free or num_tokens > self.head.config.context_size:
            return False
        history.pages.extend([self.cache.allocate() for _ in range(missing)])
        return True

    def _chunk(self, sequence: Sequence) -> Chunk:
        """The tokens that go with the true states that the head has not computed yet."""
        history = self._histories[sequence]
        token_ids = sequence.tokens(history.start + history.num_computed + 1, len(sequence))
        return Chunk(token_ids=token_ids, start=history.num_computed, pages=tuple(history.pages))

    def _take_states(self, sequence: Sequence) -> np.ndarray:
        """Those states. They count as computed but for the last, which is computed again: draft tokens follow it."""
        history = self._histories[sequence]
        states, last = history.states, len(history.states) - 1
        history.num_computed, history.states = history.num_computed + last, states[last:]
        return states

    def _next_chunk(self, sequence: Sequence, chunk: Chunk) -> Chunk:
        """The last draft token, which goes with the state that it was sampled from."""
        start = chunk.start + len(chunk.token_ids)
        return Chunk(token_ids=(sequence.draft_ids[-1],), start=start, pages=chunk.pages)
