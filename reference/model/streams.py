"""Mirrored. Several streams through the layers (N9c): a layer computes one of them, and corrects all by what it gave.

(AltUp, https://arxiv.org/abs/2301.13310. The residual of low rank beside attention is LAuReL's,
https://arxiv.org/abs/2411.07501.)
"""

import numpy as np

from verbatim.reference.checkpoint.tensors import Checkpoint, StreamMatrices
from verbatim.reference.model.layers import Linear, Norm
from verbatim.reference.numerics.arithmetic import lane_sum, tanh
from verbatim.reference.records.config import ModelConfig

LEAST_SQUARE = np.float32(1e-5)  # of what is brought to another row's size


class Streams:
    """Makes the streams (tokens, count, hidden) of embeddings, and one row of the streams behind the last layer."""

    def __init__(self, checkpoint: Checkpoint):
        self.inward = [Linear(matrix) for matrix in checkpoint.streams_in]
        self.outward = [Linear(matrix) for matrix in checkpoint.streams_out]

    def begin(self, x: np.ndarray) -> np.ndarray:
        """The embeddings (tokens, hidden), and a product of them for each further stream, of the same size."""
        return np.stack([x, *(_resized(matrix(x), x) for matrix in self.inward)], axis=1)

    def end(self, streams: np.ndarray) -> np.ndarray:
        """The mean (tokens, hidden) of the first stream and a product of each further one, added in order."""
        total = first = streams[:, 0]
        for index, matrix in enumerate(self.outward, 1):
            total = total + _resized(matrix(streams[:, index]), first)
        return total / np.float32(streams.shape[1])


def _resized(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Y times the root mean square of x, divided by its own."""
    size = np.float32(x.shape[-1])
    wanted, own = np.sqrt(lane_sum(x * x) / size), np.sqrt(np.maximum(lane_sum(y * y) / size, LEAST_SQUARE))
    return y * wanted[:, None] / own[:, None]


class LayerStreams:
    """What one layer does with the streams."""

    def __init__(self, config: ModelConfig, stored: StreamMatrices, quantization: str | None):
        assert config.streams
        self.count, self.active = config.streams.count, config.streams.active
        self.router_norm, self.router = Norm(config, stored.router_norm), Linear(stored.router)
        self.predictions, self.corrections = Linear(stored.predictions), Linear(stored.corrections)
        self.scale = None if stored.scale is None else stored.scale.float32()
        self.left, self.right = Linear(stored.left, quantization), Linear(stored.right, quantization)
        self.norm = Norm(config, stored.norm)

    def predict(self, streams: np.ndarray) -> np.ndarray:
        """The streams (tokens, count, hidden) before the layer, each plus a weighted sum of all, in order."""
        weights = self.predictions(self._routed(streams[:, self.active])).reshape(-1, self.count, self.count)
        found = np.empty_like(streams)
        for k in range(self.count):
            total = np.zeros_like(streams[:, 0])
            for j in range(self.count):
                total = total + weights[:, k, j, None] * streams[:, j]
            found[:, k] = total + streams[:, k]
        return found

    def correct(self, predicted: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Add to each stream what the layer's x (tokens, hidden) has beyond its prediction, times a weight."""
        weights = self.corrections(self._routed(x)) + np.float32(1)
        beyond = x - predicted[:, self.active]
        return beyond[:, None] * weights[..., None] + predicted

    def residual(self, normed: np.ndarray) -> np.ndarray:
        """What joins attention: the normed rows plus a product of low rank."""
        return normed + self.norm(self.right(self.left(normed)))

    def combined(self, streams: np.ndarray) -> np.ndarray:
        """The rows (tokens, hidden) that are combined with the layer's inputs."""
        active = streams[:, self.active]
        return active if self.scale is None else active * self.scale

    def _routed(self, x: np.ndarray) -> np.ndarray:
        return tanh(self.router(self.router_norm(x)))
