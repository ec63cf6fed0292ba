"""The layers of a decoder, through which rows go without the interpreter (N3 to N9).

All threads go through a step together; phases.pyx holds what they share between two meetings. Attention looks into the
cache's own pages.
"""

from verbatim.fastpath.cache.pages cimport PagedCache
from verbatim.fastpath.machine.dispatch cimport heads, look, table
from verbatim.fastpath.model.experts cimport expert_weights
from verbatim.fastpath.model.layers cimport layer_weights
from verbatim.fastpath.numerics.packed cimport product
from verbatim.fastpath.model.phases cimport PIECE_ROWS, rows_of_step, span, take_rows
from verbatim.fastpath.machine.threads cimport claim, claim_along, finish_phase, run, run_alone, team
from libc.string cimport memcpy, memset


cdef void take_step(team *members, void *decoder) noexcept nogil:
    (<Decoder>decoder)._take_step(members)


cdef class Decoder(Phases):
    """What a model is between its embedding and its last norm."""

    cdef _layers(self, rows_of_step step, PagedCache cache):
        """Take the step's rows through all layers, in place; a watched model works alone, and shows what it does."""
        self.step, self.cache = step, cache
        with nogil:
            if self.watch is None:
                run(take_step, <void *>self)
            else:
                run_alone(take_step, <void *>self)
        self.cache = None
        self.raise_failure()

    cdef void _take_step(self, team *members) noexcept nogil:
        cdef long index
        self._norm(members, self.weights.layers[0].attention_norm)
        for index in range(self.num_layers):
            self._attend(members, &self.weights.layers[index], index)
            self.show(index, b"after attention", self.step.x, self.step.rows, self.hidden)
            self._feed_forward(members, &self.weights.layers[index], index)
            self.show(index, b"after mlp", self.step.x, self.step.rows, self.hidden)

    cdef void _attend(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Store this step's keys and values, let each token look back over its own sequence, add the result to x."""
        cdef long query_width = self.shape.num_heads * self.shape.head_dim, rows = self.step.rows, i
        cdef const span *one
        cdef product output = product(&layer.output, self.attended, &self.rounded.c, rows, self.projected)
        cdef heads shape = self.shape
        shape.window, shape.sinks, shape.stored = layer.window, layer.sinks, self.cache.kind
        shape.keys, shape.values = self.cache.layer_keys(index), self.cache.layer_values(index)
        self.show(index, b"attention norm", self.normed, rows, self.hidden)
        self._project(members, layer, index)
        self._turn(members, layer, index)
        self.show(index, b"turned query", self.queries, rows, query_width)
        self.show(index, b"turned key", self.keys, rows, self.key_width)
        for i in range(self.step.num_spans):
            one = &self.step.spans[i]
            self.show_cached(index, self.step.pages + one.page, self.step.positions[one.row] + one.tokens, self.cache)
        self._look_back(members, &shape)
        self.show(index, b"attention", self.attended, rows, query_width)
        self._round(members, self.attended, rows, query_width)
        self._multiply(members, &output, 1)
        self.show(index, b"output", self.projected, rows, self.hidden)
        self._add(members, layer.attention_out_norm, layer.mlp_norm, False)

    cdef void _project(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Queries, keys and values of the normed rows."""
        cdef long rows = self.step.rows
        cdef product[3] products
        products[0] = product(&layer.query, self.normed, &self.rounded.c, rows, self.queries)
        products[1] = product(&layer.key, self.normed, &self.rounded.c, rows, self.keys)
        products[2] = product(&layer.value, self.normed, &self.rounded.c, rows, self.values)
        self._multiply(members, products, 3)
        self.show(index, b"query", self.queries, rows, self.shape.num_heads * self.shape.head_dim)
        self.show(index, b"key", self.keys, rows, self.key_width)
        self.show(index, b"value", self.values, rows, self.key_width)

    cdef void _turn(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Queries and keys normed where the family does that (N5) and turned (N6); keys and values into the cache."""
        cdef long query_width = self.shape.num_heads * self.shape.head_dim, start, stop, row
        cdef const span *one = self.step.spans
        while take_rows(members, self.step.rows, &start, &stop):
            self._norm_heads(self.queries + start * query_width, layer.query_norm, stop - start, query_width)
            self._norm_heads(self.keys + start * self.key_width, layer.key_norm, stop - start, self.key_width)
            for row in range(start, stop):
                self._rotate(layer, self.queries + row * query_width, self.shape.num_heads, self.step.positions[row])
                self._rotate(layer, self.keys + row * self.key_width, self.shape.num_kv_heads, self.step.positions[row])
                while row >= one.row + one.tokens:
                    one += 1
                self.cache.store(index, self.step.pages + one.page, self.step.positions[row],
                                 self.keys + row * self.key_width, self.values + row * self.key_width)
        finish_phase(members)

    cdef void _look_back(self, team *members, const heads *shape) noexcept nogil:
        """Attention; a piece is some rows of one sequence and key-value head."""
        cdef long total = self.step.num_pieces, piece = claim_along(members, total)
        cdef look one, following
        while piece < total:
            self._cut_piece(shape, piece, &one)
            if piece + 1 < total:
                self._cut_piece(shape, piece + 1, &following)
            table().attend(shape, &one, &following if piece + 1 < total else NULL)
            piece = claim_along(members, total)
        finish_phase(members)

    cdef void _cut_piece(self, const heads *shape, long piece, look *out) noexcept nogil:
        """What a piece of the step's attention looks at; its sequence is found by halving."""
        cdef long query_width = shape.num_heads * shape.head_dim, shared_by = shape.num_heads // shape.num_kv_heads
        cdef long low = 0, high = self.step.num_spans, middle, first
        cdef const span *one
        while high - low > 1:
            middle = (low + high) // 2
            if self.step.spans[middle].piece <= piece:
                low = middle
            else:
                high = middle
        one = &self.step.spans[low]
        first = (piece - one.piece) // shape.num_kv_heads * PIECE_ROWS
        out[0] = look(self.queries + one.row * query_width, self.attended + one.row * query_width,
                      self.step.pages + one.page, self.step.positions + one.row, (piece - one.piece) % shape.num_kv_heads,
                      first, min(first + PIECE_ROWS, one.tokens * shared_by))

    cdef void _norm_heads(self, float *x, const float *weight, long rows, long width) noexcept nogil:
        """Queries or keys normed in place, each head by itself or all of a token together."""
        cdef long size = self.shape.head_dim if self.norms_heads else width
        if weight != NULL:
            table().rms_norm(x, weight, self.epsilon, rows * width // size, size, x)

    cdef void _rotate(self, const layer_weights *layer, float *x, long num_heads, long position) noexcept nogil:
        cdef long at = position * layer.half
        if layer.cosines != NULL:
            table().rotate(x, num_heads, self.shape.head_dim, layer.half, layer.cosines + at, layer.sines + at)

    cdef void _feed_forward(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """x plus the dense part, or the mixture of experts, of the normed input."""
        cdef long rows = self.step.rows
        cdef bint is_last = index + 1 == self.num_layers
        cdef product router = product(&layer.router, self.normed, NULL, rows, self.scores)
        self.show(index, b"mlp norm", self.normed, rows, self.hidden)
        if layer.num_experts:
            self._multiply(members, &router, 1)
            self.show(index, b"router", self.scores, rows, layer.num_experts)
            self._mix(members, layer)
            self.show(index, b"experts", self.projected, rows, self.hidden)
        else:
            self._gate(members, layer.parts, self.normed, rows, self.projected)
            self.show(index, b"mlp", self.projected, rows, self.hidden)
        self._add(members, layer.mlp_out_norm, NULL if is_last else self.weights.layers[index + 1].attention_norm, is_last)

    cdef void _mix(self, team *members, const layer_weights *layer) noexcept nogil:
        """From router scores: each expert takes the rows that chose it; outputs are weighed and added in ascending id from +0 (N9)."""
        cdef long expert, row, start, stop, count, hidden = self.hidden, rows = self.step.rows
        while take_rows(members, rows, &start, &stop):
            memset(self.projected + start * hidden, 0, (stop - start) * hidden * sizeof(float))
            for row in range(start, stop):
                expert_weights(self.scores + row * layer.num_experts, layer.num_experts, self.experts_per_token,
                               self.normalizes_experts)
        finish_phase(members)
        for expert in range(layer.num_experts):
            count = self._gather(members, layer.num_experts, expert)
            if count:
                self._round(members, self.gathered, count, self.hidden)
                self._gate(members, &layer.parts[expert], self.gathered, count, self.expert_output)
                self._scatter(members, layer.num_experts, expert)

    cdef long _gather(self, team *members, long num_experts, long expert) noexcept nogil:
        """The rows that chose an expert, side by side; returns how many, on every thread."""
        cdef long row, count = 0
        cdef bint copies = claim(members) == 0
        for row in range(self.step.rows):
            if self.scores[row * num_experts + expert] != 0:
                if copies:
                    memcpy(self.gathered + count * self.hidden, self.normed + row * self.hidden,
                           self.hidden * sizeof(float))
                count += 1
        finish_phase(members)
        return count

    cdef void _scatter(self, team *members, long num_experts, long expert) noexcept nogil:
        """Add an expert's rows, weighed, to those that they were gathered from."""
        cdef long row, count = 0, mine = claim(members)
        cdef float weight
        for row in range(self.step.rows):
            weight = self.scores[row * num_experts + expert]
            if weight != 0:
                if count == mine:
                    table().add(self.projected + row * self.hidden, self.expert_output + count * self.hidden,
                                self.hidden, weight)
                    mine = claim(members)
                count += 1
        finish_phase(members)
