"""Mirrored. The forward pass of a decoder over a batch of chunks, for all families.

Every row is computed by itself in one stated order, so a token's logits do not depend on the rest of the batch or on
how its prompt is divided into chunks. Differences between families are fields of ModelConfig, and `if` here.
`Model.watch` receives every intermediate result, by the same names in all engines (fastpath/commands/diff.py).
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from verbatim.reference.cache.pages import PagedCache
from verbatim.reference.checkpoint.tensors import Checkpoint, Layer
from verbatim.reference.model.adapters import Adapters
from verbatim.reference.model.attention import attention, softcap
from verbatim.reference.model.expert_branch import ExpertBranch
from verbatim.reference.model.experts import mix
from verbatim.reference.model.latent_attention import LatentHeads
from verbatim.reference.model.layer_inputs import LayerInput, TokenRows
from verbatim.reference.model.layers import Linear, Network, Norm
from verbatim.reference.model.mixers import make_mixer, mix_tokens
from verbatim.reference.model.streams import LayerStreams, Streams
from verbatim.reference.numerics.arithmetic import rotate, sigmoid
from verbatim.reference.numerics.rotary import position_scales, rotary_table
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.sequence import Chunk, wanted_rows


class DecoderLayer:
    """A layer: attention, or a mixer in its place or beside it, and a feed-forward network, each added to its input.

    `pages_at` and `state_at` are the places of its keys and values, and of its state, in the cache.
    """

    def __init__(self, config: ModelConfig, stored: Layer, index: int, quantization: str | None):
        self.config, self.layer_config = config, stored.config
        self.pages_at, self.state_at = config.places_in_cache(index)
        self.query = Linear(stored.query, quantization) if stored.query else None
        self.key = Linear(stored.key, quantization) if stored.key else None
        self.value = Linear(stored.value, quantization) if stored.value else None
        self.output = Linear(stored.output, quantization) if stored.output else None
        self.gate = Linear(stored.attention_gate, quantization) if stored.attention_gate else None
        self.mixer = make_mixer(config, stored.mixer, quantization) if stored.mixer else None
        self.latent = LatentHeads(config.latent, stored.latent) if config.latent and stored.latent else None
        self.query_down = Linear(down, quantization) if (down := stored.latent and stored.latent.query_down) else None
        head_norms = stored.query_norm, stored.key_norm, stored.value_norm
        self.query_norm, self.key_norm, self.value_norm = (Norm(config, norm) for norm in head_norms)
        self.attention_norm = Norm(config, stored.attention_norm, stored.attention_norm_bias)
        self.mlp_norm = Norm(config, stored.mlp_norm, stored.mlp_norm_bias)
        out_norms = stored.attention_out_norm, stored.mlp_out_norm
        self.attention_out_norm, self.mlp_out_norm = (Norm(config, norm) for norm in out_norms)
        self.sink_scores = stored.sink_scores.float32() if stored.sink_scores else None
        self.mlp = Network(stored.mlp, config, quantization, stored.config.cutoff) if stored.mlp else None
        self.router = Linear(stored.router) if stored.router else None
        self.score_bias = stored.score_bias.float32() if stored.score_bias else None
        self.experts = [Network(expert, config, quantization) for expert in stored.experts]
        self.shared = Network(stored.shared, config, quantization) if stored.shared else None
        self.shared_gate = Linear(stored.shared_gate) if stored.shared_gate else None
        self.branch = ExpertBranch(config, stored.branch) if stored.branch else None
        self.input = LayerInput(config, stored.inputs, quantization) if stored.inputs else None
        self.streams = LayerStreams(config, stored.streams, quantization) if stored.streams else None
        self.scale = stored.scale.float32() if stored.scale else None

    def places(self) -> dict[str, Linear]:
        """The functions that a LoRA adapter can change: those of attention, and of a dense network."""
        found = {"output": self.output} if self.output else {}
        if not self.latent:  # whose rows are in another order
            own = {"query": self.query, "key": self.key, "value": self.value}
            found |= {name: function for name, function in own.items() if function}
        if self.mlp:
            found |= {"up": self.mlp.up, "down": self.mlp.down} | ({"gate": self.mlp.gate} if self.mlp.gate else {})
        return found

    def run(self, x, inputs, chunks, table, query_scales, cache: PagedCache, index: int, show) -> np.ndarray:
        """One layer of x (tokens, hidden), or of streams (tokens, count, hidden); `inputs` are its own (N9b)."""
        if self.streams and self.input:
            predicted = show(index, "predicted streams", self.streams.predict(x))
            active = self.halves(predicted[:, self.streams.active], chunks, table, query_scales, cache, index, show)
            x = self.streams.correct(predicted, active)
            x[:, 1:] += self.input(self.streams.combined(x), inputs)[:, None]
            return show(index, "streams", x)
        x = self.halves(x, chunks, table, query_scales, cache, index, show)
        x = x if self.input is None else x + self.input(x, inputs)
        x = x if self.scale is None else x * self.scale
        return x if self.input is None and self.scale is None else show(index, "after inputs", x)

    def halves(self, x, chunks, table, query_scales, cache: PagedCache, index: int, show) -> np.ndarray:
        """Add attention and the feed-forward network to x (tokens, hidden); a parallel one has attention's norm."""
        normed, scale = x, self.config.residual_scale
        if self.query or self.mixer:
            normed = show(index, "attention norm", self.attention_norm(x))
            residual = show(index, "residual", self.streams.residual(normed)) if self.streams else None
            x = x + scaled(self.mix(normed, chunks, table, query_scales, cache, index, show), scale)
            x = show(index, "after attention", x if residual is None else (x + residual) / np.float32(2**0.5))
        if not self.layer_config.has_feed_forward:
            return x
        normed = normed if self.config.norms == "parallel" else self.mlp_norm(x)
        added = self.feed_forward(show(index, "mlp norm", normed), x, index, show)
        return show(index, "after mlp", x + scaled(added, scale * self.config.feed_forward_scale))

    def mix(self, x, chunks, table, query_scales, cache: PagedCache, index: int, show) -> np.ndarray:
        """What normed rows take from the tokens before them: by attention, from a state, or both."""
        found = [self.attend(x, chunks, table, query_scales, cache, index, show)] if self.query else []
        if self.mixer:
            mixed = mix_tokens(self.mixer, x, chunks, cache.states, self.state_at, lambda *shown: show(index, *shown))
            found.append(self.attention_out_norm(mixed))
        return sum(found[1:], found[0])

    def attend(self, x, chunks, table, query_scales, cache: PagedCache, index: int, show) -> np.ndarray:
        """Store the normed batch's keys and values, then attend to each token's own sequence."""
        assert self.output
        config, row, found = self.config, 0, []
        queries, keys, values = (self.latent_inputs if self.latent else self.attention_inputs)(x, table, index, show)
        queries = queries if query_scales is None else queries * query_scales[:, None, None]
        show(index, "rotated query", queries)
        if keys is not None:
            show(index, "rotated key", keys)
        for chunk in chunks:
            rows = slice(row, row := row + len(chunk.token_ids))
            stop = chunk.start + len(chunk.token_ids)
            if keys is not None:
                stored = None if values is None else values[rows]
                cache.write(self.pages_at, chunk.pages, chunk.start, keys[rows], stored)
            cached = cache.read(self.pages_at, chunk.pages, stop)
            show(index, "cached keys", cached[0])
            show(index, "cached values", cached[1])
            found.append(attention(
                queries[rows], *cached, np.arange(chunk.start, stop),
                scale=config.attention_scale, cap=config.attention_softcap,
                window=self.layer_config.window, sinks=self.layer_config.sinks, chunk=self.layer_config.chunk,
                sink_scores=self.sink_scores,
            ))  # fmt: skip
        attended = show(index, "attention", np.concatenate(found))
        attended = show(index, "value", self.latent.values(attended)) if self.latent else attended
        attended = attended.reshape(len(x), -1)
        attended = attended * sigmoid(show(index, "gate", self.gate(x))) if self.gate else attended
        added = scaled(self.output(attended), config.attention_out_scale)
        return self.attention_out_norm(show(index, "output", added))

    def attention_inputs(self, x, table, index: int, show) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Rotated queries and keys, and values, of normed rows, each (tokens, heads, head_dim).

        None for keys and values where those of another layer are attended to.
        """
        assert self.query
        num_kv_heads, head_dim = self.config.heads_of(index)
        queries = show(index, "query", self.query(x)).reshape(len(x), -1, head_dim)
        if self.key is None:
            return self._rotate(queries, self.query_norm, table), None, None
        keys = show(index, "key", self.key(x))
        values = show(index, "value", self.value(x) if self.value else keys.copy())
        keys, values = (rows.reshape(len(x), num_kv_heads, head_dim) for rows in (keys, values))
        queries = self._rotate(queries, self.query_norm, table)
        return queries, self._rotate(keys, self.key_norm, table), self.value_norm(values)

    def latent_inputs(self, x, table, index: int, show) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """The same of latent attention, where one key for all heads holds the value."""
        assert self.latent and self.query and self.key
        states = show(index, "query state", self.latent.norm_query(self.query_down(x))) if self.query_down else x
        queries, keys = show(index, "query", self.query(states)), show(index, "key", self.key(x))
        return self.latent.queries(queries, table), self.latent.keys(keys, table), None

    def feed_forward(self, x: np.ndarray, residual: np.ndarray, index: int, show) -> np.ndarray:
        """The feed-forward network of normed rows, dense or a mixture of experts, or both: experts of the residual."""
        if self.mlp:
            y, experts = show(index, "mlp", self.mlp(x)), self.config.experts
            if self.branch and self.router and experts:
                y = self.branch.add(y, residual, self.router, self.experts, experts, partial(show, index))
            return self.mlp_out_norm(y)
        assert self.router and self.config.experts
        scores = show(index, "router", self.router(x))
        mixed = mix(x, scores, self.experts, self.config.experts, self.score_bias)
        if self.shared:
            weights = sigmoid(self.shared_gate(x)) if self.shared_gate else np.float32(1)
            mixed = mixed + self.shared(x) * weights
        return self.mlp_out_norm(show(index, "experts", mixed))

    def _rotate(self, x: np.ndarray, norm: Norm, table) -> np.ndarray:
        """Norm heads (tokens, heads, head_dim) where the family does so, and rotate them, if the layer does."""
        if self.config.norms_rotated:
            return norm(x if table is None else rotate(x, *table))
        x = norm(x.reshape(len(x), -1)).reshape(x.shape) if self.config.query_key_norm == "all" else norm(x)
        return x if table is None else rotate(x, *table)


class Model:
    """A decoder with its weights in memory. `forward` returns a batch's logits; `states` and `score` are its halves.

    `watch`, once set, is called with (layer or None, operation, rows) for each intermediate result. It may read rows
    (tokens, features) or change them, to see the effect; cached keys and values are copies.
    """

    def __init__(self, config: ModelConfig, checkpoint: Checkpoint, *, quantization: str | None = None):
        self.config = config
        self.watch: Callable[[int | None, str, np.ndarray], None] | None = None
        self.embedding = checkpoint.embedding.float32()  # (vocab, hidden)
        self.layers = [DecoderLayer(config, each, i, quantization) for i, each in enumerate(checkpoint.layers)]
        self.adapters = Adapters([layer.places() for layer in self.layers])
        self.norm = Norm(config, checkpoint.norm, checkpoint.norm_bias)
        self.head = Linear(checkpoint.head, quantization) if checkpoint.head else None
        self.fusion = Linear(checkpoint.fusion) if checkpoint.fusion else None
        settings, stored = config.layer_inputs, checkpoint.inputs
        self.token_rows = TokenRows(config, settings, stored) if settings and stored else None
        self.streams = Streams(checkpoint) if config.streams else None
        ropes = {layer.rope for layer in config.layers if layer.rope}
        self.tables = {rope: rotary_table(rope, config.context_size) for rope in ropes}
        growth = config.position_scale
        self.query_scales = position_scales(growth, config.context_size) if growth else None

    def forward(self, chunks: list[Chunk], cache: PagedCache) -> np.ndarray:
        """Run a batch of chunks; returns logits float32 (wanted rows, vocab), chunk after chunk."""
        return self.score(self._show(None, "norm", self.norm(self._run(chunks, cache)[wanted_rows(chunks)])))

    def states(self, chunks: list[Chunk], cache: PagedCache, beside: np.ndarray | None = None) -> np.ndarray:
        """Run a batch of chunks; returns the last layer's normed states, float32 (tokens, hidden).

        An eagle head gets a state `beside` each token, (tokens, hidden).
        """
        return self._show(None, "norm", self.norm(self._run(chunks, cache, beside)))

    def score(self, states: np.ndarray) -> np.ndarray:
        """Logits float32 (rows, vocab) of normed states."""
        assert self.head, "an eagle head has none of its own"
        logits = self.head(states)
        logits = logits if self.config.logits_divisor == 1 else logits / np.float32(self.config.logits_divisor)
        return self._show(None, "logits", softcap(logits, self.config.final_softcap))

    def _run(self, chunks: list[Chunk], cache: PagedCache, beside: np.ndarray | None = None) -> np.ndarray:
        """The hidden states (tokens, hidden) of a batch after all layers."""
        self.adapters.apply(chunks)
        if cache.states:
            cache.states.check_chunks(chunks)
        ids = np.concatenate([np.asarray(chunk.token_ids, np.int64) for chunk in chunks])
        positions = np.concatenate([chunk.start + np.arange(len(chunk.token_ids)) for chunk in chunks])
        tables = {rope: (cosines[positions], sines[positions]) for rope, (cosines, sines) in self.tables.items()}
        scales = None if self.query_scales is None else self.query_scales[positions]
        growth = self.config.position_scale
        x = scaled(self.embedding[ids], self.config.embedding_scale)  # (tokens, hidden)
        x = self._show(None, "embedding", self.fusion(np.concatenate([x, beside], axis=1)) if self.fusion else x)
        inputs = self._show(None, "layer inputs", self.token_rows(ids, x)) if self.token_rows else None
        x = self._show(None, "streams", self.streams.begin(x)) if self.streams else x
        for index, layer in enumerate(self.layers):
            rope = layer.layer_config.rope
            own = None if rope and growth and growth.only_unrotated else scales
            given = None if inputs is None else inputs[:, index]
            x = layer.run(x, given, chunks, tables[rope] if rope else None, own, cache, index, self._show)
        return self.streams.end(x) if self.streams else x

    def _show(self, layer: int | None, operation: str, rows: np.ndarray) -> np.ndarray:
        """Pass an intermediate result to the observer, and return it."""
        if self.watch:
            self.watch(layer, operation, rows.reshape(len(rows), -1))
        return rows


def scaled(x: np.ndarray, factor: float) -> np.ndarray:
    """x times a constant of the model; x itself for 1."""
    return x if factor == 1 else x * np.float32(factor)
