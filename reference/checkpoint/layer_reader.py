"""The tensors of one layer by their names in it: matrices, perhaps of integers, floats, vectors and biases."""

from dataclasses import replace

from verbatim.reference.checkpoint.families.family import Family
from verbatim.reference.checkpoint.quantized.matrices import COMPUTED, MadeTensor, check_zero
from verbatim.reference.checkpoint.tensors import Matrix
from verbatim.reference.checkpoint.weights import FLOATS, Tensor, Weights
from verbatim.reference.numerics.blocks import BLOCK_FORMATS
from verbatim.reference.numerics.quantization import MIXED, SCALES, STORED_DTYPES, stored_shape
from verbatim.reference.records.config import ModelConfig


def dtypes_of(config: ModelConfig) -> tuple[str, ...]:
    """What a matrix that stands for floats may be stored as."""
    return (*FLOATS, *BLOCK_FORMATS, *COMPUTED) if config.quantization in MIXED else FLOATS


def matrix_of(config: ModelConfig, weights: Weights, name: str, shape: tuple[int, int], *, count: int = 0) -> Matrix:
    """A matrix without its bias, float or as the integers that the configuration promises.

    With `count`, that many matrices lie in one tensor (count, outputs, inputs); they are returned below each other.
    """
    below = (count or 1) * shape[0], shape[1]
    if config.quantization in (None, *MIXED):
        stored = weights.get(name, (count, *shape) if count else shape, dtypes=dtypes_of(config))
        stored = replace(stored, bits=stored.bits.reshape(below)) if count else stored
        return Matrix(weight=stored, num_inputs=shape[1])
    integers_shape = stored_shape(config.quantization, *below)
    return Matrix(
        weight=weights.get(name, integers_shape, dtypes=(STORED_DTYPES[config.quantization],)),
        scales=weights.get(name + SCALES, integers_shape[:2], dtypes=("F16",)),
        num_inputs=shape[1],
    )


class LayerReader:
    """Reads tensors of one layer; `prefix` is all that precedes their names."""

    def __init__(self, config: ModelConfig, weights: Weights, family: Family, prefix: str):
        self.config, self.weights, self.family, self.prefix = config, weights, family, prefix

    def float_matrix(self, name: str, outputs: int, inputs: int = 0, *, has_bias: bool = False) -> Matrix:
        """Float in every checkpoint (N9); by default with as many inputs as the hidden size."""
        inputs, bias = inputs or self.config.hidden_size, self.bias(name, outputs) if has_bias else None
        stored = self.weights.get(f"{self.prefix}{name}.weight", (outputs, inputs))
        return Matrix(weight=stored, bias=bias, num_inputs=inputs)

    def tensor(self, name: str, *shape: int) -> Tensor:
        """A vector or another small tensor, by its whole name."""
        return self.weights.get(self.stored(name), shape)

    def floats(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A matrix that this project never makes integers of, in any format of another tool."""
        return self.weights.get(f"{self.stored(name)}.weight", shape, dtypes=dtypes_of(self.config))

    def vector(self, name: str, size: int) -> Tensor:
        """A norm's weight."""
        return self.weights.get(f"{self.stored(name)}.weight", (size,))

    def bias(self, name: str, size: int) -> Tensor:
        """What is added behind a matrix or a norm."""
        return self.weights.get(f"{self.stored(name)}.bias", (size,))

    def stored(self, name: str) -> str:
        """The family's name of what Llama calls so, behind the prefix."""
        return self.prefix + self.family.names.get(name, name)

    def matrix(self, name: str, outputs: int, inputs: int, *, has_bias: bool = False) -> Matrix:
        """A matrix, perhaps of integers."""
        found = matrix_of(self.config, self.weights, f"{self.stored(name)}.weight", (outputs, inputs))
        if has_bias:
            return replace(found, bias=self.bias(name, outputs))
        if isinstance(found.weight, MadeTensor) and f"{self.stored(name)}.bias" in self.weights:
            check_zero(self.bias(name, outputs))
        return found

    def split(self, fused: Matrix, sizes: tuple[int, ...]) -> tuple[Matrix, ...]:
        """Cut one stored matrix into several by its outputs."""
        parts, start = [], 0
        for size in sizes:
            parts.append(fused.rows(start, start + size))
            start += size
        return tuple(parts)
