"""Rotary positions of a layer, how they are stretched, and factors of queries by position: parts of ModelConfig."""

from dataclasses import dataclass, field, replace

from verbatim.reference.records.told import LATER, UNTOLD


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the context that a model was first trained on (lengths in tokens).

    `rope_type` is "linear", "dynamic", "llama3", "yarn", "longrope" or "proportional"; each uses some of the numbers.
    `attention_factor` multiplies cosines and sines. `factors` are longrope's, one a frequency; where those are the long
    ones, `short` is what takes their place in a context of at most `short.original_context`. `truncates` is yarn's:
    whether the range of blended frequencies has whole bounds. `context` is the served one, which dynamic depends on.
    Of proportional the first `num_frequencies` turn, the others are 0.
    """

    rope_type: str
    factor: float = 1.0
    original_context: int = 0
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0
    factors: tuple[float, ...] = ()
    truncates: bool = field(default=True, metadata=LATER)
    num_frequencies: int = field(default=0, metadata=LATER)
    context: int = field(default=0, metadata=LATER)
    short: "RopeScaling | None" = field(default=None, metadata=UNTOLD)

    def served(self, context: int) -> "RopeScaling":
        """The stretch for a server whose context is so many tokens: one choice, whatever the length of a text.

        Keys are cached, so they must not depend on what follows them.
        """
        if self.short is not None and context <= self.short.original_context:
            return replace(self.short, original_context=0)
        return replace(self, context=context) if self.rope_type == "dynamic" else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """Rotary positions of a layer: the base, how many features of a head turn, and the stretch if there is one."""

    theta: float = 10000.0
    rotary_dim: int
    scaling: RopeScaling | None = None

    def served(self, context: int) -> "Rope":
        """The positions for a server whose context is so many tokens."""
        return self if self.scaling is None else replace(self, scaling=self.scaling.served(context))


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionScale:
    """Factors of the queries that grow with the position p: 1 + beta * log(1 + floor((p + offset) / length)) (N8).

    In Ministral 3 all layers have them, with `only_unrotated` (Llama 4) those without rotary positions.
    """

    beta: float
    length: int
    offset: int = field(default=0, metadata=LATER)
    only_unrotated: bool = field(default=False, metadata=LATER)
