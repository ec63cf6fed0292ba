"""Shared. The embedding of a text: the mean of its tokens' states, or the state of its last token.

States are taken after the model's final norm. They are added in float64, token by token, so the bits do not depend on
the chunks of the prompt; the sum is then normalised to length 1 (L2) and rounded to float32 once.
"""

import math
from collections.abc import Iterable

import numpy as np

from verbatim.reference.records.errors import NumericsError
from verbatim.reference.records.request import POOLINGS


class Pool:
    """Accumulates a prompt's states, chunk by chunk; `pooling` is "mean" or "last"."""

    def __init__(self, pooling: str):
        assert pooling in POOLINGS
        self.pooling = pooling
        self._sum: np.ndarray | None = None

    def add(self, states: Iterable[np.ndarray]) -> None:
        """Add states float32 (tokens, hidden) of the next tokens; "last" keeps only the last."""
        for state in states:
            state = state.astype(np.float64)
            self._sum = state if self._sum is None or self.pooling == "last" else self._sum + state

    def vector(self) -> tuple[float, ...]:
        """The vector of length 1; dividing the sum by the number of states would not change it."""
        assert self._sum is not None, "no states were added"
        return unit(self._sum)


def unit(vector: np.ndarray) -> tuple[float, ...]:
    """A vector divided by its length, in float32. NumericsError for a length of 0 or infinity."""
    length = math.sqrt(math.fsum(value * value for value in vector.tolist()))
    if not 0 < length < math.inf:
        raise NumericsError("the text's states are not finite, or all 0: they have no direction")
    return tuple((vector / length).astype(np.float32).tolist())
