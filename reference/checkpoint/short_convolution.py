"""The tensors of a gated short convolution (N14a): two matrices, and the weights between them, which stay floats."""

from dataclasses import dataclass

from verbatim.reference.checkpoint.layer_reader import LayerReader
from verbatim.reference.checkpoint.tensors import Matrix
from verbatim.reference.checkpoint.weights import Tensor
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.mixer import ShortConvolution


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvolutionTensors:
    """`into` (3 * channels, hidden) makes two gates and what is convolved; `out` (hidden, channels) comes last.

    `weight` is (channels, 1, length), the present token's last; `bias` (channels,) is there where the model has it.
    """

    into: Matrix
    weight: Tensor
    bias: Tensor | None
    out: Matrix

    def matrices(self) -> tuple[Matrix, ...]:
        """Those that may be integers."""
        return self.into, self.out

    def float_matrices(self) -> tuple[Matrix, ...]:
        """None."""
        return ()


def read_short_convolution(config: ModelConfig, sizes: ShortConvolution, reader: LayerReader) -> ConvolutionTensors:
    """The tensors of one layer."""
    hidden, channels = config.hidden_size, sizes.channels
    return ConvolutionTensors(
        into=reader.matrix("conv.in_proj", 3 * channels, hidden, has_bias=sizes.has_bias),
        weight=reader.tensor("conv.conv.weight", channels, 1, sizes.length),
        bias=reader.tensor("conv.conv.bias", channels) if sizes.has_bias else None,
        out=reader.matrix("conv.out_proj", hidden, channels, has_bias=sizes.has_bias),
    )
