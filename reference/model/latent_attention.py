"""Mirrored. Multi-head latent attention in its absorbed form (N8a): all heads attend to one latent for each token.

What a head would make of a latent, a key and a value, is never made: its query is multiplied into the space of latents
before attention, and the weighted sum of latents into a value behind it. This is one order of operations for prompts
and for decoding. (DeepSeek V2, https://arxiv.org/abs/2405.04434.)
"""

import numpy as np

from verbatim.reference.checkpoint.tensors import LatentMatrices, Matrix
from verbatim.reference.numerics.arithmetic import linear, rms_norm, rotate
from verbatim.reference.records.latent import LatentAttention


class LatentHeads:
    """What a layer does to queries, keys and weighted latents beside the matrices that every layer has."""

    def __init__(self, sizes: LatentAttention, stored: LatentMatrices):
        self.sizes, self.epsilon = sizes, sizes.norm_epsilon
        self.query_norm = stored.query_norm.float32() if stored.query_norm else None
        self.latent_norm = stored.latent_norm.float32()
        self.key_up = [_columns(matrix) for matrix in stored.key_up]  # each (rank, plain_dim)
        self.value_up = [_columns(matrix) for matrix in stored.value_up]  # each (value_dim, rank)

    def norm_query(self, x: np.ndarray) -> np.ndarray:
        """Norm the states (tokens, query_rank) of which queries are made."""
        assert self.query_norm is not None
        return rms_norm(x, self.query_norm, self.epsilon)

    def queries(self, x: np.ndarray, table: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Queries (tokens, heads * (rotated_dim + plain_dim)), rotated and in the space of latents.

        Returns (tokens, heads, rotated_dim + rank).
        """
        size = self.sizes.rotated_dim
        x = x.reshape(len(x), len(self.key_up), -1)
        absorbed = [linear(x[:, head, size:], weight) for head, weight in enumerate(self.key_up)]
        return np.concatenate([rotate(x[..., :size], *table), np.stack(absorbed, axis=1)], axis=2)

    def keys(self, x: np.ndarray, table: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """The shared keys (tokens, rotated_dim + rank), rotated and normed; returns (tokens, 1, the same)."""
        size = self.sizes.rotated_dim
        rotated, latents = rotate(x[:, None, :size], *table), rms_norm(x[:, size:], self.latent_norm, self.epsilon)
        return np.concatenate([rotated, latents[:, None]], axis=2)

    def values(self, attended: np.ndarray) -> np.ndarray:
        """What heads make of weighted latents (tokens, heads, rank): (tokens, heads, value_dim)."""
        made = [linear(attended[:, head], weight) for head, weight in enumerate(self.value_up)]
        return np.stack(made, axis=1)


def _columns(matrix: Matrix) -> np.ndarray:
    """The weight in Fortran order, since `linear` reads columns."""
    return np.asfortranarray(matrix.weight.float32())
