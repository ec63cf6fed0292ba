"""Rows of queries and keys in the order of N6, where files have the two features of a rotated pair side by side."""

from dataclasses import replace

import numpy as np

from verbatim.reference.checkpoint.families import family_named
from verbatim.reference.checkpoint.tensors import Matrix
from verbatim.reference.checkpoint.weights import Tensor
from verbatim.reference.records.config import ModelConfig


def num_paired(config: ModelConfig, index: int) -> int:
    """How many features of a head are pairs of neighbours in the files of a layer; 0 where they are in N6's order."""
    rope = config.layers[index].rope
    return rope.rotary_dim if rope and config.family != "eagle" and family_named(config.family).has_pairs else 0


def in_halves(matrix: Matrix, head_dim: int, paired: int) -> Matrix:
    """A matrix of heads, its bias too, with the first features of each head's pairs before the second ones.

    The first `paired` features of a head are pairs; others keep their places. Nothing is rounded.
    """
    if not paired:
        return matrix
    starts = np.arange(0, matrix.weight.shape[0], head_dim)
    return matrix.select("in halves", (starts[:, None] + _order(head_dim, paired)).reshape(-1))


def norm_in_halves(norm: Tensor, paired: int) -> Tensor:
    """The same of the weights of norms, whose last axis are the features of a head."""
    return replace(norm, bits=norm.bits[..., _order(norm.shape[-1], paired)]) if paired else norm


def unit_norm(size: int) -> Tensor:
    """The weight of a norm that has none: ones, by which a product stays as it is."""
    return Tensor("ones", "F32", np.ones(size, np.float32))


def _order(head_dim: int, paired: int) -> np.ndarray:
    """The place in the file of each feature of a head."""
    pairs = np.arange(paired).reshape(-1, 2)
    return np.concatenate([pairs.T.reshape(-1), np.arange(paired, head_dim)])
