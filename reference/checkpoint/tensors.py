"""Which tensors a decoder is made of, under the names that Hugging Face gives them, each checked for its shape."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from verbatim.reference.checkpoint.families import family_named
from verbatim.reference.checkpoint.families.family import ExpertNames
from verbatim.reference.checkpoint.weights import Tensor, Weights
from verbatim.reference.numerics.quantization import (
    SCALES,
    STORED_DTYPES,
    QuantizedTensor,
    from_stored,
    quantize,
    stored_shape,
)
from verbatim.reference.records.config import Experts, LayerConfig, ModelConfig

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A linear layer as stored: weight (outputs, inputs), and a bias (outputs,) where the model has one.

    In a quantised checkpoint `weight` holds integers as N4 lays them out, and `scales` is there; routers stay float.
    """

    weight: Tensor
    bias: Tensor | None = None
    scales: Tensor | None = None
    num_inputs: int

    def quantized(self, quantization: str) -> QuantizedTensor:
        """The integers of N4: as stored, or made from the float weight."""
        if self.scales is None:
            return quantize(self.weight.name, self.weight.float32(), quantization)
        return from_stored(self.weight.name, quantization, self.weight.bits, self.scales.bits, self.num_inputs)

    def rows(self, start: int, stop: int) -> "Matrix":
        """Some of the outputs as a matrix of their own."""
        scales = self.scales and self.scales.rows(start, stop)
        return Matrix(weight=self.weight.rows(start, stop), scales=scales, num_inputs=self.num_inputs)


@dataclass(frozen=True, slots=True)
class FeedForward:
    """The gated part of a layer, or one expert of it."""

    gate: Matrix
    up: Matrix
    down: Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One decoder layer. Norms that its family does not have are None; `router` and `experts` only with experts."""

    config: LayerConfig
    attention_norm: Tensor | None
    attention_out_norm: Tensor | None
    query: Matrix
    key: Matrix
    value: Matrix
    output: Matrix
    query_norm: Tensor | None
    key_norm: Tensor | None
    mlp_norm: Tensor | None
    mlp_out_norm: Tensor | None
    mlp: FeedForward | None
    router: Matrix | None
    experts: tuple[FeedForward, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Everything a forward pass needs. `head` shares the embedding's tensor where the model ties the two.

    An eagle head has neither `norm` nor `head`, but `fusion`, which makes one row of a token's and a state's.
    """

    embedding: Tensor
    layers: tuple[Layer, ...]
    norm: Tensor | None = None
    head: Matrix | None = None
    fusion: Matrix | None = None

    def quantized_matrices(self) -> Iterator[Matrix]:
        """The matrices that N4 makes integers of: all but the routers."""
        for layer in self.layers:
            yield from (layer.query, layer.key, layer.value, layer.output)
            for part in layer.experts if layer.mlp is None else (layer.mlp,):
                yield from (part.gate, part.up, part.down)
        if self.head is not None:
            yield self.head


# Where a family normalises, and how Hugging Face names it: before attention, after it, before the feed-forward, after.
NORM_NAMES = {
    "before": ("input_layernorm", None, "post_attention_layernorm", None),
    "after": (None, "post_attention_layernorm", None, "post_feedforward_layernorm"),
    "around": (
        "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
    ),
    "between": (None, None, "post_attention_layernorm", None),
}  # fmt: skip


def open_checkpoint(config: ModelConfig, weights: Weights) -> Checkpoint:
    """Find and check every tensor; raises ModelError for one that is missing, misshapen or not finite."""
    embedding = weights.get(EMBEDDING, (config.vocab_size, config.hidden_size))
    # A quantised checkpoint has a head of its own even where the two are tied: the embedding's rows stay float (N4).
    head_name = EMBEDDING if config.tie_embeddings and config.quantization is None else HEAD
    return Checkpoint(
        embedding=embedding,
        layers=tuple(_Reader(config, weights, i).layer() for i in range(config.num_layers)),
        norm=weights.get("model.norm.weight", (config.hidden_size,)),
        head=_matrix(config, weights, head_name, (config.vocab_size, config.hidden_size)),
    )


def open_eagle(config: ModelConfig, weights: Weights, embedding: Tensor) -> Checkpoint:
    """The tensors of an eagle head; where it has no embedding of its own, it shares the one given."""
    hidden, name = config.hidden_size, "embed_tokens.weight"
    fusion = Matrix(
        weight=weights.get("fc.weight", (hidden, 2 * hidden)),
        bias=weights.get("fc.bias", (hidden,)) if "fc.bias" in weights else None,
        num_inputs=2 * hidden,
    )
    return Checkpoint(
        embedding=weights.get(name, (config.vocab_size, hidden)) if name in weights else embedding,
        layers=tuple(_Reader(config, weights, i, stem="").layer() for i in range(config.num_layers)),
        fusion=fusion,
    )


