"""The tensors of layers with a state, read as the kind of their sizes says (N14)."""

from collections.abc import Callable
from typing import Any

from verbatim.reference.checkpoint.gated_delta import read_gated_delta
from verbatim.reference.checkpoint.layer_reader import LayerReader
from verbatim.reference.checkpoint.mamba import read_mamba
from verbatim.reference.checkpoint.short_convolution import read_short_convolution
from verbatim.reference.checkpoint.tensors import MixerTensors
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.gated_delta import GatedDelta
from verbatim.reference.records.mamba import Mamba
from verbatim.reference.records.mixer import Mixer, ShortConvolution

READERS: dict[type[Mixer], Callable[[ModelConfig, Any, LayerReader], MixerTensors]] = {
    ShortConvolution: read_short_convolution,
    Mamba: read_mamba,
    GatedDelta: read_gated_delta,
}


def read_mixer(config: ModelConfig, reader: LayerReader) -> MixerTensors:
    """The mixer's tensors of one layer; the model has sizes for them."""
    assert config.mixer, "a layer with a mixer, in a model without its sizes"
    return READERS[type(config.mixer)](config, config.mixer, reader)
