"""Logits that stay on the device until somebody asks for them: a row is sampled and scored where it lies.

As NumPy arrays (`np.asarray`) they come over; that is what draft models and --explain do.
"""

import numpy as np


class Logits:
    """Rows of logits (rows, vocab) of a model's latest pass; the next pass takes their place."""

    def __init__(self, model, address: int, peaks: np.ndarray):
        self.model, self._address, self._generation = model, address, model.generation
        self.peaks = peaks  # int32 (rows, 2): the id of the largest, and 1 if all are finite

    def __len__(self) -> int:
        return len(self.peaks)

    def __getitem__(self, row: int):
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} rows of logits")
        return Row(self, row % len(self))

    def __iter__(self):
        return (self[row] for row in range(len(self)))

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self.read(0, len(self)).astype(dtype or np.float32, copy=False)

    def address(self, row: int) -> int:
        """Where a row lies; ValueError if another pass has taken its place."""
        if self._generation != self.model.generation:
            raise ValueError("these logits are gone: the model has computed others since")
        return self._address + 4 * row * self.model.config.vocab_size

    def read(self, start: int, stop: int) -> np.ndarray:
        """Some rows on the host."""
        return self.model.device.read(self.address(start), (stop - start, self.model.config.vocab_size))


class Row:
    """One row of logits on a device."""

    def __init__(self, logits: Logits, index: int):
        self._logits, self._index = logits, index

    def __len__(self) -> int:
        return self.model.config.vocab_size

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self._logits.read(self._index, self._index + 1)[0].astype(dtype or np.float32, copy=False)

    @property
    def model(self):
        """Whose logits they are."""
        return self._logits.model

    @property
    def index(self) -> int:
        """Its number among the rows of its pass."""
        return self._index

    @property
    def start(self) -> int:
        """Where the first row of its pass lies."""
        return self._logits.address(0)

    @property
    def peak(self) -> int:
        """The id of the largest logit, ties to the lowest."""
        return int(self._logits.peaks[self._index, 0])

    @property
    def is_finite(self) -> bool:
        """Whether every logit is a finite number."""
        return bool(self._logits.peaks[self._index, 1])
