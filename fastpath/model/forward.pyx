"""The layers of a decoder, run on all threads without the interpreter (N3 to N9).

A forward pass is a sequence of phases (phases.pyx) with a barrier after each; stored_attention.pyx reads the cache.
"""

from verbatim.fastpath.cache.pages cimport PagedCache
from verbatim.fastpath.machine.dispatch cimport SIGMOID, matrix, table
from verbatim.fastpath.model.adapters cimport OUTPUT, QUERY
from verbatim.fastpath.model.layers cimport layer_weights
from verbatim.fastpath.numerics.packed cimport product
from verbatim.fastpath.model.phases cimport batch_rows, claim_rows
from verbatim.fastpath.model.stored_attention cimport StoredAttention
from verbatim.fastpath.machine.threads cimport finish_phase, run, run_alone, team
from libc.string cimport memcpy


cdef void run_thread(team *members, void *model) noexcept nogil:
    (<ForwardPass>model)._run_thread(members)


cdef class ForwardPass(StoredAttention):
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
        if not self.has_tail:
            self._norm(members, layer.first_norm, layer.first_norm_bias)
        for index in range(self.num_layers):
            layer = &self.weights.layers[index]
            if self.has_tail:
                self._begin_layer(members, layer, index)
            if layer.has_mixer:
                self._mix_tokens(members, layer, index)
            elif layer.has_attention:
                self._attention(members, layer, index)
            if layer.has_mixer or layer.has_attention:
                self.show(index, b"after attention", self.step.x, self.step.rows, self.hidden)
            if layer.has_network:
                self._feed_forward(members, layer, index)
                self.show(index, b"after mlp", self.step.x, self.step.rows, self.hidden)
            if self.has_tail:
                self._finish_layer(members, layer, index)

    cdef void _begin_layer(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """What comes before a layer of a model that `has_tail`: its rows are not normed yet."""

    cdef void _finish_layer(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """What there is to such a layer beside its two halves."""

    cdef void _attention(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Store the batch's keys and values, attend to each token's own sequence, add the result to x."""
        self.show(index, b"attention norm", self.normed, self.step.rows, self.hidden)
        self._project(members, layer, index)
        self._rotate_and_store(members, layer, index)
        self._attend_to_stored(members, layer, index)
        self._output(members, &layer.output, layer, index, self._gate_attended(members, layer, index),
                     layer.query_width)

    cdef void _mix_tokens(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Add what a layer with a state makes of each token and those before it to x (N14), and attention beside it."""
        self.show(index, b"attention norm", self.normed, self.step.rows, self.hidden)
        if layer.has_attention:
            self._project(members, layer, index)
            self._rotate_and_store(members, layer, index)
            self._attend_to_stored(members, layer, index)
            self._multiply_last(members, &layer.output, layer.output_scale, index, self.attended,
                                layer.query_width, self.beside)
            self._round(members, self.normed, self.step.rows, self.hidden)
        self.mixer.run(self, members, layer.state_at, index)
        self._output(members, &layer.mixer_output, layer, index, self.mixer.mixed, self.mixer.features)

    cdef float *_gate_attended(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """What the heads made, times the sigmoid of its gates where the family has them (N8)."""
        cdef long rows = self.step.rows, width = layer.query_width, start, stop
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
        self._join(members, layer, index)
        if self.is_parallel:  # the feed-forward network takes the rows that attention took
            self._round(members, self.normed, self.step.rows, self.hidden)

    cdef void _join(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Add what attention gave to x, and norm x for the feed-forward network."""
        self._add(members, layer.attention_out_norm, layer.mlp_norm, layer.mlp_norm_bias, not self.is_parallel,
                  self.residual_scale)

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
        """Queries, keys and values of the normed rows, as far as the layer makes them."""
        cdef long rows = self.step.rows
        cdef bint makes_values = layer.value.weights != NULL
        cdef product[3] products
        products[0] = product(&layer.query, self.normed, &self.rounded.c, rows, self.queries)
        products[1] = product(&layer.key, self.normed, &self.rounded.c, rows, self.keys)
        products[2] = product(&layer.value, self.normed, &self.rounded.c, rows, self.values)
        self._multiply_adapted(members, products, 1 + layer.makes_keys + makes_values, index, QUERY)
        self.show(index, b"query", self.queries, rows, layer.query_width)
        if layer.makes_keys:
            self.show(index, b"key", self.keys, rows, layer.key_width)
            if not makes_values:
                self._copy_keys(members, layer)
            self.show(index, b"value", self.values, rows, layer.key_width)

    cdef void _copy_keys(self, team *members, const layer_weights *layer) noexcept nogil:
        """Take what keys are made of for values, too."""
        cdef long start, stop, width = layer.key_width
        while claim_rows(members, self.step.rows, &start, &stop):
            memcpy(self.values + start * width, self.keys + start * width, (stop - start) * width * sizeof(float))
        finish_phase(members)
