"""Mirrored. The gated short convolution of LFM2 (N14a), and the convolution that other mixers begin with, too.

Each feature is convolved by itself over the last few tokens. What a token needs of those before it is the tail: their
inputs, which are the layer's state.
"""

import numpy as np

from verbatim.reference.checkpoint.short_convolution import ConvolutionTensors
from verbatim.reference.model.layers import Linear
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.mixer import ShortConvolution


class ShortConvolutionMixer:
    """A layer's convolution between two matrices, both of whose sides are gated by the input."""

    def __init__(self, config: ModelConfig, stored: ConvolutionTensors, quantization: str | None):
        sizes = config.mixer
        assert isinstance(sizes, ShortConvolution)
        self.channels, self.size = sizes.channels, sizes.state_size
        self.into, self.out = Linear(stored.into, quantization), Linear(stored.out, quantization)
        self.weight = stored.weight.float32().reshape(sizes.channels, sizes.length)
        self.bias = None if stored.bias is None else stored.bias.float32()

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """Of normed rows (tokens, hidden): both gates and what is convolved, (tokens, 3 * channels)."""
        return self.into(x)

    def scan(self, rows: np.ndarray, state: np.ndarray, counts: list[int]) -> tuple[np.ndarray, list[np.ndarray]]:
        """One chunk's rows from `inputs`, in order: its outputs (tokens, channels), the states after so many tokens."""
        first, second, x = np.split(rows, 3, axis=1)
        tail = state.reshape(-1, self.channels)
        convolved, tails = convolve(first * x, tail, self.weight, self.bias, counts)
        return second * convolved, [tail.reshape(-1) for tail in tails]

    def output(self, rows: np.ndarray) -> np.ndarray:
        """What is added to the hidden rows, (tokens, hidden), of outputs of `scan`."""
        return self.out(rows)


def convolve(
    x: np.ndarray, tail: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, counts: list[int]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """A causal convolution of each feature over the last tokens, and the tails after so many tokens.

    x (tokens, channels), tail (length - 1, channels) with the oldest first, weight (channels, length), bias
    (channels,). Products are added from the oldest token to the present one, from +0, then the bias.
    """
    length, padded = weight.shape[1], np.concatenate([tail, x])
    total = np.zeros_like(x)
    for k in range(length):
        total = total + padded[k : k + len(x)] * weight[:, k]
    total = total if bias is None else total + bias
    return total, [padded[count : count + length - 1] for count in counts]