def _matrix(config: ModelConfig, weights: Weights, name: str, shape: tuple[int, int]) -> Matrix:
    """A matrix without its bias, float or as the integers that the configuration promises."""
    if config.quantization is None:
        return Matrix(weight=weights.get(name, shape), num_inputs=shape[1])
    integers_shape = stored_shape(config.quantization, *shape)
    return Matrix(
        weight=weights.get(name, integers_shape, dtypes=(STORED_DTYPES[config.quantization],)),
        scales=weights.get(name + SCALES, integers_shape[:2], dtypes=("F16",)),
        num_inputs=shape[1],
    )


class _Reader:
    """Reads one layer."""

    def __init__(self, config: ModelConfig, weights: Weights, index: int, stem: str = "model."):
        self.config, self.weights, self.layer_config = config, weights, config.layers[index]
        self.prefix = f"{stem}layers.{index}."
        self.num_queries = config.num_heads * config.head_dim
        self.num_keys = config.num_kv_heads * config.head_dim

    def layer(self) -> Layer:
        config, hidden = self.config, self.config.hidden_size
        norms = [None if name is None else self.vector(name, hidden) for name in NORM_NAMES[config.norms]]
        query, key, value = self.attention_inputs()
        experts = config.experts if self.layer_config.has_experts else None
        return Layer(
            config=self.layer_config,
            attention_norm=norms[0],
            attention_out_norm=norms[1],
            query=query,
            key=key,
            value=value,
            output=self.matrix("self_attn.o_proj", hidden, self.num_queries, has_bias=config.output_bias),
            query_norm=self.head_norm("self_attn.q_norm", self.num_queries),
            key_norm=self.head_norm("self_attn.k_norm", self.num_keys),
            mlp_norm=norms[2],
            mlp_out_norm=norms[3],
            mlp=self.feed_forward() if experts is None else None,
            router=None if experts is None else self.router(experts),
            experts=() if experts is None else tuple(self.expert(experts, i) for i in range(experts.num_experts)),
        )

    def attention_inputs(self) -> tuple[Matrix, Matrix, Matrix]:
        hidden, sizes = self.config.hidden_size, (self.num_queries, self.num_keys, self.num_keys)
        if self.config.has_fused_matrices:
            query, key, value = self.split(self.matrix("self_attn.qkv_proj", sum(sizes), hidden), sizes)
            return query, key, value
        names = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
        has_bias = self.config.query_bias
        query, key, value = (
            self.matrix(n, size, hidden, has_bias=has_bias) for n, size in zip(names, sizes, strict=True)
        )
        return query, key, value

    def feed_forward(self) -> FeedForward:
        hidden, inner, has_bias = self.config.hidden_size, self.config.intermediate_size, self.config.mlp_bias
        down = self.matrix("mlp.down_proj", hidden, inner, has_bias=has_bias)
        if self.config.has_fused_matrices:
            gate, up = self.split(self.matrix("mlp.gate_up_proj", 2 * inner, hidden), (inner, inner))
            return FeedForward(gate, up, down)
        gate, up = (self.matrix(f"mlp.{name}_proj", inner, hidden, has_bias=has_bias) for name in ("gate", "up"))
        return FeedForward(gate, up, down)

    @property
    def expert_names(self) -> ExpertNames:
        return family_named(self.config.family).experts

    def router(self, experts: Experts) -> Matrix:
        """Float in every checkpoint (N9)."""
        name, hidden = f"{self.prefix}{self.expert_names.part}gate.weight", self.config.hidden_size
        return Matrix(weight=self.weights.get(name, (experts.num_experts, hidden)), num_inputs=hidden)

    def expert(self, experts: Experts, index: int) -> FeedForward:
        hidden, inner = self.config.hidden_size, experts.intermediate_size
        known = self.expert_names
        prefix, names = f"{known.part}experts.{index}.", (known.gate, known.up, known.down)
        shapes = ((inner, hidden), (inner, hidden), (hidden, inner))
        return FeedForward(*(self.matrix(prefix + name, *shape) for name, shape in zip(names, shapes, strict=True)))

    def head_norm(self, name: str, num_features: int) -> Tensor | None:
        if self.config.query_key_norm is None:
            return None
        return self.vector(name, self.config.head_dim if self.config.query_key_norm == "head" else num_features)

    def vector(self, name: str, size: int) -> Tensor:
        return self.weights.get(f"{self.prefix}{name}.weight", (size,))

    def matrix(self, name: str, outputs: int, inputs: int, *, has_bias: bool = False) -> Matrix:
        stored = _matrix(self.config, self.weights, f"{self.prefix}{name}.weight", (outputs, inputs))
        return replace(stored, bias=self.weights.get(f"{self.prefix}{name}.bias", (outputs,))) if has_bias else stored

    def split(self, fused: Matrix, sizes: tuple[int, ...]) -> tuple[Matrix, ...]:
        """Cut one stored matrix into several by its outputs."""
        parts, start = [], 0
        for size in sizes:
            parts.append(fused.rows(start, start + size))
            start += size
        return tuple(parts)
