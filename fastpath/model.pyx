"""Mirrored. The forward pass of a Llama-family decoder over chunks of several sequences at once (N3 to N8).

Python gathers the step's rows; one pass without the interpreter goes through the layers, over packed weights, the
cache's own pages, and scratch memory that is kept from step to step (so a model runs one forward pass at a time).
"""

import numpy as np

from fastpath.cache cimport PagedCache
from fastpath.dispatch cimport PACK, W8A8, address, heads, matrix, table
from fastpath.packed cimport Activations, PackedMatrix, multiply
from libc.stdint cimport int32_t
from libc.stdlib cimport calloc, free

from fastpath.packed import pack_floats, pack_integers
from reference.quantization import quantize_w8a8
from reference.rotary import rotary_table
from reference.weights import Tensor

cdef struct layer_weights:
    const float *attention_norm
    const float *mlp_norm
    matrix query, key, value, output, gate, up, down

# One sequence's share of the rows: its first row, how many, and where in the step's list of pages its own begin.
cdef struct span:
    long row, tokens, page


def _pack(source, quantization):
    """A PackedMatrix of a checkpoint's Matrix, quantised where that is asked for."""
    bias = None if source.bias is None else np.ascontiguousarray(source.bias.float32())
    if quantization is None:
        return pack_floats(source.weight.bits, source.weight.dtype, bias)
    tensor = quantize_w8a8(source.weight.name, source.weight.float32())
    return pack_integers(tensor, source.weight.shape[1], bias)


