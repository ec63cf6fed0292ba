"""The gated delta net of Qwen3-Next and Qwen 3.5: its sizes, as a part of ModelConfig."""

from dataclasses import dataclass

from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.mixer import Mixer

SIZES = {  # field -> its name in config.json
    "num_key_heads": "linear_num_key_heads", "num_value_heads": "linear_num_value_heads",
    "key_dim": "linear_key_head_dim", "value_dim": "linear_value_head_dim", "width": "linear_conv_kernel_dim",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedDelta(Mixer):
    """A gated delta net (N16): heads of a state (key_dim, value_dim) that each token decays and corrects.

    Queries and keys have `num_key_heads` heads, each of which serves an equal run of the `num_value_heads` heads of
    values, or with `is_tiled` (GGUF files of Qwen 3.5) every `num_key_heads`-th one from its own number on. A causal
    convolution over `width` tokens goes before. Files have the matrices of queries, keys, values and
    gates in one, with the rows of each key head together, where `is_grouped`, or else in two.
    """

    num_key_heads: int
    num_value_heads: int
    key_dim: int
    value_dim: int
    width: int
    is_grouped: bool
    is_tiled: bool = False

    def __post_init__(self):
        """Refuse heads that cannot be shared evenly."""
        for field, name in SIZES.items():
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ModelError(f"config.json: {name} must be a positive integer, not {value!r}")
        if self.num_value_heads % self.num_key_heads:
            raise ModelError(
                f"config.json: linear_num_value_heads must be a multiple of linear_num_key_heads, "
                f"{self.num_key_heads}, not {self.num_value_heads}"
            )

    @property
    def keys(self) -> int:
        """Features of all heads' keys."""
        return self.num_key_heads * self.key_dim

    @property
    def values(self) -> int:
        """Features of all heads' values."""
        return self.num_value_heads * self.value_dim

    @property
    def channels(self) -> int:
        """Features that the convolution takes: queries, keys, values."""
        return 2 * self.keys + self.values

    @property
    def tail(self) -> int:
        """Numbers of the state that belong to the convolution: the last inputs of each channel, the oldest first."""
        return (self.width - 1) * self.channels

    @property
    def state_size(self) -> int:
        """Numbers of a state: the convolution's tail, then (num_value_heads, key_dim, value_dim)."""
        return self.tail + self.values * self.key_dim
