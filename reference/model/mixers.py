"""Mirrored. What a layer with a state computes in the place of attention, or beside it: a class for each kind (N14).

A mixer has three steps. `inputs` and `output` are products of all rows of a batch, each by itself; `scan` goes through
the tokens of one chunk in order, from the state before the first. Cutting a text into chunks, and returning to an
earlier state, changes no bit.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from verbatim.reference.cache.states import StateCache
from verbatim.reference.model.gated_delta import GatedDeltaMixer
from verbatim.reference.model.mamba import MambaMixer
from verbatim.reference.model.short_convolution import ShortConvolutionMixer
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.gated_delta import GatedDelta
from verbatim.reference.records.mamba import Mamba
from verbatim.reference.records.mixer import Mixer, ShortConvolution
from verbatim.reference.records.sequence import Chunk


class MixerLayer(Protocol):
    """A mixer of one layer with its weights in memory; `size` is that of its state."""

    size: int

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """What the scan takes, float32 (tokens, width), of normed rows (tokens, hidden)."""

    def scan(self, rows: np.ndarray, state: np.ndarray, counts: list[int]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Outputs (tokens, features) of one chunk's rows, and the states (size,) after each of so many tokens.

        `state` (size,) is that before the first row, and is not changed.
        """

    def output(self, rows: np.ndarray) -> np.ndarray:
        """What is added to the hidden rows, (tokens, hidden), of outputs of `scan`."""


MIXERS: dict[type[Mixer], Any] = {
    ShortConvolution: ShortConvolutionMixer, Mamba: MambaMixer, GatedDelta: GatedDeltaMixer,
}  # fmt: skip


def make_mixer(config: ModelConfig, stored: Any, quantization: str | None) -> MixerLayer:
    """The mixer of a layer whose tensors are `stored`, of the kind that the model has."""
    assert config.mixer, "a layer with a mixer, in a model without its sizes"
    return MIXERS[type(config.mixer)](config, stored, quantization)


def mix_tokens(
    mixer: MixerLayer, x: np.ndarray, chunks: list[Chunk], states: StateCache | None, layer: int,
    show: Callable[[str, np.ndarray], np.ndarray],
) -> np.ndarray:  # fmt: skip
    """What the mixer adds to a batch's hidden rows, (tokens, hidden), of normed rows x.

    Each chunk begins from the state in its slot, and leaves states in those that it saves to. `layer` counts layers
    with a state.
    """
    assert states is not None, "a model with states, and a cache without"
    rows, row, found = show("mixer inputs", mixer.inputs(x)), 0, []
    for chunk in chunks:
        own = rows[row : (row := row + len(chunk.token_ids))]
        outputs, saved = mixer.scan(own, states.read(layer, chunk.state), [count for count, _ in chunk.saves])
        for (_, slot), state in zip(chunk.saves, saved, strict=True):
            states.write(layer, slot, state)
            show("state", state.reshape(1, -1))
        found.append(outputs)
    return show("output", mixer.output(show("mixer", np.concatenate(found))))
