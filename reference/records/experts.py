"""What a mixture of experts is, and the clamped gate of some: parts of ModelConfig."""

from dataclasses import dataclass, field

from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.told import LATER


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts (N9): how many, how many a token takes, their inner size, whether weights add up to 1.

    `routing` is "softmax", or "sparsemixer" (Phi 3.5 MoE), which drops scores that lie more than `tolerance` below the
    largest, relatively, or "sigmoid" (DeepSeek V3), whose choice goes by the weight plus a learned bias of each expert,
    or "input" (Llama 4): sigmoids of the scores multiply the experts' inputs. Experts lie in `num_groups` equal groups,
    of which a token takes the `num_groups_per_token` best ones; weights are multiplied by `scale`. A shared expert of
    `shared_size`, 0 for none, serves every token, behind a gate of its own where `has_shared_gate`. With `has_biases`
    the router and each expert's matrices have them; with `has_score_bias` (Ernie 4.5) the choice by softmax goes by the
    share plus a learned bias. `least_sum` is added to the sum that weights are divided by, where it may be 0. Experts
    that are `beside` the dense network (Gemma 4) have norms of their own and a learned factor of each one's weight.
    """

    num_experts: int
    num_per_token: int
    intermediate_size: int
    is_normalized: bool
    routing: str = field(default="softmax", metadata=LATER)
    tolerance: float = field(default=0.0, metadata=LATER)
    shared_size: int = field(default=0, metadata=LATER)
    has_shared_gate: bool = field(default=False, metadata=LATER)
    has_biases: bool = field(default=False, metadata=LATER)
    has_score_bias: bool = field(default=False, metadata=LATER)
    num_groups: int = field(default=1, metadata=LATER)
    num_groups_per_token: int = field(default=1, metadata=LATER)
    scale: float = field(default=1.0, metadata=LATER)
    least_sum: float = field(default=1e-20, metadata=LATER)
    beside: bool = field(default=False, metadata=LATER)

    def __post_init__(self):
        """Refuse groups that do not hold the experts that a token takes."""
        if self.num_groups < 1 or self.num_experts % self.num_groups:
            raise ModelError(f"config.json: {self.num_experts} experts are not {self.num_groups} equal groups")
        if not 1 <= self.num_groups_per_token <= self.num_groups:
            raise ModelError(
                f"config.json: topk_group must lie in 1..{self.num_groups}, not {self.num_groups_per_token}"
            )
        most = self.num_experts // self.num_groups * self.num_groups_per_token
        if self.num_per_token > most:
            raise ModelError(f"config.json: num_experts_per_tok must be at most {most}, not {self.num_per_token}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClampedGate:
    """gpt-oss's gate in place of activation(gate) * up: both are clamped to `limit`, `alpha` is the sigmoid's (N9a)."""

    alpha: float
    limit: float
