"""Mirrored. LoRA adapters in memory: what each adds to the products of its rows (N13).

A row of a batch depends on its own adapter alone; a row without one has the model's own bits.
"""

from typing import Any

import numpy as np

from verbatim.reference.checkpoint.lora.adapter import Adapter, LowRank
from verbatim.reference.numerics.arithmetic import linear
from verbatim.reference.records.sequence import Chunk

Places = list[dict[str, Any]]  # for each layer its linear functions by name, as modules.py names them


class Delta:
    """scale * (B (A x)): called with (rows, inputs), returns (rows, outputs)."""

    def __init__(self, stored: LowRank):
        self.a, self.b = (np.asfortranarray(matrix.weight.float32()) for matrix in (stored.a, stored.b))
        self.scale = stored.scale

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Two products in the order of N3, the second times the scale."""
        return linear(linear(x, self.a), self.b) * self.scale


class Adapters:
    """The adapters that a model has in memory, by their keys."""

    def __init__(self, layers: Places):
        self._layers = layers
        self._loaded: dict[str, list[dict[str, Delta]]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._loaded

    def add(self, adapter: Adapter) -> None:
        """Take an adapter of this model into memory; one that is there already stays."""
        if adapter.key not in self._loaded:
            layers = [{place: Delta(stored) for place, stored in layer.items()} for layer in adapter.layers]
            self._loaded[adapter.key] = layers

    def remove(self, key: str) -> None:
        """Take an adapter out of memory."""
        del self._loaded[key]

    def apply(self, chunks: list[Chunk]) -> None:
        """Let the next pass add to the rows of each chunk what its adapter says; KeyError for one that is not there."""
        for layer in self._layers:
            for function in layer.values():
                function.deltas = []
        row = 0
        for chunk in chunks:
            rows = slice(row, row := row + len(chunk.token_ids))
            if chunk.adapter:
                for functions, deltas in zip(self._layers, self._loaded[chunk.adapter], strict=True):
                    for place, delta in deltas.items():
                        functions[place].deltas.append((rows, delta))
