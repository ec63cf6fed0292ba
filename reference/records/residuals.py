"""What Gemma 3n and 4 have beside one residual: inputs of each layer, and several streams. Parts of ModelConfig."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerInputs:
    """Inputs of each layer (N9b): `size` numbers that the token and its embedding give to each.

    The token's own are rows of a second embedding, of `vocab_size` tokens; tokens behind it have those of token 0.
    """

    size: int
    vocab_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """Streams that go through the layers side by side (N9c): layers compute the `active` one and correct all by it.

    `laurel_rank` is the rank of the learned residual beside attention. With `scales_inputs` the corrected stream is
    multiplied by a vector before it is combined with the layer's inputs.
    """

    count: int
    active: int
    laurel_rank: int
    scales_inputs: bool = True
