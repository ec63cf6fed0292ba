"""Matrices of several things, whose rows lie together head by head: queries, keys and values, or queries and gates."""

import numpy as np

from verbatim.reference.checkpoint.tensors import Matrix
from verbatim.reference.records.config import ModelConfig


def split_groups(config: ModelConfig, fused: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """The matrices of queries, keys and values, copied, of one: each key-value head's queries, its key, its value."""
    shared_by = config.num_heads // config.num_kv_heads
    groups = np.arange(fused.weight.shape[0]).reshape(config.num_kv_heads, shared_by + 2, config.head_dim)

    return (
        fused.select("query", groups[:, :shared_by].reshape(-1)),
        fused.select("key", groups[:, shared_by].reshape(-1)),
        fused.select("value", groups[:, shared_by + 1].reshape(-1)),
    )


def split_gates(config: ModelConfig, fused: Matrix) -> dict[str, Matrix]:
    """The matrices of queries and of the gates on what heads made, copied, of one: a head's query, then its gate."""
    rows = np.arange(fused.weight.shape[0]).reshape(config.num_heads, 2, config.head_dim)
    parts = {"query": rows[:, 0], "attention_gate": rows[:, 1]}
    return {name: fused.select(name, part.reshape(-1)) for name, part in parts.items()}
