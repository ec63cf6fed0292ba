"""The tensors of a selective state space (N15): two matrices, and vectors between them, which stay floats."""

from dataclasses import dataclass

from verbatim.reference.checkpoint.layer_reader import LayerReader
from verbatim.reference.checkpoint.tensors import Matrix
from verbatim.reference.checkpoint.weights import Tensor
from verbatim.reference.numerics.quantization import GGUF
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.mamba import Mamba


@dataclass(frozen=True, slots=True, kw_only=True)
class MambaTensors:
    """`into` makes gates, values, inward and outward vectors and steps; `out` (hidden, values) comes last.

    `convolution` is (channels, 1, width), the present token's last; `convolution_bias` (channels,), `norm` (values,)
    are there where the model has them. `step_bias`, `decays` and `skip` (heads,); decays are stored as the logarithms
    of what they are or, in GGUF files (`has_negatives`), less than 0.
    """

    into: Matrix
    convolution: Tensor
    convolution_bias: Tensor | None
    step_bias: Tensor
    decays: Tensor
    has_negatives: bool
    skip: Tensor
    norm: Tensor | None
    out: Matrix

    def matrices(self) -> tuple[Matrix, ...]:
        """Those that may be integers."""
        return self.into, self.out

    def float_matrices(self) -> tuple[Matrix, ...]:
        """None."""
        return ()


def read_mamba(config: ModelConfig, sizes: Mamba, reader: LayerReader) -> MambaTensors:
    """The tensors of one layer."""
    channels, heads, has_negatives = sizes.channels, sizes.num_heads, config.quantization == GGUF
    return MambaTensors(
        into=reader.matrix("mamba.in_proj", sizes.inputs, config.hidden_size, has_bias=sizes.has_input_bias),
        convolution=reader.tensor("mamba.conv1d.weight", channels, 1, sizes.width),
        convolution_bias=reader.tensor("mamba.conv1d.bias", channels) if sizes.has_convolution_bias else None,
        step_bias=reader.tensor("mamba.dt_bias", heads),
        decays=reader.tensor("mamba.A" if has_negatives else "mamba.A_log", heads),
        has_negatives=has_negatives,
        skip=reader.tensor("mamba.D", heads),
        norm=reader.tensor("mamba.norm.weight", sizes.values) if sizes.norm else None,
        out=reader.matrix("mamba.out_proj", config.hidden_size, sizes.values, has_bias=sizes.has_output_bias),
    )
