"""Mirrored. The selective state space of Mamba 2 (N15): each head has a state that every token decays and adds to.

How much a token decays the state, what it adds and what it reads are functions of the token. Tokens are taken one after
the other, so a state depends on its tokens alone, whatever the chunks. (Mamba 2, https://arxiv.org/abs/2405.21060.)
"""

import numpy as np

from verbatim.reference.checkpoint.mamba import MambaTensors
from verbatim.reference.model.layers import Linear
from verbatim.reference.model.short_convolution import convolve
from verbatim.reference.numerics.arithmetic import LOG2E, exp2, silu
from verbatim.reference.numerics.recurrence import gated_norm, softplus
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.mamba import Mamba


class MambaMixer:
    """A layer's state space between two matrices."""

    def __init__(self, config: ModelConfig, stored: MambaTensors, quantization: str | None):
        assert isinstance(config.mixer, Mamba)
        self.sizes, self.size = (sizes := config.mixer), config.mixer.state_size
        self.into, self.out = Linear(stored.into, quantization), Linear(stored.out, quantization)
        self.convolution = stored.convolution.float32().reshape(sizes.channels, sizes.width)
        self.convolution_bias = None if stored.convolution_bias is None else stored.convolution_bias.float32()
        decays = stored.decays.float32()
        self.decays = (-decays if stored.has_negatives else exp2(decays * LOG2E)) * LOG2E  # for powers of two
        self.step_bias, self.skip = stored.step_bias.float32(), stored.skip.float32()
        self.norm = None if stored.norm is None else stored.norm.float32()
        parts = sizes.values, sizes.values, sizes.shared, sizes.shared, sizes.num_heads
        self.factors = np.repeat(np.asarray(sizes.factors, np.float32), parts) if sizes.factors else None

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """Of normed rows (tokens, hidden): gates, values, inward and outward vectors, steps, each times its factor."""
        return self.into(x) if self.factors is None else self.into(x) * self.factors

    def scan(self, rows: np.ndarray, state: np.ndarray, counts: list[int]) -> tuple[np.ndarray, list[np.ndarray]]:
        """One chunk's rows from `inputs`, in order: what heads read, gated, and the states after so many tokens."""
        sizes = self.sizes
        gates, channels, steps = np.split(rows, [sizes.values, sizes.values + sizes.channels], axis=1)
        tail = state[: sizes.tail].reshape(-1, sizes.channels)
        mixed, tails = convolve(channels, tail, self.convolution, self.convolution_bias, counts)
        found, states = self._read(silu(mixed), steps, state[sizes.tail :], counts)
        gated = gated_norm(
            found, gates, self.norm, sizes.norm_epsilon, num_groups=sizes.num_groups, norms_first=sizes.norm == "before"
        )
        return gated, [np.concatenate([tail.reshape(-1), after]) for tail, after in zip(tails, states, strict=True)]

    def _read(self, mixed, steps, states, counts) -> tuple[np.ndarray, list[np.ndarray]]:
        """What heads read of their states for each token, (tokens, values), and the states after so many tokens."""
        sizes = self.sizes
        values, inward, outward = np.split(mixed, [sizes.values, sizes.values + sizes.shared], axis=1)
        values = values.reshape(-1, sizes.num_heads, sizes.head_dim)
        inward, outward = (x.reshape(-1, sizes.num_groups, sizes.state_rows) for x in (inward, outward))
        least, greatest = map(np.float32, sizes.step_bounds)
        steps = np.minimum(np.maximum(softplus(steps + self.step_bias), least), greatest)  # (tokens, heads)
        decays = exp2(-(self.decays * steps))
        states, found = states.reshape(sizes.num_heads, sizes.state_rows, -1), np.empty_like(values)
        saved: list[np.ndarray] = []
        for i in range(len(mixed)):
            found[i], states = state_step(states, values[i], inward[i], outward[i], steps[i], decays[i])
            saved.extend(states.reshape(-1) for count in counts if count == i + 1)
        return (found + self.skip[:, None] * values).reshape(len(mixed), -1), saved

    def output(self, rows: np.ndarray) -> np.ndarray:
        """What is added to the hidden rows, (tokens, hidden), of outputs of `scan`."""
        scale = self.sizes.output_scale
        return self.out(rows) if scale == 1 else self.out(rows) * np.float32(scale)


def state_step(states, value, inward, outward, step, decay) -> tuple[np.ndarray, np.ndarray]:
    """One token: what each head reads, (heads, head_dim), and the states after it.

    states (heads, state_rows, head_dim), value (heads, head_dim), inward and outward (groups, state_rows), step and
    decay (heads,). The sum over the rows of a state is in order from +0.
    """
    shared_by = len(value) // len(inward)
    inward, outward = np.repeat(inward, shared_by, axis=0), np.repeat(outward, shared_by, axis=0)
    added = value * step[:, None]
    states = states * decay[:, None, None] + inward[:, :, None] * added[:, None, :]
    total = np.zeros(value.shape, np.float32)
    for i in range(states.shape[1]):
        total = total + states[:, i] * outward[:, i, None]
    return total, states
