"""Layers whose memory of the past is a state of fixed size: the sizes of each kind, as a part of ModelConfig (N14)."""

from dataclasses import dataclass


class Mixer:
    """The sizes of one kind of mixer, which all such layers of a model share. Each kind is a class below this one."""

    __slots__ = ()

    @property
    def output_scale(self) -> float:
        """What a mixer adds is multiplied by this."""
        return 1.0

    @property
    def state_size(self) -> int:
        """How many float32 numbers a layer remembers of all tokens before."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortConvolution(Mixer):
    """A gated convolution over the last `length` tokens, each of `channels` features by itself (LFM2; N14a).

    The state is the convolution's last inputs, (length - 1, channels), the oldest first. With `has_bias` the
    convolution and both matrices have one.
    """

    channels: int
    length: int
    has_bias: bool = False

    @property
    def state_size(self) -> int:
        """The inputs of all but the present token."""
        return (self.length - 1) * self.channels
