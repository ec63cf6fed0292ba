"""Mirrored. Medusa heads: each predicts one token behind the next, from the state that the next is sampled from.

A head is a few blocks x + silu(linear(x)) over the model's normed last state, scored by the model's own output layer
unless the heads have their own (https://arxiv.org/abs/2401.10774).
"""

import numpy as np

from verbatim.reference.checkpoint.medusa import MedusaCheckpoint
from verbatim.reference.model.decoder import Model
from verbatim.reference.model.layers import Linear
from verbatim.reference.numerics.arithmetic import silu
from verbatim.reference.records.sequence import Chunk, Sequence
from verbatim.reference.speculation.speculators import Speculator, extend_draft, split_rows


class MedusaHeads:
    """The heads with their weights in memory, float as they are stored."""

    def __init__(self, checkpoint: MedusaCheckpoint):
        self.blocks = [[Linear(block) for block in head] for head in checkpoint.blocks]
        self.outputs = [Linear(output) for output in checkpoint.outputs]

    def __len__(self) -> int:
        """How many tokens they predict at most."""
        return len(self.blocks)

    def score(self, states: np.ndarray, count: int, model: Model) -> np.ndarray:
        """Logits float32 (count, rows, vocab) of the first `count` heads over states (rows, hidden) of the model."""
        applied = [self._apply(states, blocks) for blocks in self.blocks[:count]]
        if self.outputs:
            return np.stack([output(x) for output, x in zip(self.outputs, applied, strict=False)])
        return model.score(np.concatenate(applied)).reshape(count, len(states), -1)

    def _apply(self, x: np.ndarray, blocks: list[Linear]) -> np.ndarray:
        for block in blocks:
            x = x + silu(block(x))
        return x


class MedusaSpeculator(Speculator):
    """Proposes one draft token a head, from the state that the last token was sampled from."""

    needs_states = True

    def __init__(self, model, heads):
        self.model, self.heads = model, heads
        self._last: dict[Sequence, tuple[int, np.ndarray]] = {}  # where the last chunk began, and its states

    def propose(self, lengths: dict[Sequence, int]) -> None:
        """Set `draft_ids` of each sequence, at most so many, and at most one a head."""
        for sequence in lengths:
            sequence.draft_ids = []
        count = min(len(self.heads), max(lengths.values(), default=0))
        if not count:
            return
        rows = self.heads.score(np.stack([self._state(sequence) for sequence in lengths]), count, self.model)
        for at, (sequence, length) in enumerate(lengths.items()):
            for head in range(min(count, length)):
                if not extend_draft(sequence, sequence.draft_ids, rows[head, at]):
                    break

    def observe(self, work: list[tuple[Sequence, Chunk]], states) -> None:
        """Keep each sequence's states of this pass: one of them is the last, however many draft tokens are accepted."""
        self._last |= {sequence: (chunk.start, rows) for sequence, chunk, rows in split_rows(work, states)}

    def branch(self, sequence: Sequence, forks: list[Sequence]) -> None:
        """Give the further choices the state that the first was sampled from."""
        self._last |= dict.fromkeys(forks, self._last[sequence])

    def remove(self, sequence: Sequence) -> None:
        """Drop the states of a sequence that has finished."""
        self._last.pop(sequence, None)

    def _state(self, sequence: Sequence) -> np.ndarray:
        start, states = self._last[sequence]
        return states[len(sequence) - 2 - start]
