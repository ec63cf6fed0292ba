"""The tensors of a GGUF file, by llama.cpp's names, from a model's matrices: the other direction of names.py."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from verbatim.reference.checkpoint.gguf.architectures import ARCHITECTURES
from verbatim.reference.checkpoint.gguf.names import NORMS
from verbatim.reference.checkpoint.gguf.shapes import EMBEDDING, OUTPUT
from verbatim.reference.checkpoint.tensors import Checkpoint, FeedForward, Layer, Matrix
from verbatim.reference.checkpoint.weights import Tensor
from verbatim.reference.records.config import ModelConfig

FUSED = "phi3"  # the architecture that has query, key, value in one matrix, and gate, up in another


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A tensor to be written: matrices below each other or, where `is_stack`, side by side; or a vector and what is
    added to it. `order` are the rows of what the matrices hold, where they are written in another order.
    """

    name: str
    matrices: tuple[Matrix, ...] = ()
    vectors: tuple[Tensor, ...] = ()
    offset: float = 0.0
    is_stack: bool = False
    is_float: bool = False  # routers, in every format
    order: np.ndarray | None = field(default=None, compare=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """In elements, outputs first."""
        if self.vectors:
            return (sum(vector.shape[0] for vector in self.vectors),)
        outputs, inputs = self.matrices[0].weight.shape[0], self.matrices[0].num_inputs
        if self.is_stack:
            return len(self.matrices), outputs, inputs
        return sum(matrix.weight.shape[0] for matrix in self.matrices), inputs


def parts_of_model(config: ModelConfig, checkpoint: Checkpoint, architecture: str) -> Iterator[Part]:
    """All tensors of a model."""
    assert checkpoint.norm is not None and checkpoint.head is not None
    embedding = Matrix(weight=checkpoint.embedding, num_inputs=config.hidden_size)
    is_tied = checkpoint.head.weight.name == checkpoint.embedding.name
    yield Part(name=EMBEDDING, matrices=(checkpoint.head if is_tied else embedding,))
    yield from _norm("output_norm", checkpoint.norm, checkpoint.norm_bias, config.norm_offset)
    if not is_tied:
        yield Part(name=OUTPUT, matrices=(checkpoint.head,))
    if checkpoint.head.bias is not None:
        yield Part(name="output.bias", vectors=(checkpoint.head.bias,))
    for index, layer in enumerate(checkpoint.layers):
        yield from _Layer(config, architecture, f"blk.{index}.").parts(layer)


def _norm(name: str, weight: Tensor | None, bias: Tensor | None, offset: float = 0.0) -> Iterator[Part]:
    if weight is not None:
        yield Part(name=f"{name}.weight", vectors=(weight,), offset=offset)
    if bias is not None:
        yield Part(name=f"{name}.bias", vectors=(bias,))


class _Layer:
    def __init__(self, config: ModelConfig, architecture: str, prefix: str):
        self.config, self.prefix, self.is_fused = config, prefix, architecture == FUSED
        self.has_pairs = ARCHITECTURES[architecture].has_pairs
        self.norms = list(NORMS)
        if architecture == "seed_oss":
            self.norms[2] = "post_attention_norm"

    def parts(self, layer: Layer) -> Iterator[Part]:
        norms = (layer.attention_norm, layer.attention_out_norm, layer.mlp_norm, layer.mlp_out_norm)
        others = (layer.attention_norm_bias, None, layer.mlp_norm_bias, None)
        for name, weight, bias in zip(self.norms, norms, others, strict=True):
            yield from _norm(self.prefix + name, weight, bias, self.config.norm_offset)
        yield from self.attention(layer)
        if layer.mlp is not None:
            yield from self.feed_forward(layer.mlp)
        if layer.router is not None:
            yield from self.mixture(layer)

    def attention(self, layer: Layer) -> Iterator[Part]:
        assert layer.query and layer.key and layer.value and layer.output  # no family that is written lacks one
        heads, keys = self.config.num_heads, self.config.num_kv_heads
        if self.is_fused:
            yield from self.matrix("attn_qkv", layer.query, layer.key, layer.value)
        else:
            yield from self.matrix("attn_q", layer.query, order=self.pairs(heads))
            yield from self.matrix("attn_k", layer.key, order=self.pairs(keys))
            yield from self.matrix("attn_v", layer.value)
        yield from self.matrix("attn_output", layer.output)
        yield from _norm(f"{self.prefix}attn_q_norm", layer.query_norm, None, self.config.norm_offset)
        yield from _norm(f"{self.prefix}attn_k_norm", layer.key_norm, None, self.config.norm_offset)

    def pairs(self, num_heads: int) -> np.ndarray | None:
        """The rows of each head in pairs, one of either half, as llama.cpp rotates them in some architectures."""
        if not self.has_pairs:
            return None
        rows = np.arange(num_heads * self.config.head_dim)
        return rows.reshape(num_heads, 2, -1).swapaxes(1, 2).reshape(-1)

    def feed_forward(self, found: FeedForward) -> Iterator[Part]:
        if self.is_fused and found.gate is not None:
            yield from self.matrix("ffn_up", found.gate, found.up)
        else:
            if found.gate is not None:
                yield from self.matrix("ffn_gate", found.gate)
            yield from self.matrix("ffn_up", found.up)
        yield from self.matrix("ffn_down", found.down)

    def mixture(self, layer: Layer) -> Iterator[Part]:
        assert layer.router is not None
        yield Part(name=f"{self.prefix}ffn_gate_inp.weight", matrices=(layer.router,), is_float=True)
        gates = [expert.gate for expert in layer.experts if expert.gate is not None]
        stacks = {"gate": gates, "up": [e.up for e in layer.experts], "down": [e.down for e in layer.experts]}
        for role, matrices in stacks.items():
            yield Part(name=f"{self.prefix}ffn_{role}_exps.weight", matrices=tuple(matrices), is_stack=True)
        if layer.shared is not None and layer.shared.gate is not None:
            for role, matrix in (("gate", layer.shared.gate), ("up", layer.shared.up), ("down", layer.shared.down)):
                yield from self.matrix(f"ffn_{role}_shexp", matrix)
        if layer.shared_gate is not None:
            row = Tensor(layer.shared_gate.weight.name, "F32", layer.shared_gate.weight.float32().reshape(-1))
            yield Part(name=f"{self.prefix}ffn_gate_inp_shexp.weight", vectors=(row,))

    def matrix(self, name: str, *matrices: Matrix, order: np.ndarray | None = None) -> Iterator[Part]:
        yield Part(name=f"{self.prefix}{name}.weight", matrices=matrices, order=order)
        biases = tuple(matrix.bias for matrix in matrices if matrix.bias is not None)
        if biases:
            yield Part(name=f"{self.prefix}{name}.bias", vectors=biases, order=order)
