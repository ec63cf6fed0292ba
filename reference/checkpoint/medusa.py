"""Medusa heads on disk: how many there are, and their tensors under the names that the paper's own code gives them.

config.json has `model_type` "medusa", `medusa_num_heads`, `medusa_num_layers`, `hidden_size` and `vocab_size`. Head I
has the blocks medusa_head.I.J.linear.weight and .bias, and behind them, if it does not share the model's output layer,
medusa_head.I.L.weight with L the number of blocks.
"""

from dataclasses import dataclass
from pathlib import Path

from verbatim.reference.checkpoint.families import read_draft_config, required
from verbatim.reference.checkpoint.tensors import Matrix
from verbatim.reference.checkpoint.weights import Weights, load_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class MedusaCheckpoint:
    """The blocks of every head; `outputs` is empty where the heads share the model's output layer."""

    vocab_size: int
    hidden_size: int
    blocks: tuple[tuple[Matrix, ...], ...]
    outputs: tuple[Matrix, ...]


def load_medusa(directory: str | Path) -> MedusaCheckpoint:
    """Find and check every tensor; raises ModelError naming the field or tensor that is wrong."""
    raw = read_draft_config(directory, "medusa")
    num_heads, num_layers, hidden_size, vocab_size = (
        required(raw, name) for name in ("medusa_num_heads", "medusa_num_layers", "hidden_size", "vocab_size")
    )
    weights, heads = load_weights(directory), [f"medusa_head.{i}" for i in range(num_heads)]
    blocks = [[f"{head}.{j}.linear" for j in range(num_layers)] for head in heads]
    outputs = [f"{head}.{num_layers}.weight" for head in heads]
    has_outputs = any(name in weights for name in outputs)
    return MedusaCheckpoint(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        blocks=tuple(tuple(_block(weights, name, hidden_size) for name in names) for names in blocks),
        outputs=tuple(_output(weights, name, vocab_size, hidden_size) for name in outputs if has_outputs),
    )


def _block(weights: Weights, name: str, size: int) -> Matrix:
    weight, bias = weights.get(f"{name}.weight", (size, size)), weights.get(f"{name}.bias", (size,))
    return Matrix(weight=weight, bias=bias, num_inputs=size)


def _output(weights: Weights, name: str, vocab_size: int, hidden_size: int) -> Matrix:
    return Matrix(weight=weights.get(name, (vocab_size, hidden_size)), num_inputs=hidden_size)