cdef class Model:
    """A decoder with its weights in memory. `forward` is the only thing it does."""

    cdef readonly object config
    cdef object embedding, cosines, sines
    cdef list owners  # the arrays that the pointers below point into
    cdef layer_weights *layers
    cdef long num_layers, hidden, inner, key_width, vocab_size, num_positions, capacity
    cdef heads shape
    cdef float epsilon
    cdef const float *norm
    cdef const float *cosine_table
    cdef const float *sine_table
    cdef matrix head
    cdef Activations rounded
    cdef dict scratch
    cdef float *normed
    cdef float *queries
    cdef float *keys
    cdef float *values
    cdef float *attended
    cdef float *projected
    cdef float *gated
    cdef float *upped

    def __init__(self, config, checkpoint, *, quantization: str | None = None):
        self.config, self.owners, self.embedding = config, [], checkpoint.embedding
        self.num_layers, self.hidden, self.inner = config.num_layers, config.hidden_size, config.intermediate_size
        self.vocab_size, self.num_positions = config.vocab_size, config.context_size
        self.shape.num_heads, self.shape.num_kv_heads = config.num_heads, config.num_kv_heads
        self.shape.head_dim, self.key_width = config.head_dim, config.num_kv_heads * config.head_dim
        self.epsilon = config.norm_epsilon
        self.layers = <layer_weights *>calloc(config.num_layers, sizeof(layer_weights))
        if self.layers == NULL:
            raise MemoryError
        for index, layer in enumerate(checkpoint.layers):
            self._load_layer(&self.layers[<long>index], layer, quantization)
        self.norm = self._vector(checkpoint.norm)
        self.head = self._matrix(checkpoint.head, quantization)
        self.cosines, self.sines = map(np.ascontiguousarray, rotary_table(config, config.context_size))
        self.cosine_table, self.sine_table = <float *>address(self.cosines), <float *>address(self.sines)

    def __dealloc__(self):
        free(self.layers)

    cdef _load_layer(self, layer_weights *into, layer, quantization):
        into.attention_norm, into.mlp_norm = self._vector(layer.attention_norm), self._vector(layer.mlp_norm)
        into.query = self._matrix(layer.query, quantization)
        into.key = self._matrix(layer.key, quantization)
        into.value = self._matrix(layer.value, quantization)
        into.output = self._matrix(layer.output, quantization)
        into.gate = self._matrix(layer.gate, quantization)
        into.up = self._matrix(layer.up, quantization)
        into.down = self._matrix(layer.down, quantization)

    cdef const float *_vector(self, tensor) except NULL:
        values = np.ascontiguousarray(tensor.float32())
        self.owners.append(values)
        return <const float *>address(values)

    cdef matrix _matrix(self, source, quantization) except *:
        cdef PackedMatrix packed = _pack(source, quantization)
        self.owners.append(packed)
        return packed.c

    cdef _reserve(self, long rows):
        """Scratch memory for that many rows."""
        if rows <= self.capacity:
            return
        query_width = self.shape.num_heads * self.shape.head_dim
        widths = {"normed": self.hidden, "queries": query_width, "keys": self.key_width, "values": self.key_width,
                  "attended": query_width, "projected": self.hidden, "gated": self.inner, "upped": self.inner}
        self.scratch = {name: np.empty((rows, width), np.float32) for name, width in widths.items()}
        self.normed = <float *>address(self.scratch["normed"])
        self.queries = <float *>address(self.scratch["queries"])
        self.keys = <float *>address(self.scratch["keys"])
        self.values = <float *>address(self.scratch["values"])
        self.attended = <float *>address(self.scratch["attended"])
        self.projected = <float *>address(self.scratch["projected"])
        self.gated = <float *>address(self.scratch["gated"])
        self.upped = <float *>address(self.scratch["upped"])
        self.rounded = Activations(rows, max(self.hidden, query_width, self.inner))
        self.capacity = rows

    def forward(self, chunks, PagedCache cache):
        """Take in every chunk's tokens; returns logits float32 (wanted rows, vocab), chunk after chunk."""
        ids = np.concatenate([np.asarray(chunk.token_ids, np.int64) for chunk in chunks])
        self._check(chunks, ids, cache)
        lengths = [len(chunk.token_ids) for chunk in chunks]
        ends = np.cumsum(lengths)
        positions = np.concatenate([np.arange(chunk.start, chunk.start + length, dtype=np.int32)
                                    for chunk, length in zip(chunks, lengths)])
        pages = np.concatenate([np.asarray(chunk.pages, np.int32) for chunk in chunks])
        first_pages = np.cumsum([0] + [len(chunk.pages) for chunk in chunks])[: len(lengths)]
        spans = np.array([ends - lengths, lengths, first_pages], np.dtype("l")).T.copy()
        embedded = Tensor(self.embedding.name, self.embedding.dtype, self.embedding.bits[ids])
        x = np.ascontiguousarray(embedded.float32())  # (tokens, hidden)
        self._reserve(len(x))
        self._run(<float *>address(x), len(x), <const span *><size_t>address(spans), len(spans),
                  <const int32_t *>address(positions), <const int32_t *>address(pages), cache)
        wanted = [np.arange(end - chunk.num_logits, end) for end, chunk in zip(ends, chunks)]
        return self._logits(x[np.concatenate(wanted)])

    cdef _check(self, chunks, ids, PagedCache cache):
        """What the kernels take on trust: they read and write where these numbers say."""
        if len(ids) == 0 or ids.min() < 0 or ids.max() >= self.vocab_size:
            raise IndexError(f"token ids must be at least one and lie in 0..{self.vocab_size - 1}")
        if cache.num_kv_heads != self.shape.num_kv_heads or cache.head_dim != self.shape.head_dim:
            raise ValueError("the cache was made for another model")
        for chunk in chunks:
            stop = chunk.start + len(chunk.token_ids)
            if not 0 <= chunk.start <= stop <= min(self.num_positions, len(chunk.pages) * PACK):
                raise IndexError(f"positions {chunk.start} to {stop - 1} lie outside the context or the chunk's pages")
            if not all([0 <= page < cache.num_pages for page in chunk.pages]):
                raise IndexError(f"pages must lie in 0..{cache.num_pages - 1}, not {chunk.pages}")

    cdef _logits(self, x):
        logits = np.empty((len(x), self.vocab_size), np.float32)
        self._reserve(len(x))
        cdef const float *rows = <const float *>address(x)
        cdef float *out = <float *>address(logits)
        cdef long num_rows = len(x)
        with nogil:
            table().rms_norm(rows, self.norm, self.epsilon, num_rows, self.hidden, self.normed)
            self._round(self.normed, num_rows, self.hidden)
            multiply(&self.head, self.normed, &self.rounded.c, num_rows, out)
        return logits

    cdef _run(self, float *x, long rows, const span *spans, long num_spans, const int32_t *positions,
              const int32_t *pages, PagedCache cache):
        cdef long index
        with nogil:
            for index in range(self.num_layers):
                self._attend(&self.layers[index], index, x, rows, spans, num_spans, positions, pages, cache)
                self._feed_forward(&self.layers[index], x, rows)

    cdef void _round(self, const float *x, long rows, long width) noexcept nogil:
        """Make the integers that quantised weights are multiplied with (N4)."""
        if self.head.kind == W8A8:
            table().quantize(x, rows, width, &self.rounded.c)

    cdef void _attend(self, const layer_weights *layer, long index, float *x, long rows, const span *spans,
                      long num_spans, const int32_t *positions, const int32_t *pages, PagedCache cache) noexcept nogil:
        """Store this step's keys and values, let each token look back over its own sequence, add the result to x."""
        cdef long query_width = self.shape.num_heads * self.shape.head_dim, i, row
        cdef const span *one
        table().rms_norm(x, layer.attention_norm, self.epsilon, rows, self.hidden, self.normed)
        self._round(self.normed, rows, self.hidden)
        multiply(&layer.query, self.normed, &self.rounded.c, rows, self.queries)
        multiply(&layer.key, self.normed, &self.rounded.c, rows, self.keys)
        multiply(&layer.value, self.normed, &self.rounded.c, rows, self.values)
        for i in range(num_spans):
            one = &spans[i]
            for row in range(one.row, one.row + one.tokens):
                self._rotate(self.queries + row * query_width, self.shape.num_heads, positions[row])
                self._rotate(self.keys + row * self.key_width, self.shape.num_kv_heads, positions[row])
                cache.store(index, pages + one.page, positions[row], self.keys + row * self.key_width,
                            self.values + row * self.key_width)
            table().attend(&self.shape, self.queries + one.row * query_width, cache.layer_keys(index),
                           cache.layer_values(index), pages + one.page, positions + one.row, one.tokens,
                           self.attended + one.row * query_width)
        self._round(self.attended, rows, query_width)
        multiply(&layer.output, self.attended, &self.rounded.c, rows, self.projected)
        table().add(x, self.projected, rows * self.hidden)

    cdef void _rotate(self, float *x, long num_heads, long position) noexcept nogil:
        cdef long half = self.shape.head_dim // 2
        cdef const float *cosines = self.cosine_table + position * half
        table().rotate(x, num_heads, self.shape.head_dim, cosines, self.sine_table + position * half)

    cdef void _feed_forward(self, const layer_weights *layer, float *x, long rows) noexcept nogil:
        """x + down(silu(gate(x)) * up(x)) of the normed input."""
        table().rms_norm(x, layer.mlp_norm, self.epsilon, rows, self.hidden, self.normed)
        self._round(self.normed, rows, self.hidden)
        multiply(&layer.gate, self.normed, &self.rounded.c, rows, self.gated)
        multiply(&layer.up, self.normed, &self.rounded.c, rows, self.upped)
        table().gate(self.gated, self.upped, rows * self.inner)
        self._round(self.gated, rows, self.inner)
        multiply(&layer.down, self.gated, &self.rounded.c, rows, self.projected)
        table().add(x, self.projected, rows * self.hidden)
