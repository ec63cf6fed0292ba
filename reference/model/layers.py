"""Mirrored. What a decoder is made of: matrices, norms and feed-forward networks with their weights in memory."""

import numpy as np

from verbatim.reference.checkpoint.tensors import FeedForward, Matrix
from verbatim.reference.checkpoint.weights import Tensor
from verbatim.reference.model.adapters import Delta
from verbatim.reference.numerics.arithmetic import (
    ACTIVATIONS,
    above_cutoff,
    clamped_gate,
    layer_norm,
    linear,
    linear_quantized,
    linear_superblocks,
    rms_norm,
)
from verbatim.reference.numerics.block_products import linear_blocks
from verbatim.reference.numerics.block_weights import BlockedTensor
from verbatim.reference.numerics.quantization import SuperblockTensor
from verbatim.reference.records.config import ModelConfig


class Linear:
    """A matrix with its bias, float or quantised: called with (rows, inputs), returns (rows, outputs).

    `deltas` are what LoRA adapters add to some rows of the present pass (N13).
    """

    def __init__(self, matrix: Matrix, quantization: str | None = None):
        self.deltas: list[tuple[slice, Delta]] = []
        self.bias = None if matrix.bias is None else matrix.bias.float32()
        form = matrix.format(quantization)
        self.quantized = matrix.quantized(form) if form else None
        # In Fortran order, since `linear` reads columns.
        self.weight = None if form else np.asfortranarray(matrix.weight.float32())

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x times the matrix transposed, plus the bias."""
        if isinstance(self.quantized, SuperblockTensor):
            y = linear_superblocks(x, self.quantized)
        elif isinstance(self.quantized, BlockedTensor):
            y = linear_blocks(x, self.quantized)
        elif self.quantized is not None:
            y = linear_quantized(x, self.quantized)
        else:
            assert self.weight is not None
            y = linear(x, self.weight)
        y = y if self.bias is None else y + self.bias
        for rows, delta in self.deltas:
            y[rows] = y[rows] + delta(x[rows])
        return y


class Norm:
    """rms_norm or layer_norm with its weight (N5), or the identity for a norm that the family does not have."""

    def __init__(self, config: ModelConfig, weight: Tensor | None, bias: Tensor | None = None):
        self.epsilon, self.norm_type = config.norm_epsilon, config.norm_type
        self.bias = None if bias is None else bias.float32()
        self.weight = None if weight is None else weight.float32() + np.float32(config.norm_offset)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Norm x over its last axis."""
        if self.weight is None:
            return x
        if self.norm_type == "layer":
            return layer_norm(x, self.weight, self.bias, self.epsilon)
        return rms_norm(x, self.weight, self.epsilon)


class Network:
    """The feed-forward network, or one expert (N9a): down(activation(gate(x)) * up(x)), without a gate: of up(x)."""

    def __init__(self, stored: FeedForward, config: ModelConfig, quantization: str | None, cutoff: float | None = None):
        self.gate = Linear(stored.gate, quantization) if stored.gate else None
        self.up, self.down = Linear(stored.up, quantization), Linear(stored.down, quantization)
        self.activate, self.clamped = ACTIVATIONS[config.activation], config.clamped_gate
        self.gate_scale, self.cutoff = np.float32(config.gate_scale), cutoff

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Rows float32 (rows, hidden) to rows of the same shape."""
        if self.gate is None:
            return self.down(self.activate(self.up(x)))
        if self.clamped:
            return self.down(clamped_gate(self.gate(x), self.up(x), self.clamped.alpha, self.clamped.limit))
        gate = self.gate(x) if self.gate_scale == 1 else self.gate(x) * self.gate_scale
        gate = gate if self.cutoff is None else above_cutoff(gate, self.cutoff)
        return self.down(self.activate(gate) * self.up(x))
