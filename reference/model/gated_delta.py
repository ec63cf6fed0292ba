"""Mirrored. A gated delta net (N16): each head has a matrix that stands for what it has read, and corrects it.

A token decays the matrix, reads what it holds under the token's key, and writes back a share of the difference from
the token's value. Tokens are taken one after the other, so a state depends on its tokens alone, whatever the chunks.
(Gated delta networks, https://arxiv.org/abs/2412.06464.)
"""

import numpy as np

from verbatim.reference.checkpoint.gated_delta import DeltaTensors
from verbatim.reference.model.layers import Linear
from verbatim.reference.model.short_convolution import convolve
from verbatim.reference.numerics.arithmetic import LOG2E, exp2, lane_sum, sigmoid, silu
from verbatim.reference.numerics.recurrence import gated_norm, softplus
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.gated_delta import GatedDelta

UNIT_EPSILON = np.float32(1e-6)  # of queries and keys, whatever config.json says of norms


class GatedDeltaMixer:
    """What stands in attention's place in a layer, with its weights in memory."""

    def __init__(self, config: ModelConfig, stored: DeltaTensors, quantization: str | None):
        assert isinstance(config.mixer, GatedDelta)
        self.sizes, self.size, self.epsilon = config.mixer, config.mixer.state_size, config.norm_epsilon
        self.mixed, self.gate = Linear(stored.mixed, quantization), Linear(stored.gate, quantization)
        self.rates, self.steps = Linear(stored.rates), Linear(stored.steps)
        self.out = Linear(stored.out, quantization)
        self.weight = stored.weight.float32().reshape(self.sizes.channels, self.sizes.width)
        decays = stored.decays.float32()
        self.decays = (-decays if stored.has_negatives else exp2(decays * LOG2E)) * LOG2E  # for powers of two
        self.step_bias, self.norm = stored.step_bias.float32(), stored.norm.float32()

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """Of normed rows (tokens, hidden): queries, keys and values; gates; rates; steps, side by side."""
        return np.concatenate([self.mixed(x), self.gate(x), self.rates(x), self.steps(x)], axis=1)

    def scan(self, rows: np.ndarray, state: np.ndarray, counts: list[int]) -> tuple[np.ndarray, list[np.ndarray]]:
        """One chunk's rows from `inputs`, in order: outputs (tokens, values), the states after so many tokens."""
        sizes, count = self.sizes, len(rows)
        ends = np.cumsum([sizes.channels, sizes.values, sizes.num_value_heads])
        mixed, gates, rates, steps = np.split(rows, ends, axis=1)
        tail, matrices = state[: sizes.tail], state[sizes.tail :].reshape(-1, sizes.key_dim, sizes.value_dim)
        mixed, tails = convolve(mixed, tail.reshape(-1, sizes.channels), self.weight, None, counts)
        queries, keys, values = np.split(silu(mixed), [sizes.keys, 2 * sizes.keys], axis=1)
        queries = unit(queries.reshape(count, -1, sizes.key_dim)) * query_scale(sizes.key_dim)
        keys, values = unit(keys.reshape(count, -1, sizes.key_dim)), values.reshape(count, -1, sizes.value_dim)
        if sizes.is_tiled:
            shared_by = sizes.num_value_heads // sizes.num_key_heads
            queries, keys = (np.tile(rows, (1, shared_by, 1)) for rows in (queries, keys))
        decays, rates = exp2(-(self.decays * softplus(steps + self.step_bias))), sigmoid(rates)
        found, after = np.empty_like(values), []
        for i in range(count):
            found[i], matrices = delta_step(matrices, queries[i], keys[i], values[i], decays[i], rates[i])
            if i + 1 in counts:
                after.append(matrices.reshape(-1))
        gates = gates.reshape(found.shape)
        gated = gated_norm(found, gates, self.norm, self.epsilon, norms_first=True)
        states = [np.concatenate([kept.reshape(-1), own]) for kept, own in zip(tails, after, strict=True)]
        return gated.reshape(count, -1), states

    def output(self, rows: np.ndarray) -> np.ndarray:
        """What is added to the hidden rows, (tokens, hidden), of outputs of `scan`."""
        return self.out(rows)


def query_scale(key_dim: int) -> np.float32:
    """1 / sqrt(key_dim), by which queries are multiplied."""
    return np.float32(np.float64(key_dim) ** -0.5)


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1: x * (1 / sqrt(lane_sum(x * x) + 1e-6)) over the last axis."""
    return x * (np.float32(1) / np.sqrt(lane_sum(x * x) + UNIT_EPSILON))[..., None]


def delta_step(
    state: np.ndarray, query: np.ndarray, key: np.ndarray, value: np.ndarray, decay: np.ndarray, rate: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One token: what each head reads (heads, value_dim), and the state after it.

    state (heads, key_dim, value_dim), query and key (key heads, key_dim), value (heads, value_dim), decay and rate
    (heads,). Sums over key_dim are in order from +0.
    """
    shared_by = len(value) // len(key)
    query, key = np.repeat(query, shared_by, axis=0), np.repeat(key, shared_by, axis=0)
    state = state * decay[:, None, None]
    change = (value - _read(state, key)) * rate[:, None]
    state = state + key[:, :, None] * change[:, None, :]
    return _read(state, query), state


def _read(state: np.ndarray, key: np.ndarray) -> np.ndarray:
    """The sum over key_dim of the state's rows, each times the key's number."""
    total = np.zeros(state[:, 0].shape, np.float32)
    for i in range(key.shape[1]):
        total = total + state[:, i] * key[:, i, None]
    return total
