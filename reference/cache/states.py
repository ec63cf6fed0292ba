"""The states of layers with a mixer (N14), in slots that are counted by reference, as pages are.

A slot holds, for each such layer, the state after some number of tokens of a sequence: a vector of float32 numbers.
Who begins from a state reads its slot; who goes on writes to a slot of its own, perhaps the same one, if nobody else
uses it. So a beginning is shared, kept for later or returned to by holding its slot.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.sequence import Chunk

NO_STATE = -1  # the slot of a sequence without tokens: its states are zeros


class StateCache:
    """`num_slots` slots for `num_layers` layers of `size` numbers each, and how many use each slot.

    `numbers` is float32 (slots, layers, size).
    """

    def __init__(self, num_layers: int, size: int, num_slots: int):
        self.num_slots, self.num_layers, self.size = num_slots, num_layers, size
        self.numbers = np.zeros((num_slots, num_layers, size), np.float32)
        self._users = [0] * num_slots
        self._free = list(range(num_slots - 1, -1, -1))

    @property
    def num_free(self) -> int:
        """Slots that nobody uses."""
        return len(self._free)

    def allocate(self) -> int:
        """Take a free slot; `num_free` must not be 0. Its content is whatever was there."""
        slot = self._free.pop()
        self._users[slot] = 1
        return slot

    def share(self, slots: Sequence[int]) -> list[int]:
        """Count one more user of each slot."""
        for slot in slots:
            self._users[slot] += 1
        return list(slots)

    def release(self, slots: Iterable[int]) -> None:
        """Count one user less of each slot; one without users is free."""
        for slot in slots:
            self._users[slot] -= 1
            if self._users[slot] == 0:
                self._free.append(slot)

    def is_shared(self, slot: int) -> bool:
        """Whether writing to the slot would be seen by another user."""
        return self._users[slot] > 1

    def read(self, layer: int, slot: int) -> np.ndarray:
        """A copy of a layer's state, float32 (size,); zeros for NO_STATE. `layer` counts layers that have one."""
        return np.zeros(self.size, np.float32) if slot == NO_STATE else self.numbers[slot, layer].copy()

    def write(self, layer: int, slot: int, state: np.ndarray) -> None:
        """Store a layer's state, float32 (size,), in a slot that the caller alone uses."""
        self.numbers[slot, layer] = state

    def check_chunks(self, chunks: Iterable[Chunk]) -> None:
        """IndexError for a chunk whose state is missing, or whose slots or counts of tokens there are not."""
        for chunk in chunks:
            slots = [slot for _, slot in chunk.saves] + [chunk.state] * (chunk.state != NO_STATE)
            if not all(0 <= slot < self.num_slots for slot in slots):
                raise IndexError(f"slots must lie in 0..{self.num_slots - 1}, not {slots}")
            if chunk.start and chunk.state == NO_STATE:
                raise IndexError(f"a chunk that begins at position {chunk.start} needs the state before it")
            counts = [0, *[count for count, _ in chunk.saves], len(chunk.token_ids) + 1]
            if not all(before < count for before, count in pairwise(counts)):
                raise IndexError(f"saves must ascend and lie in 1..{len(chunk.token_ids)}, not {chunk.saves}")

    def check(self, holdings: Iterable[Iterable[int]]) -> None:
        """Compare the counts with who holds what: `holdings` are the slots of each user."""
        users = [0] * self.num_slots
        for slots in holdings:
            for slot in slots:
                users[slot] += 1
        assert users == self._users, f"slots in use {users} differ from their counts {self._users}"
        free = [slot for slot, count in enumerate(users) if count == 0]
        assert sorted(self._free) == free, "the list of free slots is wrong"


def make_states(config: ModelConfig, num_slots: int) -> StateCache | None:
    """Slots for the states of a model; None if no layer has one."""
    mixer = getattr(config, "mixer", None)  # a cache can be made of sizes alone
    num_layers = config.num_stateful_layers if mixer else 0
    return StateCache(num_layers, mixer.state_size, num_slots) if mixer and num_layers else None


def sole_state(start: int, num_tokens: int) -> dict[str, Any]:
    """Fields of a Chunk for the only sequence of a cache with one slot, whose chunks follow each other."""
    return {"state": 0 if start else NO_STATE, "saves": ((num_tokens, 0),)}
