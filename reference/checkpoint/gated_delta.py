"""The tensors of a gated delta net (N16), in the engines' order: all queries, all keys, all values, all gates.

Qwen3-Next has one matrix for queries, keys, values and gates and one for rates and steps, in which the rows of each key
head lie together; Qwen 3.5 has four matrices. Rates and steps decide how a state decays, and stay floats.
"""

from dataclasses import dataclass

import numpy as np

from verbatim.reference.checkpoint.layer_reader import LayerReader
from verbatim.reference.checkpoint.tensors import Matrix
from verbatim.reference.checkpoint.weights import Tensor
from verbatim.reference.numerics.quantization import GGUF
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.gated_delta import GatedDelta


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaTensors:
    """`mixed` (channels, hidden) makes queries, keys and values, `gate` (values, hidden) the gates of what heads read.

    `rates` and `steps` (value heads, hidden) say how much a token corrects and how far it decays the state, with
    `decays` and `step_bias` (value heads,). Decays are stored as the logarithms of what they are or, in GGUF files
    (`has_negatives`), less than 0. `weight` (channels, 1, width) is the convolution's, the present token's last; `norm`
    (value_dim,) that of each head's norm; `out` is (hidden, values).
    """

    mixed: Matrix
    gate: Matrix
    rates: Matrix
    steps: Matrix
    weight: Tensor
    decays: Tensor
    has_negatives: bool
    step_bias: Tensor
    norm: Tensor
    out: Matrix

    def matrices(self) -> tuple[Matrix, ...]:
        """Those that may be integers."""
        return self.mixed, self.gate, self.out

    def float_matrices(self) -> tuple[Matrix, ...]:
        """Those that never are made integers of."""
        return self.rates, self.steps


def read_gated_delta(config: ModelConfig, sizes: GatedDelta, reader: LayerReader) -> DeltaTensors:
    """The tensors of one layer."""
    hidden, heads, name = config.hidden_size, sizes.num_value_heads, "linear_attn."
    is_gguf = config.quantization == GGUF
    mixed, gate = (_grouped if sizes.is_grouped and not is_gguf else _apart)(hidden, sizes, reader)
    rates, steps = _small(hidden, sizes, reader)
    return DeltaTensors(
        mixed=mixed, gate=gate, rates=rates, steps=steps,
        weight=reader.tensor(f"{name}conv1d.weight", sizes.channels, 1, sizes.width),
        decays=reader.tensor(f"{name}{'A' if is_gguf else 'A_log'}", heads),
        has_negatives=is_gguf,
        step_bias=reader.tensor(f"{name}dt_bias", heads),
        norm=reader.vector(f"{name}norm", sizes.value_dim),
        out=reader.matrix(f"{name}out_proj", hidden, sizes.values),
    )  # fmt: skip


def _apart(hidden: int, sizes: GatedDelta, reader: LayerReader) -> tuple[Matrix, Matrix]:
    mixed = reader.matrix("linear_attn.in_proj_qkv", sizes.channels, hidden)
    return mixed, reader.matrix("linear_attn.in_proj_z", sizes.values, hidden)


def _grouped(hidden: int, sizes: GatedDelta, reader: LayerReader) -> tuple[Matrix, Matrix]:
    """The two parts of one matrix, whose rows are put in order."""
    shared_by, key_dim = sizes.num_value_heads // sizes.num_key_heads, sizes.key_dim
    whole = reader.matrix("linear_attn.in_proj_qkvz", sizes.channels + sizes.values, hidden)
    rows = np.arange(sizes.channels + sizes.values).reshape(sizes.num_key_heads, -1)
    *mixed, gates = np.split(rows, [key_dim, 2 * key_dim, 2 * key_dim + shared_by * sizes.value_dim], axis=1)
    ordered = np.concatenate([part.reshape(-1) for part in mixed])
    return whole.select("mixed", ordered), whole.select("gate", gates.reshape(-1))


def _small(hidden: int, sizes: GatedDelta, reader: LayerReader) -> tuple[Matrix, Matrix]:
    """Rates and steps, which are one matrix where those of a key head lie together."""
    heads = sizes.num_value_heads
    if not sizes.is_grouped:
        weights = (reader.floats(f"linear_attn.in_proj_{part}", (heads, hidden)) for part in "ba")
        rates, steps = (Matrix(weight=weight, num_inputs=hidden) for weight in weights)
        return rates, steps
    both = Matrix(weight=reader.floats("linear_attn.in_proj_ba", (2 * heads, hidden)), num_inputs=hidden)
    rows = np.arange(2 * heads).reshape(-1, 2, heads // sizes.num_key_heads)
    return both.select("rates", rows[:, 0].reshape(-1)), both.select("steps", rows[:, 1].reshape(-1))
