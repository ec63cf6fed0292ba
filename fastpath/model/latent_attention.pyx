"""Mirrored. Latent attention on all threads (N8a): one key for all heads, queries and values in the space of latents.

reference/model/latent_attention.py has the arithmetic. A work item of the products of heads is some rows of one head.
"""

import numpy as np

from verbatim.fastpath.machine.dispatch cimport address, table
from verbatim.fastpath.machine.threads cimport claim, finish_phase, team
from verbatim.fastpath.model.forward cimport ForwardPass
from verbatim.fastpath.model.layers cimport layer_weights
from verbatim.fastpath.model.phases cimport ITEM_ROWS, Phases, claim_rows, span
from verbatim.fastpath.numerics.packed cimport product
from libc.string cimport memcpy

cdef enum:
    HEAD_ROWS = 32  # rows of a work item of a head's product
    STORED_ROWS = 16  # rows of a work item that rotates and stores
    FEW_ROWS = 8  # of an attention work item, so that all threads have one when few tokens are decoded


cdef class LatentPass(ForwardPass):
    """All layers of a model, which may have latent attention."""

    def __init__(self, config, checkpoint, quantization, model_lib=None):
        super().__init__(config, checkpoint, quantization, model_lib)
        latent = config.latent
        if latent is None:
            return
        self.rotated, self.rank, self.query_rank = latent.rotated_dim, latent.rank, latent.query_rank
        self.query_dim, self.value_dim = config.query_dim, config.value_dim
        self.latent_epsilon, self.shape.value_dim = latent.norm_epsilon, self.rank
        self.widest = max(self.widest, self.query_rank, config.num_heads * config.value_dim)

    cdef long _rows_of_items(self, long rows) noexcept:
        """Attention rows of a work item in a step of so many rows: no bit depends on it."""
        cdef long total = rows * self.shape.num_heads
        return ITEM_ROWS if not self.rank or total > 32 * ITEM_ROWS else FEW_ROWS if total < 128 else 2 * FEW_ROWS

    cdef _reserve(self, long rows):
        """Allocate scratch buffers for that many rows."""
        cdef long num_heads = self.shape.num_heads
        if self.rank and rows > self.capacity:
            widths = {"query_states": self.query_rank, "head_queries": num_heads * self.query_dim,
                      "head_values": num_heads * self.value_dim}
            self.latent_scratch = {name: np.empty((rows, width), np.float32) for name, width in widths.items()}
            self.query_states = <float *>address(self.latent_scratch["query_states"])
            self.head_queries = <float *>address(self.latent_scratch["head_queries"])
            self.head_values = <float *>address(self.latent_scratch["head_values"])
        Phases._reserve(self, rows)

    cdef void _attention(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Store the batch's keys, attend to each token's own sequence, add the result to x."""
        cdef long width = self.shape.num_heads * self.value_dim
        if not self.rank:
            ForwardPass._attention(self, members, layer, index)
            return
        self.show(index, b"attention norm", self.normed, self.step.rows, self.hidden)
        self._project_latent(members, layer, index)
        self._absorb_and_store(members, layer, index)
        self._attend_to_stored(members, layer, index)
        self._make_values(members, layer)
        self.show(index, b"value", self.head_values, self.step.rows, width)
        self._output(members, &layer.output, layer, index, self.head_values, width)

    cdef void _project_latent(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Queries of all heads and shared keys of the normed rows; queries perhaps by way of a smaller state."""
        cdef long rows = self.step.rows
        cdef product[2] products
        products[0] = product(&layer.key, self.normed, &self.rounded.c, rows, self.keys)
        if self.query_rank:
            products[1] = product(&layer.latent.query_down, self.normed, &self.rounded.c, rows, self.query_states)
            self._multiply(members, products, 2)
            self._norm_states(members, layer)
            self.show(index, b"query state", self.query_states, rows, self.query_rank)
            products[1] = product(&layer.query, self.query_states, &self.rounded.c, rows, self.head_queries)
            self._multiply(members, products + 1, 1)
        else:
            products[1] = product(&layer.query, self.normed, &self.rounded.c, rows, self.head_queries)
            self._multiply(members, products, 2)
        self.show(index, b"query", self.head_queries, rows, self.shape.num_heads * self.query_dim)
        self.show(index, b"key", self.keys, rows, self.key_width)

    cdef void _norm_states(self, team *members, const layer_weights *layer) noexcept nogil:
        """Norm the states of which queries are made, and round them (N4)."""
        cdef long start, stop
        cdef float *states
        while claim_rows(members, self.step.rows, &start, &stop):
            states = self.query_states + start * self.query_rank
            table().rms_norm(states, layer.latent.query_norm, self.latent_epsilon, stop - start, self.query_rank,
                             states)
            self._round_rows(self.query_states, self.query_rank, start, stop)
        finish_phase(members)

    cdef void _absorb_and_store(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Multiply queries into the space of latents; rotate queries and keys, norm latents and store them."""
        cdef long rows = self.step.rows, products = self.shape.num_heads * ((rows + HEAD_ROWS - 1) // HEAD_ROWS), item
        cdef long total = products + (rows + STORED_ROWS - 1) // STORED_ROWS
        item = claim(members)
        while item < total:
            if item < products:
                self._absorb_head(layer, item)
            else:
                item = (item - products) * STORED_ROWS
                self._store_rows(layer, index, item, min(item + STORED_ROWS, rows))
            item = claim(members)
        finish_phase(members)

    cdef void _absorb_head(self, const layer_weights *layer, long item) noexcept nogil:
        """The plain features of some rows of a head, times its matrix, behind the place of the rotated ones."""
        cdef long num_heads = self.shape.num_heads, head = item % num_heads, start = item // num_heads * HEAD_ROWS
        cdef long step = num_heads * self.query_dim, width = num_heads * self.shape.head_dim
        table().linear_apart(&layer.latent.key_up[head],
                             self.head_queries + start * step + head * self.query_dim + self.rotated, step,
                             min(<long>HEAD_ROWS, self.step.rows - start),
                             self.queries + start * width + head * self.shape.head_dim + self.rotated, width)

    cdef void _store_rows(self, const layer_weights *layer, long index, long start, long stop) noexcept nogil:
        """Rotate queries and keys of some rows (N6), norm their latents (N5), store keys."""
        cdef long num_heads = self.shape.num_heads, head_dim = self.shape.head_dim, row, head
        cdef const span *sequence = self.step.spans
        cdef float *queries
        cdef float *key
        for row in range(start, stop):
            queries = self.head_queries + row * num_heads * self.query_dim
            self._rotate_heads(layer, queries, self.step.positions[row])
            for head in range(num_heads):
                memcpy(self.queries + (row * num_heads + head) * head_dim, queries + head * self.query_dim,
                       self.rotated * sizeof(float))
            key = self.keys + row * head_dim
            table().rms_norm(key + self.rotated, layer.latent.latent_norm, self.latent_epsilon, 1, self.rank,
                             key + self.rotated)
            self._rotate(layer, key, 1, self.step.positions[row])
            while row >= sequence.row + sequence.tokens:
                sequence += 1
            self.cache.store(layer.pages_at, self.step.pages + sequence.page, self.step.positions[row], key, NULL)

    cdef void _rotate_heads(self, const layer_weights *layer, float *queries, long position) noexcept nogil:
        cdef long at = position * layer.half
        if layer.cosines != NULL:
            table().rotate(queries, self.shape.num_heads, self.query_dim, layer.half, layer.cosines + at,
                           layer.sines + at)

    cdef void _make_values(self, team *members, const layer_weights *layer) noexcept nogil:
        """What each head makes of its weighted sums of latents."""
        cdef long rows = self.step.rows, num_heads = self.shape.num_heads, item, head, start
        cdef long total = num_heads * ((rows + HEAD_ROWS - 1) // HEAD_ROWS)
        cdef long step = num_heads * self.rank, width = num_heads * self.value_dim
        item = claim(members)
        while item < total:
            head, start = item % num_heads, item // num_heads * HEAD_ROWS
            table().linear_apart(&layer.latent.value_up[head], self.attended + start * step + head * self.rank, step,
                                 min(<long>HEAD_ROWS, rows - start),
                                 self.head_values + start * width + head * self.value_dim, width)
            item = claim(members)
        finish_phase(members)
