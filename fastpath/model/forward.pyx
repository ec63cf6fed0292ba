"""The layers of a decoder, run on all threads without the interpreter (N3 to N9).

A forward pass is a sequence of phases (phases.pyx) with a barrier after each. Attention reads the KV cache's pages.
"""

from verbatim.fastpath.cache.pages cimport PagedCache
from verbatim.fastpath.machine.dispatch cimport SIGMOID, heads, matrix, table, work_item
from verbatim.fastpath.model.adapters cimport OUTPUT, QUERY
from verbatim.fastpath.model.experts cimport expert_weights, routing, sparsemixer_weights
from verbatim.fastpath.model.layers cimport layer_weights
from verbatim.fastpath.numerics.packed cimport product
from verbatim.fastpath.model.phases cimport batch_rows, claim_rows, span
from verbatim.fastpath.machine.threads cimport claim, claim_along, finish_phase, run, run_alone, team
from libc.string cimport memcpy, memset


cdef void run_thread(team *members, void *model) noexcept nogil:
    (<ForwardPass>model)._run_thread(members)


cdef class ForwardPass(Phases):
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
        cdef long index
        self._norm(members, self.weights.layers[0].attention_norm, self.weights.layers[0].attention_norm_bias)
        for index in range(self.num_layers):
            if self.weights.layers[index].has_mixer:
                self._mix_tokens(members, &self.weights.layers[index], index)
            else:
                self._attention(members, &self.weights.layers[index], index)
            self.show(index, b"after attention", self.step.x, self.step.rows, self.hidden)
            self._feed_forward(members, &self.weights.layers[index], index)
            self.show(index, b"after mlp", self.step.x, self.step.rows, self.hidden)

    cdef void _attention(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Store the batch's keys and values, attend to each token's own sequence, add the result to x."""
        self.show(index, b"attention norm", self.normed, self.step.rows, self.hidden)
        self._project(members, layer, index)
        self._rotate_and_store(members, layer, index)
        self._attend_to_stored(members, layer, index)
        self._output(members, &layer.output, layer, index, self.attended, self.shape.num_heads * self.shape.value_dim)

    cdef void _mix_tokens(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Add what a layer with a state makes of each token and those before it to x (N14)."""
        self.show(index, b"attention norm", self.normed, self.step.rows, self.hidden)
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

    cdef void _output(self, team *members, const matrix *last, const layer_weights *layer, long index, float *attended,
                      long width) noexcept nogil:
        """Multiply what the heads, or a mixer, made by the last matrix and add it to x."""
        cdef long rows = self.step.rows
        cdef product output = product(last, attended, &self.rounded.c, rows, self.projected)
        self._round(members, attended, rows, width)
        self._multiply_adapted(members, &output, 1, index, OUTPUT)
        self.show(index, b"output", self.projected, rows, self.hidden)
        self._add(members, layer.attention_out_norm, layer.mlp_norm, layer.mlp_norm_bias, not self.is_parallel)
        if self.is_parallel:  # the feed-forward network takes the rows that attention took
            self._round(members, self.normed, rows, self.hidden)

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

    cdef void _feed_forward(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Add the feed-forward network of the normed rows, dense or a mixture of experts, to x."""
        cdef long rows = self.step.rows
        cdef bint is_last = index + 1 == self.num_layers
        cdef const layer_weights *following = layer if is_last else &self.weights.layers[index + 1]
        cdef product router = product(&layer.router, self.normed, NULL, rows, self.scores)
        self.show(index, b"mlp norm", self.normed, rows, self.hidden)
        if layer.num_experts:
            self._multiply(members, &router, 1)
            self.show(index, b"router", self.scores, rows, layer.num_experts)
            self._mix(members, layer)
            self.show(index, b"experts", self.projected, rows, self.hidden)
        else:
            self._gate(members, layer.parts, self.normed, rows, self.projected, index)
            self.show(index, b"mlp", self.projected, rows, self.hidden)
        self._add(members, layer.mlp_out_norm, following.attention_norm, following.attention_norm_bias, not is_last)

    cdef void _mix(self, team *members, const layer_weights *layer) noexcept nogil:
        """Run each expert on the rows that chose it; add weighted outputs in ascending id from +0 (N9)."""
        cdef long expert, row, start, stop, count, hidden = self.hidden, rows = self.step.rows
        while claim_rows(members, rows, &start, &stop):
            memset(self.projected + start * hidden, 0, (stop - start) * hidden * sizeof(float))
            for row in range(start, stop):
                self._weigh(self.scores + row * layer.num_experts, layer)
        finish_phase(members)
        for expert in range(layer.num_experts):
            count = self._gather(members, layer.num_experts, expert)
            if count:
                self._round(members, self.gathered, count, self.hidden)
                self._gate(members, &layer.parts[expert], self.gathered, count, self.expert_output, -1)
                self._scatter(members, layer.num_experts, expert)
        if layer.has_shared:
            self._add_shared(members, layer)

    cdef void _weigh(self, float *scores, const layer_weights *layer) noexcept nogil:
        """Replace a token's scores by its experts' weights, as the family chooses them."""
        cdef routing rule = self.rule
        rule.bias = layer.score_bias
        if self.is_sparsemixer:
            sparsemixer_weights(scores, rule.num_experts, rule.num_per_token, self.tolerance)
        else:
            expert_weights(scores, &rule)

    cdef void _add_shared(self, team *members, const layer_weights *layer) noexcept nogil:
        """Add the output of the expert that every token takes, times its own weight where it has a gate."""
        cdef long row, start, stop, rows = self.step.rows, hidden = self.hidden
        cdef bint has_gate = layer.shared_gate.weights != NULL
        cdef product gate = product(&layer.shared_gate, self.normed, NULL, rows, self.shared_scores)
        if has_gate:
            self._multiply(members, &gate, 1)
        self._round(members, self.normed, rows, hidden)
        self._gate(members, &layer.parts[layer.num_experts], self.normed, rows, self.expert_output, -1)
        while claim_rows(members, rows, &start, &stop):
            if has_gate:
                table().activate(self.shared_scores + start, stop - start, SIGMOID, self.shared_scores + start)
            for row in range(start, stop):
                table().add(self.projected + row * hidden, self.expert_output + row * hidden, hidden,
                            self.shared_scores[row] if has_gate else 1)
        finish_phase(members)

    cdef long _gather(self, team *members, long num_experts, long expert) noexcept nogil:
        """Copy the rows that chose an expert side by side; returns their number, on every thread.

        Where the family weighs an expert's inputs, they are weighed here.
        """
        cdef long row, count = 0, i
        cdef bint copies = claim(members) == 0
        for row in range(self.step.rows):
            if self.scores[row * num_experts + expert] != 0:
                if copies:
                    memcpy(self.gathered + count * self.hidden, self.normed + row * self.hidden,
                           self.hidden * sizeof(float))
                    if self.weighs_inputs:
                        for i in range(self.hidden):
                            self.gathered[count * self.hidden + i] *= self.scores[row * num_experts + expert]
                count += 1
        finish_phase(members)
        return count

    cdef void _scatter(self, team *members, long num_experts, long expert) noexcept nogil:
        """Add an expert's weighted output rows to the rows that they were gathered from."""
        cdef long row, count = 0, mine = claim(members)
        cdef float weight
        for row in range(self.step.rows):
            weight = self.scores[row * num_experts + expert]
            if weight != 0:
                if count == mine:
                    table().add(self.projected + row * self.hidden, self.expert_output + count * self.hidden,
                                self.hidden, 1 if self.weighs_inputs else weight)
                    mine = claim(members)
                count += 1
        finish_phase(members)
