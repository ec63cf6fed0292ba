"""A checkpoint's tensors, found under the names of its family, each checked for its shape.

Names are those that Hugging Face gives Llama; a family's own are in `Family.names`. The layers of a multimodal model's
text part lie behind one of two further prefixes.
"""

from dataclasses import replace
from functools import partial

from verbatim.reference.checkpoint.families import family_named
from verbatim.reference.checkpoint.families.family import Family, norm_names
from verbatim.reference.checkpoint.grouped_queries import split_gates, split_groups
from verbatim.reference.checkpoint.head_rows import in_halves, norm_in_halves, num_paired, unit_norm
from verbatim.reference.checkpoint.interleaved_experts import InterleavedExperts
from verbatim.reference.checkpoint.latent_matrices import read_latent
from verbatim.reference.checkpoint.mixers import read_mixer
from verbatim.reference.checkpoint.quantized.matrices import COMPUTED, MadeTensor, check_zero
from verbatim.reference.checkpoint.stems import STEMS
from verbatim.reference.checkpoint.tensors import Checkpoint, FeedForward, Layer, Matrix
from verbatim.reference.checkpoint.weights import FLOATS, Tensor, Weights
from verbatim.reference.numerics.blocks import BLOCK_FORMATS
from verbatim.reference.numerics.quantization import GGUF, MIXED, MXFP4, SCALES, STORED_DTYPES, stored_shape
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.experts import Experts

EAGLE = Family(name="eagle", architecture="")


def open_checkpoint(config: ModelConfig, weights: Weights) -> Checkpoint:
    """Find and check every tensor; raises ModelError for one that is missing, misshapen or not finite."""
    names = family_named(config.family).names
    stem = _stem(config, weights)
    embedding_name = f"{stem}{names.get('embed_tokens', 'embed_tokens')}.weight"
    embedding = weights.get(embedding_name, (config.vocab_size, config.hidden_size), dtypes=_dtypes(config)).plain()
    layers = tuple(_Reader(config, weights, i, stem).layer() for i in range(config.num_layers))
    head_name = head_name_of(config, weights)
    # A quantised checkpoint has a head of its own even where the two are tied: the embedding's rows stay float (N4).
    # A head that is stored counts whatever config.json says; the text part of a multimodal model may lack one silently.
    may_tie = (config.tie_embeddings or stem in STEMS[1:]) and config.quantization in (None, *MIXED)
    is_tied = may_tie and head_name not in weights
    head = _matrix(config, weights, embedding_name if is_tied else head_name, (config.vocab_size, config.hidden_size))
    if config.head_bias:
        head = replace(head, bias=weights.get(head_name.replace(".weight", ".bias"), (config.vocab_size,)))
    norm = f"{stem}{names.get('norm', 'norm')}"
    return Checkpoint(
        embedding=embedding,
        layers=layers,
        norm=weights.get(f"{norm}.weight", (config.hidden_size,)),
        norm_bias=weights.get(f"{norm}.bias", (config.hidden_size,)) if config.norm_bias else None,
        head=head,
    )


def head_name_of(config: ModelConfig, weights: Weights) -> str:
    """The name of a head that is not the embedding, stored or to be stored."""
    outer = "language_model." if _stem(config, weights) == STEMS[1] else ""
    return f"{outer}{family_named(config.family).names.get('lm_head', 'lm_head')}.weight"


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


def _stem(config: ModelConfig, weights: Weights) -> str:
    name = family_named(config.family).names.get("embed_tokens", "embed_tokens")
    stems = (*family_named(config.family).stems, *STEMS)
    return next((stem for stem in stems if f"{stem}{name}.weight" in weights), STEMS[0])


def _dtypes(config: ModelConfig) -> tuple[str, ...]:
    """What a matrix that stands for floats may be stored as."""
    return (*FLOATS, *BLOCK_FORMATS, *COMPUTED) if config.quantization in MIXED else FLOATS


def _matrix(config: ModelConfig, weights: Weights, name: str, shape: tuple[int, int], *, count: int = 0) -> Matrix:
    """A matrix without its bias, float or as the integers that the configuration promises.

    With `count`, that many matrices lie in one tensor (count, outputs, inputs); they are returned below each other.
    """
    below = (count or 1) * shape[0], shape[1]
    if config.quantization in (None, *MIXED):
        stored = weights.get(name, (count, *shape) if count else shape, dtypes=_dtypes(config))
        stored = replace(stored, bits=stored.bits.reshape(below)) if count else stored
        return Matrix(weight=stored, num_inputs=shape[1])
    integers_shape = stored_shape(config.quantization, *below)
    return Matrix(
        weight=weights.get(name, integers_shape, dtypes=(STORED_DTYPES[config.quantization],)),
        scales=weights.get(name + SCALES, integers_shape[:2], dtypes=("F16",)),
        num_inputs=shape[1],
    )


