"""Multi-head latent attention of DeepSeek V2 and V3: its sizes, as a part of ModelConfig."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (N8a): all heads share one key, the latent of a token and a rotated part.

    A head's query has `rotated_dim` rotated features and `plain_dim` others; `query_rank`, 0 for none, is the size of
    the state between the two matrices that make queries. A latent has `rank` numbers; `value_dim` is what a head makes
    of it. `norm_epsilon` is that of the norms of latents and of these states. `is_interleaved` says that files have the
    two features of a rotated pair side by side.
    """

    query_rank: int
    rank: int
    plain_dim: int
    rotated_dim: int
    value_dim: int
    is_interleaved: bool
    norm_epsilon: float = 1e-6
