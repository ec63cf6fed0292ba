"""Shared. One vector for a whole text: the mean of its tokens' last states, or the state of its last token.

States are those after the model's last norm. They are added in float64, token by token, so the bits do not depend on
how the prompt was cut or where it began; the vector is then made one long (L2) and rounded to float32 once. Which of
the two a model was made for stands in `1_Pooling/config.json` beside it (sentence-transformers); else it is the mean.
"""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from verbatim.reference.records.config import read_json
from verbatim.reference.records.errors import ModelError, NumericsError
from verbatim.reference.records.request import POOLINGS

SETTINGS = "1_Pooling/config.json"
MODES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_lasttoken": "last"}


class Pool:
    """Takes in a prompt's states as they come; `pooling` is "mean" or "last"."""

    def __init__(self, pooling: str):
        assert pooling in POOLINGS
        self.pooling = pooling
        self._sum: np.ndarray | None = None

    def add(self, states: Iterable[np.ndarray]) -> None:
        """States float32 (tokens, hidden) of the next tokens; with "last" the last of them counts."""
        for state in states:
            state = state.astype(np.float64)
            self._sum = state if self._sum is None or self.pooling == "last" else self._sum + state

    def vector(self) -> tuple[float, ...]:
        """The vector, one long; how many states it is the mean of changes nothing then."""
        assert self._sum is not None, "no states were added"
        return unit(self._sum)


def unit(vector: np.ndarray) -> tuple[float, ...]:
    """A vector's direction in float32, as numbers. NumericsError if it has none."""
    length = math.sqrt(math.fsum(value * value for value in vector.tolist()))
    if not 0 < length < math.inf:
        raise NumericsError("the text's states are not finite, or all 0: they have no direction")
    return tuple((vector / length).astype(np.float32).tolist())


def load_pooling(directory: Path) -> str:
    """The pooling that a model directory asks for. ModelError if it is of another kind than these."""
    path = directory / SETTINGS
    if not path.exists():
        return "mean"
    settings = read_json(path)
    wanted = [mode for mode in settings if mode.startswith("pooling_mode_") and settings[mode] is True]
    if len(wanted) != 1 or wanted[0] not in MODES:
        raise ModelError(f"{path} must ask for one of {', '.join(MODES)}, not {', '.join(wanted) or 'nothing'}")
    return MODES[wanted[0]]
