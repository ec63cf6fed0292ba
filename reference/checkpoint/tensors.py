"""What a decoder is made of: matrices and vectors as they are stored; opening.py finds them in a checkpoint."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from verbatim.reference.checkpoint.quantized.matrices import GroupedTensor
from verbatim.reference.checkpoint.weights import Tensor
from verbatim.reference.numerics.block_weights import BlockedTensor, integers_of
from verbatim.reference.numerics.blocks import BLOCK_FORMATS, unpack, unpack_mxfp4
from verbatim.reference.numerics.quantization import MIXED, QuantizedTensor, SuperblockTensor, from_stored
from verbatim.reference.records.config import LayerConfig

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"  # in most families
LAYER_INPUTS = "model.embed_tokens_per_layer.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A linear layer as stored: weight (outputs, inputs), and a bias (outputs,) where the model has one.

    In a quantised checkpoint `weight` holds integers as N4 lays them out, and `scales` is there; routers stay float. In
    a GGUF file, and in what other tools quantised, `weight` alone holds both, in the format that its dtype names. For
    MXFP4 of gpt-oss `scales` are U8, its exponents.
    """

    weight: Tensor
    bias: Tensor | None = None
    scales: Tensor | None = None
    num_inputs: int

    def format(self, quantization: str | None) -> str | None:
        """The format of its integers, as QuantizedTensor names it: stored or wanted; None to compute in floats."""
        if self.weight.dtype in BLOCK_FORMATS:
            return BLOCK_FORMATS[self.weight.dtype].computed
        if isinstance(self.weight, GroupedTensor):
            return self.weight.dtype
        if self.scales is not None and self.scales.dtype == "U8":
            return "MXFP4"
        return None if quantization in MIXED else quantization

    def quantized(self, quantization: str) -> QuantizedTensor | SuperblockTensor | BlockedTensor:
        """The integers of N4, N4b and N4g: as stored, or made from the float weight."""
        if self.weight.dtype in BLOCK_FORMATS:
            return unpack(self.weight.dtype, self.weight.bits)
        if isinstance(self.weight, GroupedTensor):
            return self.weight.quantized()
        if self.scales is None:
            return integers_of(self.weight.name, self.weight.float32(), quantization)
        if self.scales.dtype == "U8":
            return unpack_mxfp4(self.weight.bits, self.scales.bits)
        return from_stored(self.weight.name, quantization, self.weight.bits, self.scales.bits, self.num_inputs)

    def select(self, part: str, outputs: np.ndarray) -> "Matrix":
        """Some of the outputs in any order, copied, under names that say which part of the whole they are."""
        found = (tensor and tensor.select(f"{tensor.name}[{part}]", outputs) for tensor in (self.bias, self.scales))
        bias, scales = found
        return replace(
            self, weight=self.weight.select(f"{self.weight.name}[{part}]", outputs), bias=bias, scales=scales
        )

    def rows(self, start: int, stop: int) -> "Matrix":
        """Some of the outputs as a matrix of their own."""
        scales = self.scales and self.scales.rows(start, stop)
        return Matrix(weight=self.weight.rows(start, stop), scales=scales, num_inputs=self.num_inputs)


@dataclass(frozen=True, slots=True)
class FeedForward:
    """The feed-forward network of a layer, or one expert of it; `gate` is None where the family has none."""

    gate: Matrix | None
    up: Matrix
    down: Matrix

    def matrices(self) -> tuple[Matrix, ...]:
        """All that are there."""
        return (self.up, self.down) if self.gate is None else (self.gate, self.up, self.down)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentMatrices:
    """What latent attention has beside a Layer's `query` and `key` (N8a).

    `query_down` (query_rank, hidden) and the norm of its outputs come before `query`, where the family has them.
    `latent_norm` norms the latent part of keys. For each head, `key_up` (rank, plain_dim) multiplies a query into the
    space of latents, and `value_up` (value_dim, rank) makes a value of a latent; both are floats.
    """

    query_down: Matrix | None
    query_norm: Tensor | None
    latent_norm: Tensor
    key_up: tuple[Matrix, ...]
    value_up: tuple[Matrix, ...]


