"""Experts in tensors of all of them, where outputs of gate and up lie in turn, or gate's before up's.

gpt-oss stores them in turn, Llama 4 one after the other. Floats are stored as (experts, inputs, outputs), whose columns
are the outputs; MXFP4 (N4g) as `NAME_blocks` (experts, outputs, groups, 16) and `NAME_scales` (experts, outputs,
groups). Views of the mapped file stand for both: nothing is copied here.
"""

from verbatim.reference.checkpoint.tensors import FeedForward, Matrix
from verbatim.reference.checkpoint.weights import Tensor, Weights
from verbatim.reference.numerics.quantization import GROUP_SIZE
from verbatim.reference.records.errors import ModelError

NO_NUMBER = 255  # as an exponent of MXFP4


class InterleavedExperts:
    """Reads the experts of one layer: `prefix` is all that precedes the names `up` (gate and up) and `down`."""

    def __init__(self, weights: Weights, prefix: str, *, count: int, hidden: int, inner: int, has_biases: bool):
        self.weights, self.prefix, self.count, self.has_biases = weights, prefix, count, has_biases
        self.hidden, self.inner, self.may_be_mxfp4 = hidden, inner, False

    def read(self, up: str, down: str, *, in_turn: bool, may_be_mxfp4: bool) -> list[FeedForward]:
        """The experts in order; ModelError for a tensor that is missing, misshapen or not finite."""
        self.may_be_mxfp4 = may_be_mxfp4
        ups, downs = self._stack(up, 2 * self.inner, self.hidden), self._stack(down, self.hidden, self.inner)
        gates = slice(0, None, 2) if in_turn else slice(self.inner)
        others, all_rows = slice(1, None, 2) if in_turn else slice(self.inner, None), slice(None)
        return [
            FeedForward(_part(*ups, i, gates, "gate"), _part(*ups, i, others, "up"), _part(*downs, i, all_rows, "all"))
            for i in range(self.count)
        ]

    def _stack(self, name: str, outputs: int, inputs: int) -> tuple[Matrix, Tensor | None]:
        """The matrices of all experts, (experts, outputs, inputs), and their biases, (experts, outputs)."""
        bias = self.weights.get(f"{self.prefix}{name}_bias", (self.count, outputs)) if self.has_biases else None
        if self.may_be_mxfp4 and f"{self.prefix}{name}_blocks" in self.weights:
            return self._mxfp4(name, outputs, inputs), bias
        stored = self.weights.get(f"{self.prefix}{name}", (self.count, inputs, outputs))
        by_output = Tensor(stored.name, stored.dtype, stored.bits.swapaxes(1, 2))
        return Matrix(weight=by_output, num_inputs=inputs), bias

    def _mxfp4(self, name: str, outputs: int, inputs: int) -> Matrix:
        shape = self.count, outputs, inputs // GROUP_SIZE
        if inputs % GROUP_SIZE:
            raise ModelError(f"weights: MXFP4 has groups of {GROUP_SIZE} inputs, {self.prefix}{name} has {inputs}")
        stored = self.weights.get(f"{self.prefix}{name}_blocks", (*shape, GROUP_SIZE // 2), dtypes=("U8",))
        exponents = self.weights.get(f"{self.prefix}{name}_scales", shape, dtypes=("U8",))
        if not self.weights.is_checked and (exponents.bits == NO_NUMBER).any():
            raise ModelError(f"weights: tensor {exponents.name} holds {NO_NUMBER}, which stands for no number")
        return Matrix(weight=stored, scales=exponents, num_inputs=inputs)


def _part(stack: Matrix, bias: Tensor | None, index: int, rows: slice, role: str) -> Matrix:
    """Some rows of one expert's matrix, under a name of their own."""

    def select(tensor: Tensor) -> Tensor:
        return Tensor(f"{tensor.name}[{index}, {role}]", tensor.dtype, tensor.bits[index, rows])

    scales = stack.scales and select(stack.scales)
    return Matrix(weight=select(stack.weight), bias=bias and select(bias), scales=scales, num_inputs=stack.num_inputs)
