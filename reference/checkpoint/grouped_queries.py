"""Query, key and value in one matrix, whose rows hold each key-value head's queries, its key, then its value."""

from dataclasses import replace

import numpy as np

from verbatim.reference.checkpoint.tensors import Matrix
from verbatim.reference.records.config import ModelConfig


def split_groups(config: ModelConfig, fused: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """The matrices of queries, keys and values, copied."""
    shared_by = config.num_heads // config.num_kv_heads
    groups = np.arange(fused.weight.shape[0]).reshape(config.num_kv_heads, shared_by + 2, config.head_dim)

    def select(name: str, part: slice) -> Matrix:
        chosen = groups[:, part].reshape(-1)
        scales = fused.scales and fused.scales.select(f"{fused.scales.name}[{name}]", chosen)
        return replace(fused, weight=fused.weight.select(f"{fused.weight.name}[{name}]", chosen), scales=scales)

    return (
        select("query", slice(shared_by)),
        select("key", slice(shared_by, shared_by + 1)),
        select("value", slice(shared_by + 1, None)),
    )
