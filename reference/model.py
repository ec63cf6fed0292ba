"""Mirrored. The forward pass of a decoder over chunks of several sequences at once, for all families alike.

Every row is computed by itself in one stated order, so a token's logits do not depend on what else is in the batch
or on how its prompt was cut into chunks. What a family does differently is an option of config.py, and `if` here.
"""

import numpy as np

from reference.attention import attention, softcap
from reference.cache import PagedCache
from reference.checkpoint import Checkpoint, FeedForward, Matrix
from reference.checkpoint import Layer as StoredLayer
from reference.config import ModelConfig
from reference.experts import mix
from reference.numerics import ACTIVATIONS, linear, linear_quantized, rms_norm, rotate
from reference.rotary import rotary_table
from reference.sequence import Chunk
from reference.weights import Tensor


class Linear:
    """One matrix with its bias, float or quantised: called with (rows, inputs), returns (rows, outputs)."""

    def __init__(self, matrix: Matrix, quantization: str | None = None):
        self.bias = None if matrix.bias is None else matrix.bias.float32()
        self.quantized = matrix.quantized(quantization) if quantization else None
        # `linear` goes through the weight by columns.
        self.weight = None if quantization else np.asfortranarray(matrix.weight.float32())

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The product, plus the bias."""
        y = linear_quantized(x, self.quantized) if self.quantized else linear(x, self.weight)
        return y if self.bias is None else y + self.bias


class Norm:
    """rms_norm with its weight (N5); a norm that the family does not have passes everything through."""

    def __init__(self, config: ModelConfig, weight: Tensor | None):
        self.epsilon = config.norm_epsilon
        self.weight = None if weight is None else weight.float32() + np.float32(config.norm_offset)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The normed rows over the last axis."""
        return x if self.weight is None else rms_norm(x, self.weight, self.epsilon)


class GatedLinear:
    """The feed-forward part, or one expert: down(activation(gate(x)) * up(x))."""

    def __init__(self, stored: FeedForward, activation: str, quantization: str | None):
        self.gate, self.up, self.down = (Linear(m, quantization) for m in (stored.gate, stored.up, stored.down))
        self.activate = ACTIVATIONS[activation]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Rows in, rows out."""
        return self.down(self.activate(self.gate(x)) * self.up(x))


class Layer:
    """Attention and the feed-forward part, each added to what comes in."""

    def __init__(self, config: ModelConfig, stored: StoredLayer, quantization: str | None):
        self.config, self.layer_config = config, stored.config
        for name in ("query", "key", "value", "output"):
            setattr(self, name, Linear(getattr(stored, name), quantization))
        for name in ("attention_norm", "attention_out_norm", "query_norm", "key_norm", "mlp_norm", "mlp_out_norm"):
            setattr(self, name, Norm(config, getattr(stored, name)))
        self.mlp = stored.mlp and GatedLinear(stored.mlp, config.activation, quantization)
        self.router = stored.router and Linear(stored.router)
        self.experts = [GatedLinear(expert, config.activation, quantization) for expert in stored.experts]

    def attend(self, x, chunks, table, cache: PagedCache, index: int) -> np.ndarray:
        """Store this step's keys and values, then let each token look back over its own sequence."""
        config = self.config
        x = self.attention_norm(x)
        queries = self._turn(self.query(x), self.query_norm, config.num_heads, table)
        keys = self._turn(self.key(x), self.key_norm, config.num_kv_heads, table)
        values = self.value(x).reshape(len(x), config.num_kv_heads, config.head_dim)
        attended = np.empty_like(queries)
        row = 0
        for chunk in chunks:
            rows = slice(row, row := row + len(chunk.token_ids))
            stop = chunk.start + len(chunk.token_ids)
            cache.write(index, chunk.pages, chunk.start, keys[rows], values[rows])
            seen = cache.read(index, chunk.pages, stop)
            attended[rows] = attention(
                queries[rows], *seen, np.arange(chunk.start, stop),
                scale=config.attention_scale, cap=config.attention_softcap, window=self.layer_config.window,
            )  # fmt: skip
        return self.attention_out_norm(self.output(attended.reshape(len(x), -1)))

    def feed_forward(self, x: np.ndarray) -> np.ndarray:
        """The dense part, or the mixture of experts."""
        x = self.mlp_norm(x)
        y = self.mlp(x) if self.mlp else mix(x, self.router(x), self.experts, self.config.experts)
        return self.mlp_out_norm(y)

    def _turn(self, x: np.ndarray, norm: Norm, num_heads: int, table) -> np.ndarray:
        """Heads normed where the family does so, then turned by their positions where the layer has any."""
        shape = (len(x), num_heads, self.config.head_dim)
        x = norm(x).reshape(shape) if self.config.query_key_norm == "all" else norm(x.reshape(shape))
        return x if table is None else rotate(x, *table)


class Model:
    """A decoder with its weights in memory. `forward` is the only thing it does."""

    def __init__(self, config: ModelConfig, checkpoint: Checkpoint, *, quantization: str | None = None):
        self.config = config
        self.embedding = checkpoint.embedding.float32()  # (vocab, hidden)
        self.layers = [Layer(config, layer, quantization) for layer in checkpoint.layers]
        self.norm = Norm(config, checkpoint.norm)
        self.head = Linear(checkpoint.head, quantization)
        ropes = {layer.rope for layer in config.layers if layer.rope}
        self.tables = {rope: rotary_table(rope, config.context_size) for rope in ropes}

    def forward(self, chunks: list[Chunk], cache: PagedCache) -> np.ndarray:
        """Take in every chunk's tokens; returns logits float32 (wanted rows, vocab), chunk after chunk."""
        ids = np.concatenate([np.asarray(chunk.token_ids, np.int64) for chunk in chunks])
        positions = np.concatenate([chunk.start + np.arange(len(chunk.token_ids)) for chunk in chunks])
        tables = {rope: (cosines[positions], sines[positions]) for rope, (cosines, sines) in self.tables.items()}
        x = scaled(self.embedding[ids], self.config.embedding_scale)  # (tokens, hidden)
        for index, layer in enumerate(self.layers):
            attended = layer.attend(x, chunks, tables.get(layer.layer_config.rope), cache, index)
            x = x + scaled(attended, self.config.residual_scale)
            x = x + scaled(layer.feed_forward(x), self.config.residual_scale)
        ends = np.cumsum([len(chunk.token_ids) for chunk in chunks])
        wanted = [np.arange(end - chunk.num_logits, end) for end, chunk in zip(ends, chunks, strict=True)]
        logits = self.head(self.norm(x[np.concatenate(wanted)]))
        logits = logits if self.config.logits_divisor == 1 else logits / np.float32(self.config.logits_divisor)
        return softcap(logits, self.config.final_softcap)


def scaled(x: np.ndarray, factor: float) -> np.ndarray:
    """x times a constant of the model, if it has one."""
    return x if factor == 1 else x * np.float32(factor)
