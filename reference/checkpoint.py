"""Which tensors a decoder is made of, under the names that Hugging Face gives them, each checked for its shape."""

from dataclasses import dataclass

from reference.config import ModelConfig
from reference.weights import Tensor, Weights


@dataclass(frozen=True, slots=True)
class Matrix:
    """A linear layer as stored: weight (outputs, inputs), and a bias (outputs,) where the model has one."""

    weight: Tensor
    bias: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One decoder layer: two norms, four matrices of attention, three of the gated feed-forward part."""

    attention_norm: Tensor
    query: Matrix
    key: Matrix
    value: Matrix
    output: Matrix
    mlp_norm: Tensor
    gate: Matrix
    up: Matrix
    down: Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Everything a forward pass needs. `head` shares the embedding's tensor where the model ties the two."""

    embedding: Tensor
    layers: tuple[Layer, ...]
    norm: Tensor
    head: Matrix


def open_checkpoint(config: ModelConfig, weights: Weights) -> Checkpoint:
    """Find and check every tensor; raises ModelError for one that is missing, misshapen or not finite."""
    vocabulary = (config.vocab_size, config.hidden_size)
    embedding = weights.get("model.embed_tokens.weight", vocabulary)
    head = embedding if config.tie_embeddings else weights.get("lm_head.weight", vocabulary)
    return Checkpoint(
        embedding=embedding,
        layers=tuple(_layer(config, weights, f"model.layers.{i}.") for i in range(config.num_layers)),
        norm=weights.get("model.norm.weight", (config.hidden_size,)),
        head=Matrix(head),
    )


def _layer(config: ModelConfig, weights: Weights, prefix: str) -> Layer:
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim

    def matrix(name: str, outputs: int, inputs: int, has_bias: bool) -> Matrix:
        weight = weights.get(f"{prefix}{name}.weight", (outputs, inputs))
        return Matrix(weight, weights.get(f"{prefix}{name}.bias", (outputs,)) if has_bias else None)

    return Layer(
        attention_norm=weights.get(f"{prefix}input_layernorm.weight", (hidden,)),
        query=matrix("self_attn.q_proj", queries, hidden, config.attention_bias),
        key=matrix("self_attn.k_proj", keys, hidden, config.attention_bias),
        value=matrix("self_attn.v_proj", keys, hidden, config.attention_bias),
        output=matrix("self_attn.o_proj", hidden, queries, config.attention_bias),
        mlp_norm=weights.get(f"{prefix}post_attention_layernorm.weight", (hidden,)),
        gate=matrix("mlp.gate_proj", inner, hidden, config.mlp_bias),
        up=matrix("mlp.up_proj", inner, hidden, config.mlp_bias),
        down=matrix("mlp.down_proj", hidden, inner, config.mlp_bias),
    )
