"""Which class computes which kind of mixer (N14), as reference/model/mixers.py says for the reference."""

from typing import Any

from verbatim.fastpath.model.gated_delta import GatedDeltaNets
from verbatim.fastpath.model.mamba import StateSpaces
from verbatim.fastpath.model.short_convolution import ShortConvolutions
from verbatim.reference.records.gated_delta import GatedDelta
from verbatim.reference.records.mamba import Mamba
from verbatim.reference.records.mixer import Mixer, ShortConvolution

MIXERS: dict[type[Mixer], Any] = {
    ShortConvolution: ShortConvolutions, Mamba: StateSpaces, GatedDelta: GatedDeltaNets,
}  # fmt: skip


def make_mixer(config, checkpoint, quantization: str | None, weights):
    """The mixer of all layers of a model that have one, or None; `weights` are its Layers, which pack matrices."""
    stored = [layer.mixer for layer in checkpoint.layers if layer.mixer is not None]
    return MIXERS[type(config.mixer)](config, stored, quantization, weights) if stored else None