class MixerTensors(Protocol):
    """What a layer with a state (N14) has beside norms and a feed-forward network; each kind has fields of its own.

    `out` is the last matrix, which makes hidden rows of what the scan gives.
    """

    @property
    def out(self) -> Matrix:
        """The last matrix."""

    def matrices(self) -> tuple[Matrix, ...]:
        """Those that may be integers."""

    def float_matrices(self) -> tuple[Matrix, ...]:
        """Those that are never quantised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputMatrices:
    """What adds a layer's own inputs (N9b): `gate` (size, hidden), `projection` (hidden, size), and a norm behind."""

    gate: Matrix
    projection: Matrix
    norm: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamMatrices:
    """What a layer does with n streams (N9c).

    `router_norm` and `router` (n, hidden) make n numbers of a stream, `predictions` (n * n, n) and `corrections` (n, n)
    make weights of them; all are floats. `scale` (hidden,) multiplies what is combined with the layer's inputs. `left`
    (rank, hidden), `right` (hidden, rank) and `norm` are the residual of low rank.
    """

    router_norm: Tensor
    router: Matrix
    predictions: Matrix
    corrections: Matrix
    scale: Tensor | None
    left: Matrix
    right: Matrix
    norm: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchTensors:
    """What experts beside a dense network have (N9): norms before and behind both, and factors of the weights."""

    router_norm: Tensor
    norm: Tensor
    out_norm: Tensor
    dense_out_norm: Tensor
    factors: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenInputs:
    """What makes all layers' inputs (N9b) of a token's id and of its embedding.

    `embedding` (vocabulary, layers * size), `projection` (layers * size, hidden), `norm` (size,); floats.
    """

    embedding: Tensor
    projection: Matrix
    norm: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One decoder layer. Norms that its family does not have are None; `router` and `experts` only with experts.

    `sink_scores` (heads,) are learned scores without a key. `score_bias` (experts,) takes part in their choice.
    `shared` is the expert of every token, `shared_gate` (1, hidden) the float matrix of its weight. With `latent`, the
    outputs of `key` are a rotated part and a latent, shared by all heads, and there is no `value`. A layer without
    attention has none of its matrices, one that attends to another one's keys has neither `key` nor `value`; `mixer` is
    there where the layer has a state. `attention_gate` makes the gates of what heads made (N8), as many as queries have
    features. `scale` (1,) multiplies what a layer gives.
    """

    config: LayerConfig
    attention_norm: Tensor | None
    attention_out_norm: Tensor | None
    query: Matrix | None = None
    key: Matrix | None = None
    value: Matrix | None = None
    output: Matrix | None = None
    query_norm: Tensor | None = None
    key_norm: Tensor | None = None
    value_norm: Tensor | None = None
    attention_gate: Matrix | None = None
    sink_scores: Tensor | None = None
    mlp_norm: Tensor | None
    mlp_out_norm: Tensor | None
    mlp: FeedForward | None
    router: Matrix | None
    score_bias: Tensor | None = None
    experts: tuple[FeedForward, ...]
    shared: FeedForward | None = None
    shared_gate: Matrix | None = None
    attention_norm_bias: Tensor | None = None
    mlp_norm_bias: Tensor | None = None
    latent: LatentMatrices | None = None
    mixer: MixerTensors | None = None
    branch: BranchTensors | None = None
    inputs: InputMatrices | None = None
    streams: StreamMatrices | None = None
    scale: Tensor | None = None

    def parts(self) -> tuple[FeedForward, ...]:
        """The feed-forward networks: all experts, or the dense one, or both; the shared one last."""
        chosen = self.experts if self.mlp is None else (*self.experts, self.mlp)
        return chosen if self.shared is None else (*chosen, self.shared)

    def attention_matrices(self) -> tuple[Matrix, ...]:
        """The matrices of attention, and of what is in its place, that may be integers."""
        down = self.latent.query_down if self.latent else None
        found = (down, self.query, self.attention_gate, self.key, self.value, self.output)
        mixed = self.mixer.matrices() if self.mixer else ()
        return (*(matrix for matrix in found if matrix is not None), *mixed)

    def residual_matrices(self) -> tuple[Matrix, ...]:
        """The matrices beside attention and networks that may be integers."""
        found = (self.inputs.gate, self.inputs.projection) if self.inputs else ()
        return found + ((self.streams.left, self.streams.right) if self.streams else ())

    def float_matrices(self) -> tuple[Matrix, ...]:
        """Those that are never quantised: of the choice of experts (N9), of streams (N9c), of latent heads (N8a)."""
        found = tuple(matrix for matrix in (self.router, self.shared_gate) if matrix is not None)
        if self.streams:
            found += (self.streams.router, self.streams.predictions, self.streams.corrections)
        found += self.latent.key_up + self.latent.value_up if self.latent else ()
        return found + (self.mixer.float_matrices() if self.mixer else ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Everything a forward pass needs. `head` shares the embedding's tensor where the model ties the two.

    An eagle head has neither `norm` nor `head`, but `fusion`, which makes one row of a token's and a state's. Of
    several streams, `streams_in` (hidden, hidden) make all but the first of the embedding, `streams_out` end them.
    """

    embedding: Tensor
    layers: tuple[Layer, ...]
    norm: Tensor | None = None
    norm_bias: Tensor | None = None
    head: Matrix | None = None
    fusion: Matrix | None = None
    inputs: TokenInputs | None = None
    streams_in: tuple[Matrix, ...] = ()
    streams_out: tuple[Matrix, ...] = ()

    def quantized_matrices(self) -> Iterator[Matrix]:
        """The matrices that N4 makes integers of: all but `float_matrices`."""
        for layer in self.layers:
            yield from layer.attention_matrices()
            for part in layer.parts():
                yield from part.matrices()
            yield from layer.residual_matrices()
        if self.head is not None:
            yield self.head
