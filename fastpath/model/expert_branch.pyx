"""Mirrored. Experts beside a dense network (N9), on all threads; the reference has the arithmetic."""

import numpy as np

from verbatim.fastpath.machine.dispatch cimport address, table
from verbatim.fastpath.machine.threads cimport finish_phase, team
from verbatim.fastpath.model.layer_inputs cimport LayerInputPass
from verbatim.fastpath.model.layers cimport layer_weights
from verbatim.fastpath.model.phases cimport claim_rows
from verbatim.fastpath.numerics.packed cimport product


cdef class BranchPass(LayerInputPass):
    """All layers of a model, which may have experts beside a dense network."""

    def __init__(self, config, checkpoint, quantization, model_lib=None):
        super().__init__(config, checkpoint, quantization, model_lib)
        self.has_branch = config.experts is not None and config.experts.beside

    cdef _reserve(self, long rows):
        """Allocate scratch buffers for that many rows."""
        if self.has_branch and rows > self.capacity:
            self.branch_scratch = np.empty((rows, self.hidden), np.float32)
            self.dense_rows = <float *>address(self.branch_scratch)
        LayerInputPass._reserve(self, rows)

    cdef void _feed_forward(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Add both parts, each normed, to x; experts and router take x itself, each with a norm of its own."""
        cdef long rows = self.step.rows, start, stop, at, count
        cdef product router = product(&layer.router, self.normed, NULL, rows, self.scores)
        if layer.branch.norm == NULL:
            LayerInputPass._feed_forward(self, members, layer, index)
            return
        self.show(index, b"mlp norm", self.normed, rows, self.hidden)
        self._gate(members, &layer.parts[layer.num_experts], self.normed, rows, self.dense_rows, index)
        self.show(index, b"mlp", self.dense_rows, rows, self.hidden)
        self._norm(members, layer.branch.router_norm, NULL)
        self._multiply(members, &router, 1)
        self.show(index, b"router", self.scores, rows, layer.num_experts)
        self._norm(members, layer.branch.norm, NULL)
        self._mix(members, layer)
        self.show(index, b"experts", self.projected, rows, self.hidden)
        while claim_rows(members, rows, &start, &stop):
            at, count = start * self.hidden, stop - start
            self._norm_into(self.dense_rows + at, layer.branch.dense_out_norm, NULL, count, self.dense_rows + at)
            self._norm_into(self.projected + at, layer.branch.out_norm, NULL, count, self.projected + at)
            table().add(self.projected + at, self.dense_rows + at, count * self.hidden, 1)
        finish_phase(members)
        self._add(members, layer.mlp_out_norm, NULL, NULL, False, self.network_scale)
