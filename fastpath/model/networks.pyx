"""The feed-forward networks of a layer, dense or a mixture of experts, on all threads (N9, N9a)."""

from verbatim.fastpath.machine.dispatch cimport SIGMOID, table
from verbatim.fastpath.machine.threads cimport claim, finish_phase, team
from verbatim.fastpath.model.experts cimport expert_weights, routing, sparsemixer_weights
from verbatim.fastpath.model.adapters cimport DOWN, GATE
from verbatim.fastpath.model.layers cimport gated, layer_weights
from verbatim.fastpath.model.phases cimport Phases, claim_rows
from verbatim.fastpath.model.sparse_gate cimport keep_above
from verbatim.fastpath.numerics.packed cimport product
from libc.string cimport memcpy, memset


cdef class NetworkPass(Phases):
    """The second half of a layer."""

    cdef void _feed_forward(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Add the feed-forward network of the normed rows, dense or a mixture of experts, to x."""
        cdef long rows = self.step.rows
        cdef bint ends = index + 1 == self.num_layers or self.has_tail
        cdef const layer_weights *following = layer if ends else &self.weights.layers[index + 1]
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
        self._add(members, layer.mlp_out_norm, following.first_norm, following.first_norm_bias, not ends,
                  self.network_scale)

    cdef void _gate(self, team *members, const gated *part, const float *x, long rows, float *y,
                    long layer) noexcept nogil:
        """The network as Phases has it, or with a sparse gate where the layer has one."""
        if layer >= 0 and self.weights.layers[layer].has_cutoff:
            self._gate_sparse(members, part, x, rows, y, layer)
        else:
            Phases._gate(self, members, part, x, rows, y, layer)

    cdef void _gate_sparse(self, team *members, const gated *part, const float *x, long rows, float *y,
                           long layer) noexcept nogil:
        """The network where only those numbers of a gate count that lie far above their row's mean (N9a)."""
        cdef long width = part.up.outputs, start, stop, row
        cdef float cutoff = self.weights.layers[layer].cutoff
        cdef product[2] products
        products[0] = product(&part.gate, x, &self.rounded.c, rows, self.gated)
        products[1] = product(&part.up, x, &self.rounded.c, rows, self.ups)
        self._multiply_adapted(members, products, 2, layer, GATE)
        while claim_rows(members, rows, &start, &stop):
            for row in range(start, stop):
                keep_above(self.gated + row * width, width, cutoff)
            table().gate(self.gated + start * width, self.ups + start * width, (stop - start) * width, self.activation)
            self._round_gated(self.gated, width, start, stop)
        finish_phase(members)
        products[0] = product(&part.down, self.gated, &self.rounded_gated.c, rows, y)
        self._multiply_adapted(members, products, 1, layer, DOWN)

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
        cdef long i
        rule.bias = layer.score_bias
        if self.is_sparsemixer:
            sparsemixer_weights(scores, rule.num_experts, rule.num_per_token, self.tolerance)
        else:
            expert_weights(scores, &rule)
        if layer.branch.factors != NULL:
            for i in range(layer.num_experts):
                scores[i] *= layer.branch.factors[i]

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
