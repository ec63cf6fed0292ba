"""The state space of Mamba 2: its sizes, as a part of ModelConfig (N15)."""

import math
from dataclasses import dataclass

from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.mixer import Mixer


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba(Mixer):
    """A selective state space (N15): heads of a state (state_rows, head_dim) that each token decays and adds to.

    Each of `num_groups` has an inward and an outward vector of `state_rows` for an equal run of heads. A causal
    convolution over `width` tokens goes before. Steps lie in `step_bounds`. What heads read is gated and normed: `norm`
    is "after" the gate, "before" it, or None for the gate alone, by groups of features. `factors`, none or one for each
    of gates, values, inward vectors, outward vectors and steps, multiply what the first matrix makes, `output_scale`
    what the last one does.
    """

    num_heads: int
    head_dim: int
    state_rows: int
    num_groups: int
    width: int
    norm_epsilon: float
    norm: str | None = "after"
    step_bounds: tuple[float, float] = (0.0, math.inf)
    has_input_bias: bool = False
    has_output_bias: bool = False
    has_convolution_bias: bool = True
    factors: tuple[float, ...] = ()
    output_scale: float = 1.0

    def __post_init__(self):
        """Refuse heads that cannot be shared evenly, and bounds out of order."""
        if self.num_heads % self.num_groups:
            raise ModelError(
                f"config.json: {self.num_heads} heads of a state space cannot share {self.num_groups} groups evenly"
            )
        if not 0 <= self.step_bounds[0] <= self.step_bounds[1]:
            raise ModelError(f"config.json: time_step_limit must be two numbers in order, not {list(self.step_bounds)}")

    @property
    def values(self) -> int:
        """Features of all heads' values."""
        return self.num_heads * self.head_dim

    @property
    def shared(self) -> int:
        """Features of all groups' inward vectors; as many are outward ones."""
        return self.num_groups * self.state_rows

    @property
    def channels(self) -> int:
        """Features that the convolution takes: values, inward and outward vectors."""
        return self.values + 2 * self.shared

    @property
    def inputs(self) -> int:
        """Features that the first matrix makes: gates, channels, steps."""
        return self.values + self.channels + self.num_heads

    @property
    def tail(self) -> int:
        """Numbers of the state that belong to the convolution: the last inputs of each channel, the oldest first."""
        return (self.width - 1) * self.channels

    @property
    def state_size(self) -> int:
        """The convolution's tail, then (num_heads, state_rows, head_dim)."""
        return self.tail + self.values * self.state_rows
