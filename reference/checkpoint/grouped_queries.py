"""Query, key and value in one matrix, whose rows hold each key-value head's queries, its key, then its value."""

import numpy as np

from verbatim.reference.checkpoint.tensors import Matrix
from verbatim.reference.records.config import ModelConfig


def split_groups(config: ModelConfig, fused: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """The matrices of queries, keys and values, copied."""
    shared_by = config.num_heads // config.num_kv_heads
    groups = np.arange(fused.weight.shape[0]).reshape(config.num_kv_heads, shared_by + 2, config.head_dim)

    return (
        fused.select("query", groups[:, :shared_by].reshape(-1)),
        fused.select("key", groups[:, shared_by].reshape(-1)),
        fused.select("value", groups[:, shared_by + 1].reshape(-1)),
    )
