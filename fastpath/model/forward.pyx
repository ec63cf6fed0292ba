"""The layers of a decoder, run on all threads without the interpreter (N3 to N9).

A forward pass is a sequence of phases (phases.pyx) with a barrier after each. Attention reads the KV cache's pages.
"""

from verbatim.fastpath.cache.pages cimport PagedCache
from verbatim.fastpath.machine.dispatch cimport SIGMOID, heads, matrix, table, work_item
from verbatim.fastpath.model.adapters cimport OUTPUT, QUERY
from verbatim.fastpath.model.layers cimport layer_weights
from verbatim.fastpath.model.networks cimport NetworkPass
from verbatim.fastpath.numerics.packed cimport product
from verbatim.fastpath.model.phases cimport batch_rows, claim_rows, span
from verbatim.fastpath.machine.threads cimport claim_along, finish_phase, run, run_alone, team


cdef void run_thread(team *members, void *model) noexcept nogil:
    (<ForwardPass>model)._run_thread(members)


cdef class ForwardPass(NetworkPass):
    """All layers of a model: between the embedding and the final norm."""

    cdef _run_layers(self, batch_rows step, PagedCache cache):
        """Run the batch's rows through all layers, in place; a watched model runs on one thread."""
        self.step, self.cache = step, cache
        with nogil:
            if self.watch is None:
                run(run_thread, <void *>self)
            else:
                run_alone(run_thread, <void *>self)
        self.cache = None
        self.raise_failure()

    cdef void _run_thread(self, team *members) noexcept nogil:
        cdef const layer_weights *layer = self.weights.layers
        cdef long index
        self._norm(members, layer.first_norm, layer.first_norm_bias)
        for index in range(self.num_layers):
            layer = &self.weights.layers[index]
            if layer.has_mixer:
                self._mix_tokens(members, layer, index)
            elif layer.has_attention:
                self._attention(members, layer, index)
            if layer.has_mixer or layer.has_attention:
                self.show(index, b"after attention", self.step.x, self.step.rows, self.hidden)
            if layer.has_network:
                self._feed_forward(members, layer, index)
                self.show(index, b"after mlp", self.step.x, self.step.rows, self.hidden)

    cdef void _attention(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Store the batch's keys and values, attend to each token's own sequence, add the result to x."""
        self.show(index, b"attention norm", self.normed, self.step.rows, self.hidden)
        self._project(members, layer, index)
        self._rotate_and_store(members, layer, index)
        self._attend_to_stored(members, layer, index)
        self._output(members, &layer.output, layer, index, self._gate_attended(members, layer, index),
                     self.shape.num_heads * self.shape.value_dim)

    cdef void _mix_tokens(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Add what a layer with a state makes of each token and those before it to x (N14), and attention beside it."""
        self.show(index, b"attention norm", self.normed, self.step.rows, self.hidden)
        if layer.has_attention:
            self._project(members, layer, index)
            self._rotate_and_store(members, layer, index)
            self._attend_to_stored(members, layer, index)
            self._multiply_last(members, &layer.output, layer.output_scale, index, self.attended,
                                self.shape.num_heads * self.shape.value_dim, self.beside)
            self._round(members, self.normed, self.step.rows, self.hidden)
        self.mixer.run(self, members, layer.state_at, index)
        self._output(members, &layer.mixer_output, layer, index, self.mixer.mixed, self.mixer.features)

    cdef void _attend_to_stored(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Attention of the rotated queries to what the cache holds."""
        cdef long rows = self.step.rows, i
        cdef const span *sequence
        cdef heads shape = self.shape
        shape.window, shape.sinks, shape.chunk = layer.window, layer.sinks, layer.chunk
        shape.stored = self.cache.kernel_dtype
        shape.keys, shape.values = self.cache.layer_keys(layer.pages_at), self.cache.layer_values(layer.pages_at)
        shape.sink_scores = layer.sink_scores
        self.show(index, b"rotated query", self.queries, rows, shape.num_heads * shape.head_dim)
        self.show(index, b"rotated key", self.keys, rows, self.key_width)
        for i in range(self.step.num_spans):
            sequence = &self.step.spans[i]
            self.show_cached(index, layer.pages_at, self.step.pages + sequence.page,
                             self.step.positions[sequence.row] + sequence.tokens, self.cache)
        self._attend(members, &shape)
        self.show(index, b"attention", self.attended, rows, shape.num_heads * shape.value_dim)

    cdef float *_gate_attended(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """What the heads made, times the sigmoid of its gates where the family has them (N8)."""
        cdef long rows = self.step.rows, width = self.shape.num_heads * self.shape.value_dim, start, stop
        cdef product gates = product(&layer.attention_gate, self.normed, &self.rounded.c, rows, self.gates)
        if layer.attention_gate.weights == NULL:
            return self.attended
        self._multiply(members, &gates, 1)
        self.show(index, b"gate", self.gates, rows, width)
        while claim_rows(members, rows, &start, &stop):
            table().gate(self.gates + start * width, self.attended + start * width, (stop - start) * width, SIGMOID)
        finish_phase(members)
        return self.gates

    cdef void _output(self, team *members, const matrix *last, const layer_weights *layer, long index, float *attended,
                      long width) noexcept nogil:
        """Multiply what the heads, or a mixer, made by the last matrix and add it to x, with what is beside it."""
        cdef const layer_weights *following = layer if index + 1 == self.num_layers else layer + 1
        cdef bint has_mixed = last == &layer.mixer_output
        cdef float scale = layer.mixer_scale if has_mixed else layer.output_scale
        self._multiply_last(members, last, scale, index, attended, width, self.projected)
        if has_mixed and layer.has_attention:
            self._add_beside(members)
        if not layer.has_network:
            self._add(members, layer.attention_out_norm, following.first_norm, following.first_norm_bias,
                      index + 1 < self.num_layers, self.residual_scale)
            return
        self._add(members, layer.attention_out_norm, layer.mlp_norm, layer.mlp_norm_bias, not self.is_parallel,
                  self.residual_scale)
        if self.is_parallel:  # the feed-forward network takes the rows that attention took
            self._round(members, self.normed, self.step.rows, self.hidden)

    cdef void _multiply_last(self, team *members, const matrix *last, float scale, long index, float *rows, long width,
                             float *y) noexcept nogil:
        """y = rows times the last matrix of attention or of a mixer, times a factor where the family has one."""
        cdef long count = self.step.rows, start, stop
        cdef product output = product(last, rows, &self.rounded.c, count, y)
        self._round(members, rows, count, width)
        self._multiply_adapted(members, &output, 1, index, OUTPUT)
        if scale != 1:
            while claim_rows(members, count, &start, &stop):
                table().scale(y + start * self.hidden, (stop - start) * self.hidden, scale)
            finish_phase(members)
        self.show(index, b"output", y, count, self.hidden)

    cdef void _add_beside(self, team *members) noexcept nogil:
        """Add what attention made to what the mixer beside it made."""
        cdef long start, stop, at
        while claim_rows(members, self.step.rows, &start, &stop):
            at = start * self.hidden
            table().add(self.projected + at, self.beside + at, (stop - start) * self.hidden, 1)
        finish_phase(members)

    cdef void _project(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Queries, keys and values of the normed rows."""
        cdef long rows = self.step.rows
        cdef product[3] products
        products[0] = product(&layer.query, self.normed, &self.rounded.c, rows, self.queries)
        products[1] = product(&layer.key, self.normed, &self.rounded.c, rows, self.keys)
        products[2] = product(&layer.value, self.normed, &self.rounded.c, rows, self.values)
        self._multiply_adapted(members, products, 3, index, QUERY)
        self.show(index, b"query", self.queries, rows, self.shape.num_heads * self.shape.head_dim)
        self.show(index, b"key", self.keys, rows, self.key_width)
        self.show(index, b"value", self.values, rows, self.key_width)

    cdef void _rotate_and_store(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Norm queries and keys where the family does (N5), rotate them (N6), store keys and values in the cache.

        In some families norms come after rotation.
        """
        cdef long query_width = self.shape.num_heads * self.shape.head_dim, start, stop, row
        cdef const span *sequence = self.step.spans
        while claim_rows(members, self.step.rows, &start, &stop):
            if not self.norms_rotated:
                self._norm_queries_and_keys(layer.query_norm, layer.key_norm, start, stop)
            for row in range(start, stop):
                self._rotate(layer, self.queries + row * query_width, self.shape.num_heads, self.step.positions[row])
                self._rotate(layer, self.keys + row * self.key_width, self.shape.num_kv_heads, self.step.positions[row])
            if self.norms_rotated:
                self._norm_queries_and_keys(layer.query_norm, layer.key_norm, start, stop)
            for row in range(start, stop):
                self._scale_query(layer, self.queries + row * query_width, query_width, self.step.positions[row])
                while row >= sequence.row + sequence.tokens:
                    sequence += 1
                self.cache.store(layer.pages_at, self.step.pages + sequence.page, self.step.positions[row],
                                 self.keys + row * self.key_width, self.values + row * self.key_width)
        finish_phase(members)

    cdef void _attend(self, team *members, const heads *shape) noexcept nogil:
        """Attention; a work item is some rows of one sequence and key-value head."""
        cdef long total = self.step.num_items, index = claim_along(members, total)
        cdef work_item item, following
        while index < total:
            self._make_item(shape, index, &item)
            if index + 1 < total:
                self._make_item(shape, index + 1, &following)
            table().attend(shape, &item, &following if index + 1 < total else NULL)
            index = claim_along(members, total)
        finish_phase(members)

    cdef void _make_item(self, const heads *shape, long index, work_item *item) noexcept nogil:
        """Work item `index` of the batch's attention; a binary search finds its sequence."""
        cdef long query_width = shape.num_heads * shape.head_dim, shared_by = shape.num_heads // shape.num_kv_heads
        cdef long width = shape.num_heads * shape.value_dim
        cdef long low = 0, high = self.step.num_spans, middle, first
        cdef const span *sequence
        while high - low > 1:
            middle = (low + high) // 2
            if self.step.spans[middle].item <= index:
                low = middle
            else:
                high = middle
        sequence = &self.step.spans[low]
        index -= sequence.item
        first = index // shape.num_kv_heads * self.item_rows
        item[0] = work_item(self.queries + sequence.row * query_width, self.attended + sequence.row * width,
                            self.step.pages + sequence.page, self.step.positions + sequence.row,
                            index % shape.num_kv_heads, first, min(first + self.item_rows, sequence.tokens * shared_by))

    cdef void _rotate(self, const layer_weights *layer, float *x, long num_heads, long position) noexcept nogil:
        cdef long at = position * layer.half
        if layer.cosines != NULL:
            table().rotate(x, num_heads, self.shape.head_dim, layer.half, layer.cosines + at, layer.sines + at)

    cdef void _scale_query(self, const layer_weights *layer, float *x, long width, long position) noexcept nogil:
        """Multiply a token's rotated queries by the factor of its position, where the layer has one (N8)."""
        cdef long i
        if self.query_scales != NULL and not (self.only_scales_unrotated and layer.cosines != NULL):
            for i in range(width):
                x[i] *= self.query_scales[position]
