"""Mirrored. Inputs of each layer (N9b): what a token and its embedding give to every layer, and how a layer adds it.

(Gemma 3n and 4 call them per-layer embeddings.)
"""

import numpy as np

from verbatim.reference.checkpoint.tensors import InputMatrices, TokenInputs
from verbatim.reference.checkpoint.weights import Tensor
from verbatim.reference.model.layers import Linear, Norm
from verbatim.reference.numerics.arithmetic import ACTIVATIONS
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.residuals import LayerInputs


class TokenRows:
    """The inputs of all layers: called with ids (tokens,) and embeddings (tokens, hidden).

    Returns (tokens, layers, size).
    """

    def __init__(self, config: ModelConfig, settings: LayerInputs, stored: TokenInputs):
        self.settings, self.embedding = settings, stored.embedding
        self.projection, self.norm = Linear(stored.projection), Norm(config, stored.norm)
        self.token_scale = np.float32(float(settings.size) ** 0.5)
        self.scale = np.float32(float(config.hidden_size) ** -0.5)

    def __call__(self, ids: np.ndarray, embedded: np.ndarray) -> np.ndarray:
        """The projected embedding, normed, plus the token's own rows, times the root of one half."""
        rows = self.embedding.bits[np.where(ids < self.settings.vocab_size, ids, 0)]
        own = Tensor(self.embedding.name, self.embedding.dtype, rows).float32() * self.token_scale
        shape = len(ids), -1, self.settings.size
        made = self.norm((self.projection(embedded) * self.scale).reshape(shape))
        return (made + own.reshape(shape)) * np.float32(0.5**0.5)


class LayerInput:
    """What a layer makes of a residual and its inputs: called with (tokens, hidden) and (tokens, size)."""

    def __init__(self, config: ModelConfig, stored: InputMatrices, quantization: str | None):
        self.gate, self.projection = Linear(stored.gate, quantization), Linear(stored.projection, quantization)
        self.norm, self.activate = Norm(config, stored.norm), ACTIVATIONS[config.activation]

    def __call__(self, x: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """norm(projection(activation(gate(x)) * inputs)), (tokens, hidden)."""
        return self.norm(self.projection(self.activate(self.gate(x)) * inputs))
