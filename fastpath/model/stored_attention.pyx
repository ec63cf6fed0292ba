"""Attention to the pages of a cache, on all threads (N5, N6, N8): heads are normed, rotated, stored, attended to.

A work item of attention is some rows of one sequence and key-value head.
"""

from verbatim.fastpath.machine.dispatch cimport heads, table, work_item
from verbatim.fastpath.machine.threads cimport claim_along, finish_phase, team
from verbatim.fastpath.model.layers cimport layer_weights
from verbatim.fastpath.model.networks cimport NetworkPass
from verbatim.fastpath.model.phases cimport claim_rows, span


cdef class StoredAttention(NetworkPass):
    """What a layer does between its products of queries, keys and values, and that of its output."""

    cdef void _attend_to_stored(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Attention of the rotated queries to what the cache holds."""
        cdef long rows = self.step.rows, i
        cdef const span *sequence
        cdef heads shape = self.shape
        shape.num_kv_heads, shape.head_dim, shape.value_dim = layer.num_kv_heads, layer.head_dim, layer.value_dim
        shape.scale = layer.query_scale
        shape.window, shape.sinks, shape.chunk = layer.window, layer.sinks, layer.chunk
        shape.stored = self.cache.kernel_dtype
        shape.keys, shape.values = self.cache.layer_keys(layer.pages_at), self.cache.layer_values(layer.pages_at)
        shape.sink_scores = layer.sink_scores
        self.show(index, b"rotated query", self.queries, rows, layer.query_width)
        if layer.makes_keys:
            self.show(index, b"rotated key", self.keys, rows, layer.key_width)
        for i in range(self.step.num_spans):
            sequence = &self.step.spans[i]
            self.show_cached(index, layer.pages_at, self.step.pages + sequence.page,
                             self.step.positions[sequence.row] + sequence.tokens, self.cache)
        self._attend(members, &shape, self.step.spans + layer.span_set * (self.step.num_spans + 1))
        self.show(index, b"attention", self.attended, rows, shape.num_heads * shape.value_dim)

    cdef void _rotate_and_store(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Norm queries and keys where the family does (N5), rotate them (N6), store keys and values in the cache.

        In some families norms come after rotation, and values are normed, too.
        """
        cdef long width = layer.query_width, keys = layer.key_width, start, stop, row, position
        cdef const span *sequence = self.step.spans
        while claim_rows(members, self.step.rows, &start, &stop):
            if not self.norms_rotated:
                self._norm_queries_and_keys(layer, start, stop)
            for row in range(start, stop):
                position = self.step.positions[row]
                self._rotate(layer, self.queries + row * width, self.shape.num_heads, position)
                if layer.makes_keys:
                    self._rotate(layer, self.keys + row * keys, layer.num_kv_heads, position)
            if self.norms_rotated:
                self._norm_queries_and_keys(layer, start, stop)
            if layer.value_norm != NULL:
                self._norm_heads(self.values + start * keys, layer.value_norm, stop - start, keys, layer.head_dim)
            for row in range(start, stop):
                position = self.step.positions[row]
                self._scale_query(layer, self.queries + row * width, width, position)
                while row >= sequence.row + sequence.tokens:
                    sequence += 1
                if layer.makes_keys:
                    self.cache.store(layer.pages_at, self.step.pages + sequence.page, position, self.keys + row * keys,
                                     self.values + row * keys)
        finish_phase(members)

    cdef void _attend(self, team *members, const heads *shape, const span *spans) noexcept nogil:
        """Attention; a work item is some rows of one sequence and key-value head."""
        cdef long total = spans[self.step.num_spans].item, index = claim_along(members, total)
        cdef work_item item, following
        while index < total:
            self._make_item(shape, spans, index, &item)
            if index + 1 < total:
                self._make_item(shape, spans, index + 1, &following)
            table().attend(shape, &item, &following if index + 1 < total else NULL)
            index = claim_along(members, total)
        finish_phase(members)

    cdef void _make_item(self, const heads *shape, const span *spans, long index,
                         work_item *item) noexcept nogil:
        """Work item `index` of the batch's attention; a binary search finds its sequence."""
        cdef long query_width = shape.num_heads * shape.head_dim, shared_by = shape.num_heads // shape.num_kv_heads
        cdef long width = shape.num_heads * shape.value_dim
        cdef long low = 0, high = self.step.num_spans, middle, first
        cdef const span *sequence
        while high - low > 1:
            middle = (low + high) // 2
            if spans[middle].item <= index:
                low = middle
            else:
                high = middle
        sequence = &spans[low]
        index -= sequence.item
        first = index // shape.num_kv_heads * self.item_rows
        item[0] = work_item(self.queries + sequence.row * query_width, self.attended + sequence.row * width,
                            self.step.pages + sequence.page, self.step.positions + sequence.row,
                            index % shape.num_kv_heads, first, min(first + self.item_rows, sequence.tokens * shared_by))

    cdef void _rotate(self, const layer_weights *layer, float *x, long num_heads, long position) noexcept nogil:
        cdef long at = position * layer.half
        if layer.cosines != NULL:
            table().rotate(x, num_heads, layer.head_dim, layer.half, layer.cosines + at, layer.sines + at)

    cdef void _scale_query(self, const layer_weights *layer, float *x, long width, long position) noexcept nogil:
        """Multiply a token's rotated queries by the factor of its position, where the layer has one (N8)."""
        cdef long i
        if self.query_scales != NULL and not (self.only_scales_unrotated and layer.cosines != NULL):
            for i in range(width):
                x[i] *= self.query_scales[position]

    cdef void _norm_queries_and_keys(self, const layer_weights *layer, long start, long stop) noexcept nogil:
        """Norm some rows of queries, and of keys where the layer makes them, as the family does."""
        cdef long queries = layer.query_width, keys = layer.key_width
        self._norm_heads(self.queries + start * queries, layer.query_norm, stop - start, queries, layer.head_dim)
        if layer.makes_keys:
            self._norm_heads(self.keys + start * keys, layer.key_norm, stop - start, keys, layer.head_dim)

    cdef void _norm_heads(self, float *x, const float *weight, long rows, long width, long head_dim) noexcept nogil:
        """Norm queries or keys in place: each head, perhaps with weights of its own, or all of a token together."""
        cdef long size = head_dim if self.norms_heads else width, i
        if weight == NULL:
            return
        if not self.weighs_heads:
            self._norm_sized(x, weight, NULL, rows * width // size, size, x)
            return
        for i in range(rows * width // size):
            self._norm_sized(x + i * size, weight + i * size % width, NULL, 1, size, x + i * size)
