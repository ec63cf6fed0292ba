"""Mirrored. The forward pass of a Llama-family decoder over chunks of several sequences at once.

Every row is computed by itself in one stated order, so a token's logits do not depend on what else is in the batch
or on how its prompt was cut into chunks. (Llama: https://arxiv.org/abs/2302.13971.)
"""

import numpy as np

from reference.attention import attention
from reference.cache import PagedCache
from reference.checkpoint import Checkpoint, Matrix
from reference.config import ModelConfig
from reference.numerics import linear, linear_quantized, rms_norm, rotate, silu
from reference.quantization import quantize_w8a8
from reference.rotary import rotary_table
from reference.sequence import Chunk


class Linear:
    """One matrix with its bias, float or quantised: called with (rows, inputs), returns (rows, outputs)."""

    def __init__(self, matrix: Matrix, quantization: str | None):
        weight = matrix.weight.float32()
        self.bias = None if matrix.bias is None else matrix.bias.float32()
        self.quantized = quantize_w8a8(matrix.weight.name, weight) if quantization else None
        self.weight = None if quantization else np.asfortranarray(weight)  # `linear` goes through it by columns

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The product, plus the bias."""
        y = linear_quantized(x, self.quantized) if self.quantized else linear(x, self.weight)
        return y if self.bias is None else y + self.bias


class Layer:
    """Attention and the gated feed-forward part, each added to what comes in."""

    def __init__(self, config: ModelConfig, layer, quantization: str | None):
        self.config = config
        self.attention_norm, self.mlp_norm = layer.attention_norm.float32(), layer.mlp_norm.float32()
        for name in ("query", "key", "value", "output", "gate", "up", "down"):
            setattr(self, name, Linear(getattr(layer, name), quantization))

    def attend(self, x, chunks, cosines, sines, cache: PagedCache, index: int) -> np.ndarray:
        """Store this step's keys and values, then let each token look back over its own sequence."""
        config = self.config
        x = rms_norm(x, self.attention_norm, config.norm_epsilon)
        queries = rotate(self.query(x).reshape(len(x), config.num_heads, config.head_dim), cosines, sines)
        keys = rotate(self.key(x).reshape(len(x), config.num_kv_heads, config.head_dim), cosines, sines)
        values = self.value(x).reshape(len(x), config.num_kv_heads, config.head_dim)
        attended = np.empty_like(queries)
        row = 0
        for chunk in chunks:
            rows = slice(row, row := row + len(chunk.token_ids))
            stop = chunk.start + len(chunk.token_ids)
            cache.write(index, chunk.pages, chunk.start, keys[rows], values[rows])
            seen = cache.read(index, chunk.pages, stop)
            attended[rows] = attention(queries[rows], *seen, np.arange(chunk.start, stop))
        return self.output(attended.reshape(len(x), -1))

    def feed_forward(self, x: np.ndarray) -> np.ndarray:
        """down(silu(gate(x)) * up(x)) of the normed input."""
        x = rms_norm(x, self.mlp_norm, self.config.norm_epsilon)
        return self.down(silu(self.gate(x)) * self.up(x))


class Model:
    """A decoder with its weights in memory. `forward` is the only thing it does."""

    def __init__(self, config: ModelConfig, checkpoint: Checkpoint, *, quantization: str | None = None):
        self.config = config
        self.embedding = checkpoint.embedding.float32()  # (vocab, hidden)
        self.layers = [Layer(config, layer, quantization) for layer in checkpoint.layers]
        self.norm = checkpoint.norm.float32()
        self.head = Linear(checkpoint.head, quantization)
        self.cosines, self.sines = rotary_table(config, config.context_size)

    def forward(self, chunks: list[Chunk], cache: PagedCache) -> np.ndarray:
        """Take in every chunk's tokens; returns logits float32 (wanted rows, vocab), chunk after chunk."""
        ids = np.concatenate([np.asarray(chunk.token_ids, np.int64) for chunk in chunks])
        positions = np.concatenate([chunk.start + np.arange(len(chunk.token_ids)) for chunk in chunks])
        cosines, sines = self.cosines[positions], self.sines[positions]
        x = self.embedding[ids]  # (tokens, hidden)
        for index, layer in enumerate(self.layers):
            x = x + layer.attend(x, chunks, cosines, sines, cache, index)
            x = x + layer.feed_forward(x)
        ends = np.cumsum([len(chunk.token_ids) for chunk in chunks])
        wanted = [np.arange(end - chunk.num_logits, end) for end, chunk in zip(ends, chunks, strict=True)]
        return self.head(rms_norm(x[np.concatenate(wanted)], self.norm, self.config.norm_epsilon))
