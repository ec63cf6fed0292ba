"""The layers of a decoder, through which rows go without the interpreter (N3 to N9).

They work over packed weights, the cache's own pages, and scratch memory that is kept from step to step, so a model runs
one forward pass at a time.
"""

import numpy as np

from fastpath.dispatch cimport GELU_TANH, SILU, address, table
from fastpath.experts cimport expert_weights
from fastpath.packed cimport multiply
from libc.string cimport memcpy, memset

from fastpath.attention import LOG2E, query_scale


cdef class Decoder(Watched):
    """What a model is between its embedding and its last norm."""

    def __init__(self, config, checkpoint, quantization):
        self.config = config
        self.num_layers, self.hidden, self.inner = config.num_layers, config.hidden_size, config.intermediate_size
        self.vocab_size, self.num_positions = config.vocab_size, config.context_size
        self.shape.num_heads, self.shape.num_kv_heads = config.num_heads, config.num_kv_heads
        self.shape.head_dim, self.key_width = config.head_dim, config.num_kv_heads * config.head_dim
        cap = config.attention_softcap
        self.shape.scale = query_scale(config.head_dim, config.attention_scale, cap)
        self.shape.cap, self.shape.cap_factor = cap or 0, (cap or 0) * LOG2E
        self.epsilon, self.residual_scale = config.norm_epsilon, config.residual_scale
        self.activation = {"silu": SILU, "gelu_tanh": GELU_TANH}[config.activation]
        self.norms_heads = config.query_key_norm == "head"
        if config.experts:
            self.num_experts, self.experts_per_token = config.experts.num_experts, config.experts.num_per_token
            self.normalizes_experts = config.experts.is_normalized
            self.inner = max(self.inner, <long>config.experts.intermediate_size)
        self.weights = Layers(config, checkpoint, quantization)

    cdef _reserve(self, long rows):
        """Scratch memory for that many rows."""
        if rows <= self.capacity:
            return
        query_width = self.shape.num_heads * self.shape.head_dim
        widths = {"normed": self.hidden, "queries": query_width, "keys": self.key_width, "values": self.key_width,
                  "attended": query_width, "projected": self.hidden, "gated": self.inner, "upped": self.inner,
                  "scores": self.num_experts, "gathered": self.hidden if self.num_experts else 0,
                  "expert_output": self.hidden if self.num_experts else 0}
        self.scratch = {name: np.empty((rows, width), np.float32) for name, width in widths.items()}
        self.normed = <float *>address(self.scratch["normed"])
        self.queries = <float *>address(self.scratch["queries"])
        self.keys = <float *>address(self.scratch["keys"])
        self.values = <float *>address(self.scratch["values"])
        self.attended = <float *>address(self.scratch["attended"])
        self.projected = <float *>address(self.scratch["projected"])
        self.gated = <float *>address(self.scratch["gated"])
        self.upped = <float *>address(self.scratch["upped"])
        self.scores = <float *>address(self.scratch["scores"])
        self.gathered = <float *>address(self.scratch["gathered"])
        self.expert_output = <float *>address(self.scratch["expert_output"])
        self.rounded = Activations(rows, max(self.hidden, query_width, self.inner))
        self.capacity = rows

    cdef _layers(self, float *x, long rows, const span *spans, long num_spans, const int32_t *positions,
                 const int32_t *pages, PagedCache cache):
        cdef long index
        with nogil:
            for index in range(self.num_layers):
                self._attend(&self.weights.layers[index], index, x, rows, spans, num_spans, positions, pages, cache)
                self.show(index, b"after attention", x, rows, self.hidden)
                self._feed_forward(&self.weights.layers[index], index, x, rows)
                self.show(index, b"after mlp", x, rows, self.hidden)

    cdef void _multiply(self, const matrix *w, const float *x, long rows, float *y) noexcept nogil:
        """One product; quantised weights take the integers of x (N4)."""
        if w.scales != NULL:
            table().quantize(x, rows, w.inputs, &self.rounded.c)
        multiply(w, x, &self.rounded.c, rows, y)

    cdef int _norm(self, long index, const char *name, const float *x, const float *weight, long rows) except -1 nogil:
        """`normed` is the normed rows (N5), or the rows as they are where the family has no norm here."""
        if weight == NULL:
            memcpy(self.normed, x, rows * self.hidden * sizeof(float))
        else:
            table().rms_norm(x, weight, self.epsilon, rows, self.hidden, self.normed)
        self.show(index, name, self.normed, rows, self.hidden)

    cdef int _attend(self, const layer_weights *layer, long index, float *x, long rows, const span *spans,
                     long num_spans, const int32_t *positions, const int32_t *pages, PagedCache cache) except -1 nogil:
        """Store this step's keys and values, let each token look back over its own sequence, add the result to x."""
        cdef long query_width = self.shape.num_heads * self.shape.head_dim, i, row
        cdef const span *one
        cdef heads shape = self.shape
        shape.window, shape.sinks = layer.window, layer.sinks
        self._norm(index, b"attention norm", x, layer.attention_norm, rows)
        self._multiply(&layer.query, self.normed, rows, self.queries)
        self.show(index, b"query", self.queries, rows, query_width)
        self._multiply(&layer.key, self.normed, rows, self.keys)
        self.show(index, b"key", self.keys, rows, self.key_width)
        self._multiply(&layer.value, self.normed, rows, self.values)
        self.show(index, b"value", self.values, rows, self.key_width)
        self._norm_heads(self.queries, layer.query_norm, rows, query_width)
        self._norm_heads(self.keys, layer.key_norm, rows, self.key_width)
        for row in range(rows):
            self._rotate(layer, self.queries + row * query_width, shape.num_heads, positions[row])
            self._rotate(layer, self.keys + row * self.key_width, shape.num_kv_heads, positions[row])
        self.show(index, b"turned query", self.queries, rows, query_width)
        self.show(index, b"turned key", self.keys, rows, self.key_width)
        for i in range(num_spans):
            one = &spans[i]
            for row in range(one.row, one.row + one.tokens):
                cache.store(index, pages + one.page, positions[row], self.keys + row * self.key_width,
                            self.values + row * self.key_width)
            self.show_cached(index, pages + one.page, positions[one.row] + one.tokens, cache)
            table().attend(&shape, self.queries + one.row * query_width, cache.layer_keys(index),
                           cache.layer_values(index), pages + one.page, positions + one.row, one.tokens,
                           self.attended + one.row * query_width)
        self.show(index, b"attention", self.attended, rows, query_width)
        self._multiply(&layer.output, self.attended, rows, self.projected)
        self.show(index, b"output", self.projected, rows, self.hidden)
        self._add(x, layer.attention_out_norm, rows)

    cdef void _norm_heads(self, float *x, const float *weight, long rows, long width) noexcept nogil:
        """Queries or keys normed in place, each head by itself or all of a token together."""
        cdef long size = self.shape.head_dim if self.norms_heads else width
        if weight != NULL:
            table().rms_norm(x, weight, self.epsilon, rows * width // size, size, x)

    cdef void _rotate(self, const layer_weights *layer, float *x, long num_heads, long position) noexcept nogil:
        cdef long at = position * layer.half
        if layer.cosines != NULL:
            table().rotate(x, num_heads, self.shape.head_dim, layer.half, layer.cosines + at, layer.sines + at)

    cdef int _feed_forward(self, const layer_weights *layer, long index, float *x, long rows) except -1 nogil:
        """x plus the dense part, or the mixture of experts, of the normed input."""
        self._norm(index, b"mlp norm", x, layer.mlp_norm, rows)
        if layer.num_experts:
            self._multiply(&layer.router, self.normed, rows, self.scores)
            self.show(index, b"router", self.scores, rows, layer.num_experts)
            self._mix(layer, rows)
            self.show(index, b"experts", self.projected, rows, self.hidden)
        else:
            self._gate(layer.parts, self.normed, rows, self.projected)
            self.show(index, b"mlp", self.projected, rows, self.hidden)
        self._add(x, layer.mlp_out_norm, rows)

    cdef void _gate(self, const gated *part, const float *x, long rows, float *y) noexcept nogil:
        """down(activation(gate(x)) * up(x))."""
        self._multiply(&part.gate, x, rows, self.gated)
        self._multiply(&part.up, x, rows, self.upped)
        table().gate(self.gated, self.upped, rows * part.gate.outputs, self.activation)
        self._multiply(&part.down, self.gated, rows, y)

    cdef void _mix(self, const layer_weights *layer, long rows) noexcept nogil:
        """From router scores: each expert takes the rows that chose it; outputs are weighed and added in ascending id from +0 (N9)."""
        cdef long expert, row, count, hidden = self.hidden
        cdef float weight
        for row in range(rows):
            expert_weights(self.scores + row * layer.num_experts, layer.num_experts, self.experts_per_token,
                           self.normalizes_experts)
        memset(self.projected, 0, rows * hidden * sizeof(float))
        for expert in range(layer.num_experts):
            count = 0
            for row in range(rows):
                if self.scores[row * layer.num_experts + expert] != 0:
                    memcpy(self.gathered + count * hidden, self.normed + row * hidden, hidden * sizeof(float))
                    count += 1
            if count == 0:
                continue
            self._gate(&layer.parts[expert], self.gathered, count, self.expert_output)
            count = 0
            for row in range(rows):
                weight = self.scores[row * layer.num_experts + expert]
                if weight != 0:
                    table().add(self.projected + row * hidden, self.expert_output + count * hidden, hidden, weight)
                    count += 1

    cdef void _add(self, float *x, const float *norm, long rows) noexcept nogil:
        """x plus what a half of the layer has made, normed and scaled as the family does it."""
        if norm != NULL:
            table().rms_norm(self.projected, norm, self.epsilon, rows, self.hidden, self.projected)
        table().add(x, self.projected, rows * self.hidden, self.residual_scale)
