"""Mirrored. Medusa heads: each predicts one token behind the next, from the state that the next is sampled from."""

import numpy as np

from verbatim.fastpath.speculation.speculators cimport Speculator

from verbatim.fastpath.model.layers import pack
from verbatim.fastpath.numerics.arithmetic import silu
from verbatim.fastpath.speculation.speculators import extend_draft, split_rows


cdef class MedusaHeads:
    """The heads with their weights in memory, float as they are stored."""

    cdef list blocks, outputs

    def __init__(self, checkpoint):
        self.blocks = [[pack(block) for block in head] for head in checkpoint.blocks]
        self.outputs = [pack(output) for output in checkpoint.outputs]

    def __len__(self):
        return len(self.blocks)

    def score(self, states, long count, model):
        """Logits float32 (count, rows, vocab) of the first `count` heads over states (rows, hidden) of the model."""
        applied = [self._apply(states, blocks) for blocks in self.blocks[:count]]
        if self.outputs:
            return np.stack([output(x) for output, x in zip(self.outputs, applied)])
        return model.score(np.concatenate(applied)).reshape(count, len(states), -1)

    cdef _apply(self, x, list blocks):
        for block in blocks:
            x = x + silu(block(x))
        return x


cdef class MedusaSpeculator(Speculator):
    """Proposes one draft token a head, from the state that the last token was sampled from."""

    needs_states = True
    cdef readonly object model, heads
    cdef dict _last  # of each sequence, where its last chunk began, and the states of it

    def __init__(self, model, heads):
        self.model, self.heads, self._last = model, heads, {}

    def propose(self, dict lengths) -> None:
        """Set `draft_ids` of each sequence, at most so many, and at most one a head."""
        cdef long count = min(len(self.heads), max(lengths.values(), default=0)), head, at
        for sequence in lengths:
            sequence.draft_ids = []
        if count == 0:
            return
        rows = self.heads.score(np.stack([self._state(sequence) for sequence in lengths]), count, self.model)
        for at, (sequence, length) in enumerate(lengths.items()):
            for head in range(min(count, <long>length)):
                if not extend_draft(sequence, sequence.draft_ids, rows[head, at]):
                    break

    def observe(self, work, states) -> None:
        """Keep each sequence's states of this pass: one of them is the last, however many draft tokens are accepted."""
        for sequence, chunk, rows in split_rows(work, states):
            self._last[sequence] = chunk.start, rows

    def branch(self, sequence, forks) -> None:
        """Give the further choices the state that the first was sampled from."""
        for fork in forks:
            self._last[fork] = self._last[sequence]

    def remove(self, sequence) -> None:
        """Drop the states of a sequence that has finished."""
        self._last.pop(sequence, None)

    cdef _state(self, sequence):
        start, states = self._last[sequence]
        return states[len(sequence) - 2 - start]