class _Reader:
    """Reads one layer."""

    def __init__(self, config: ModelConfig, weights: Weights, index: int, stem: str):
        self.config, self.weights, self.layer_config = config, weights, config.layers[index]
        self.family = EAGLE if config.family == "eagle" else family_named(config.family)
        self.prefix = f"{stem}layers.{index}."
        self.num_queries, self.num_keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.num_values = config.num_heads * config.value_dim
        self.num_paired = num_paired(config, index)

    def layer(self) -> Layer:
        config, hidden = self.config, self.config.hidden_size
        names = norm_names(config.norms, self.layer_config)
        norms = [None if name is None else self.vector(name, hidden) for name in names]
        biases = [self.bias(name, hidden) if name and config.norm_bias else None for name in names]
        experts = config.experts if self.layer_config.has_experts else None
        return Layer(
            config=self.layer_config,
            attention_norm=norms[0],
            attention_norm_bias=biases[0],
            attention_out_norm=norms[1],
            **(self.attention() if self.layer_config.has_attention else {}),
            mixer=read_mixer(config, self) if self.layer_config.has_mixer else None,
            mlp_norm=norms[2],
            mlp_norm_bias=biases[2],
            mlp_out_norm=norms[3],
            mlp=self.feed_forward() if self.layer_config.has_dense_network else None,
            **({"router": None, "experts": ()} if experts is None else self.mixture(experts)),
        )

    def attention(self) -> dict:
        """The tensors of attention, as fields of a Layer."""
        config = self.config
        return self.attention_inputs() | {
            "output": self.matrix("self_attn.o_proj", config.hidden_size, self.num_values, has_bias=config.output_bias),
            "query_norm": self.head_norm("self_attn.q_norm", config.num_heads),
            "key_norm": self.head_norm("self_attn.k_norm", config.num_kv_heads),
            "sink_scores": self.tensor("self_attn.sinks", config.num_heads) if config.has_sink_scores else None,
        }

    def attention_inputs(self) -> dict:
        """The matrices of queries, keys and values, as fields of a Layer."""
        if self.config.latent:
            return read_latent(self.config, self.config.latent, self)
        hidden, queries = self.config.hidden_size, self.num_queries * (1 + self.config.has_output_gate)
        sizes = queries, self.num_keys, self.num_keys
        matrices: tuple[Matrix, ...]
        if self.family.groups_queries:
            matrices = split_groups(self.config, self.matrix("self_attn.qkv_proj", sum(sizes), hidden))
        elif self.config.has_fused_matrices:
            matrices = self.split(self.matrix("self_attn.qkv_proj", sum(sizes), hidden), sizes)
        else:
            pairs, has_bias = zip("qkv", sizes, strict=True), self.config.query_bias
            *found, value = (self.matrix(f"self_attn.{x}_proj", size, hidden, has_bias=has_bias) for x, size in pairs)
            matrices = (*(in_halves(matrix, self.config.head_dim, self.num_paired) for matrix in found), value)
        inputs = dict(zip(("query", "key", "value"), matrices, strict=True))
        return inputs | split_gates(self.config, inputs["query"]) if self.config.has_output_gate else inputs

    def feed_forward(self) -> FeedForward:
        hidden, inner, has_bias = self.config.hidden_size, self.config.intermediate_size, self.config.mlp_bias
        down = self.matrix("mlp.down_proj", hidden, inner, has_bias=has_bias)
        is_fused = self.config.has_fused_matrices or self.family.has_fused_gate
        if is_fused and not (self.config.quantization == GGUF and self.family.experts.is_shared_network):
            gate, up = self.split(self.matrix("mlp.gate_up_proj", 2 * inner, hidden), (inner, inner))
            return FeedForward(gate, up, down)
        up = self.matrix("mlp.up_proj", inner, hidden, has_bias=has_bias)
        if not self.config.has_gate:
            return FeedForward(None, up, down)
        return FeedForward(self.matrix("mlp.gate_proj", inner, hidden, has_bias=has_bias), up, down)

    def mixture(self, experts: Experts) -> dict:
        """The router, the experts, and the expert of every token where there is one."""
        known = self.family.experts
        router = f"{known.part}{known.router}"
        found: dict = {"router": self.float_matrix(router, experts.num_experts, has_bias=experts.has_biases)}
        parts = self.all_experts(experts)
        if experts.routing == "sigmoid" or experts.has_score_bias:
            rows = (1,) if known.score_bias_rows else ()
            found["score_bias"] = self.tensor(known.part + known.score_bias, *rows, experts.num_experts)
        if experts.shared_size:
            size, is_network = experts.shared_size, known.is_shared_network
            found["shared"] = self.feed_forward() if is_network else self.expert(f"{known.shared}.", size)
        if experts.has_shared_gate:
            found["shared_gate"] = self.float_matrix(f"{known.part}{known.shared_gate}", 1)
        return found | {"experts": tuple(parts)}

    def all_experts(self, experts: Experts) -> list[FeedForward]:
        known, count, inner = self.family.experts, experts.num_experts, experts.intermediate_size
        if (names := known.interleaved or known.joined) and self.config.quantization != GGUF:
            prefix, sizes = self.prefix + known.part, {"hidden": self.config.hidden_size, "inner": inner}
            reader = InterleavedExperts(self.weights, prefix, count=count, has_biases=experts.has_biases, **sizes)
            is_mxfp4 = self.config.quantization == MXFP4
            return reader.read(*names, in_turn=bool(known.interleaved), may_be_mxfp4=is_mxfp4)
        names = (f"{known.up}.weight", f"{known.down}.weight") if known.is_stacked else known.stacked
        if names and f"{self.prefix}{known.part}{names[0]}" in self.weights:
            return self.stacked_experts(experts, *names)
        return [self.expert(f"experts.{i}.", inner, has_bias=experts.has_biases) for i in range(count)]

    def expert(self, name: str, inner: int, *, has_bias: bool = False) -> FeedForward:
        known, hidden = self.family.experts, self.config.hidden_size
        gate = {known.gate: (inner, hidden)} if self.config.has_gate else {}
        shapes = gate | {known.up: (inner, hidden), known.down: (hidden, inner)}
        stem = known.part + name
        found = {part: self.matrix(stem + part, *s, has_bias=has_bias) for part, s in shapes.items()}
        return FeedForward(found.get(known.gate), found[known.up], found[known.down])

    def stacked_experts(self, experts: Experts, up: str, down: str) -> list[FeedForward]:
        hidden, inner, count = self.config.hidden_size, experts.intermediate_size, experts.num_experts
        stem, read = self.prefix + self.family.experts.part, partial(_matrix, self.config, self.weights, count=count)
        parts = self.split(read(stem + up, (2 * inner, hidden)), (inner,) * (2 * count))
        downs = self.split(read(stem + down, (hidden, inner)), (hidden,) * count)
        return [FeedForward(parts[2 * i], parts[2 * i + 1], downs[i]) for i in range(count)]

    def float_matrix(self, name: str, outputs: int, *, has_bias: bool = False) -> Matrix:
        """Float in every checkpoint (N9)."""
        hidden, bias = self.config.hidden_size, self.bias(name, outputs) if has_bias else None
        stored = self.weights.get(f"{self.prefix}{name}.weight", (outputs, hidden))
        return Matrix(weight=stored, bias=bias, num_inputs=hidden)

    def tensor(self, name: str, *shape: int) -> Tensor:
        return self.weights.get(self.stored(name), shape)

    def head_norm(self, name: str, num_heads: int) -> Tensor | None:
        size, form = self.config.head_dim, self.config.query_key_norm
        if form in (None, "unit"):
            return unit_norm(size) if form and self.layer_config.rope else None
        shape = {"head": (size,), "heads": (num_heads, size), "all": (num_heads * size,)}[form]
        return norm_in_halves(self.weights.get(f"{self.stored(name)}.weight", shape), self.num_paired)

    def floats(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return self.weights.get(f"{self.stored(name)}.weight", shape, dtypes=_dtypes(self.config))

    def vector(self, name: str, size: int) -> Tensor:
        return self.weights.get(f"{self.stored(name)}.weight", (size,))

    def bias(self, name: str, size: int) -> Tensor:
        return self.weights.get(f"{self.stored(name)}.bias", (size,))

    def stored(self, name: str) -> str:
        return self.prefix + self.family.names.get(name, name)

    def matrix(self, name: str, outputs: int, inputs: int, *, has_bias: bool = False, count: int = 0) -> Matrix:
        found = _matrix(self.config, self.weights, f"{self.stored(name)}.weight", (outputs, inputs), count=count)
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
