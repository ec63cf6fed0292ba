"""Mirrored. Several streams through the layers (N9c), on all threads; reference/model/streams.py has the arithmetic."""

import numpy as np

from verbatim.fastpath.machine.dispatch cimport address, table
from verbatim.fastpath.machine.threads cimport finish_phase, team
from verbatim.fastpath.model.expert_branch cimport BranchPass
from verbatim.fastpath.model.layers cimport layer_weights
from verbatim.fastpath.model.phases cimport claim_rows
from verbatim.fastpath.numerics.packed cimport product
from libc.string cimport memcpy, memset

from verbatim.fastpath.numerics.arithmetic import lane_sum
from verbatim.fastpath.numerics.packed import pack

LEAST_SQUARE = np.float32(1e-5)  # of what is brought to another row's size
cdef float ROOT_OF_TWO = 2**0.5


class Streams:
    """Makes the streams (tokens, count, hidden) of embeddings, and one row of the streams behind the last layer."""

    def __init__(self, checkpoint):
        self.inward = [pack(matrix) for matrix in checkpoint.streams_in]
        self.outward = [pack(matrix) for matrix in checkpoint.streams_out]

    def begin(self, x):
        """The embeddings (tokens, hidden), and a product of them for each further stream, of the same size."""
        return np.stack([x, *(_resized(matrix(x), x) for matrix in self.inward)], axis=1)

    def end(self, streams):
        """The mean (tokens, hidden) of the first stream and a product of each further one, added in order."""
        total = first = streams[:, 0]
        for index, matrix in enumerate(self.outward, 1):
            total = total + _resized(matrix(streams[:, index]), first)
        return total / np.float32(streams.shape[1])


def _resized(y, x):
    """y times the root mean square of x, divided by its own."""
    size = np.float32(x.shape[1])
    wanted, own = np.sqrt(lane_sum(x * x) / size), np.sqrt(np.maximum(lane_sum(y * y) / size, LEAST_SQUARE))
    return y * wanted[:, None] / own[:, None]


cdef class StreamPass(BranchPass):
    """All layers of a model, which may have several streams."""

    def __init__(self, config, checkpoint, quantization, model_lib=None):
        super().__init__(config, checkpoint, quantization, model_lib)
        if config.streams is not None:
            self.num_streams, self.active = config.streams.count, config.streams.active
            self.rank, self.ends = config.streams.laurel_rank, Streams(checkpoint)
            self.intermediate = max(self.intermediate, self.rank)

    cdef _reserve(self, long rows):
        """Allocate scratch buffers for that many rows."""
        cdef long count = self.num_streams
        if count and rows > self.capacity:
            widths = {"predicted": count * self.hidden, "routed": count, "weights": count * count, "low": self.rank,
                      "residual": self.hidden}
            self.stream_scratch = {name: np.empty((rows, width), np.float32) for name, width in widths.items()}
            self.predicted = <float *>address(self.stream_scratch["predicted"])
            self.routed = <float *>address(self.stream_scratch["routed"])
            self.weights_of_streams = <float *>address(self.stream_scratch["weights"])
            self.low = <float *>address(self.stream_scratch["low"])
            self.residual = <float *>address(self.stream_scratch["residual"])
        BranchPass._reserve(self, rows)

    cdef _take_streams(self, embedded):
        """Make the streams of the next pass."""
        if self.num_streams:
            self.held_streams = self.ends.begin(embedded)
            self.streams = <float *>address(self.held_streams)
            self.show(-1, b"streams", self.streams, len(embedded), self.num_streams * self.hidden)

    cdef _leave_streams(self, x):
        """The rows behind the last layer: x without streams."""
        return self.ends.end(self.held_streams) if self.num_streams else x

    cdef void _begin_layer(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        if self.num_streams:
            self._predict(members, layer, index)
        BranchPass._begin_layer(self, members, layer, index)

    cdef void _finish_layer(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Correct all streams by x, and add to all but the first what the layer's inputs make."""
        cdef long start, stop, row, k
        if not self.num_streams:
            BranchPass._finish_layer(self, members, layer, index)
            return
        self._correct(members, layer)
        self._combine(members, layer, index, self.normed)
        while claim_rows(members, self.step.rows, &start, &stop):
            for row in range(start, stop):
                for k in range(1, self.num_streams):
                    table().add(self.streams + (row * self.num_streams + k) * self.hidden,
                                self.projected + row * self.hidden, self.hidden, 1)
        finish_phase(members)
        self.show(index, b"streams", self.streams, self.step.rows, self.num_streams * self.hidden)

    cdef void _route(self, team *members, const layer_weights *layer, const float *x, long step) noexcept nogil:
        """routed = tanh(router(router_norm(x))) of rows that lie `step` apart."""
        cdef long rows = self.step.rows, count = self.num_streams, start, stop, row
        cdef product router = product(&layer.streams.router, self.normed, NULL, rows, self.routed)
        while claim_rows(members, rows, &start, &stop):
            for row in range(start, stop):
                self._norm_into(x + row * step, layer.streams.router_norm, NULL, 1, self.normed + row * self.hidden)
        finish_phase(members)
        self._multiply(members, &router, 1)
        while claim_rows(members, rows, &start, &stop):
            table().softcap(self.routed + start * count, (stop - start) * count, 1, 1)
        finish_phase(members)

    cdef void _predict(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """The streams before the layer; x is the active one of them."""
        cdef long rows = self.step.rows, count = self.num_streams, width = count * self.hidden, start, stop, row
        cdef product work = product(&layer.streams.predictions, self.routed, NULL, rows, self.weights_of_streams)
        self._route(members, layer, self.streams + self.active * self.hidden, width)
        self._multiply(members, &work, 1)
        while claim_rows(members, rows, &start, &stop):
            for row in range(start, stop):
                self._predict_row(row)
        finish_phase(members)
        self.show(index, b"predicted streams", self.predicted, rows, width)
        while claim_rows(members, rows, &start, &stop):
            for row in range(start, stop):
                memcpy(self.step.x + row * self.hidden, self.predicted + row * width + self.active * self.hidden,
                       self.hidden * sizeof(float))
        finish_phase(members)

    cdef void _predict_row(self, long row) noexcept nogil:
        """Each stream of a token plus the weighted sum of all."""
        cdef long count = self.num_streams, hidden = self.hidden, j, k
        cdef const float *streams = self.streams + row * count * hidden
        cdef const float *weights = self.weights_of_streams + row * count * count
        cdef float *found = self.predicted + row * count * hidden
        memset(found, 0, count * hidden * sizeof(float))
        for k in range(count):
            for j in range(count):
                table().add(found + k * hidden, streams + j * hidden, hidden, weights[k * count + j])
            table().add(found + k * hidden, streams + k * hidden, hidden, 1)

    cdef void _correct(self, team *members, const layer_weights *layer) noexcept nogil:
        """The streams behind the layer; `normed` are the rows that are combined with its inputs."""
        cdef long rows = self.step.rows, start, stop, row
        cdef product work = product(&layer.streams.corrections, self.routed, NULL, rows, self.weights_of_streams)
        self._route(members, layer, self.step.x, self.hidden)
        self._multiply(members, &work, 1)
        while claim_rows(members, rows, &start, &stop):
            for row in range(start, stop):
                self._correct_row(layer, row)
        finish_phase(members)

    cdef void _correct_row(self, const layer_weights *layer, long row) noexcept nogil:
        cdef long count = self.num_streams, hidden = self.hidden, k, i
        cdef const float *predicted = self.predicted + row * count * hidden
        cdef const float *weights = self.weights_of_streams + row * count
        cdef float *streams = self.streams + row * count * hidden
        cdef float *beyond = self.projected + row * hidden
        cdef float *combined = self.normed + row * hidden
        memcpy(beyond, self.step.x + row * hidden, hidden * sizeof(float))
        table().add(beyond, predicted + self.active * hidden, hidden, -1)
        memcpy(streams, predicted, count * hidden * sizeof(float))
        for k in range(count):
            table().add(streams + k * hidden, beyond, hidden, weights[k] + 1)
        memcpy(combined, streams + self.active * hidden, hidden * sizeof(float))
        if layer.streams.scale != NULL:
            for i in range(hidden):
                combined[i] *= layer.streams.scale[i]

    cdef void _project(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        if self.num_streams:
            self._make_residual(members, layer, index)
        BranchPass._project(self, members, layer, index)

    cdef void _make_residual(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """residual = normed + norm(right(left(normed)))."""
        cdef long rows = self.step.rows, start, stop, at
        cdef product work = product(&layer.streams.left, self.normed, &self.rounded.c, rows, self.low)
        self._multiply(members, &work, 1)
        while claim_rows(members, rows, &start, &stop):
            self._round_gated(self.low, self.rank, start, stop)
        finish_phase(members)
        work = product(&layer.streams.right, self.low, &self.rounded_gated.c, rows, self.residual)
        self._multiply(members, &work, 1)
        while claim_rows(members, rows, &start, &stop):
            at = start * self.hidden
            self._norm_into(self.residual + at, layer.streams.norm, NULL, stop - start, self.residual + at)
            table().add(self.residual + at, self.normed + at, (stop - start) * self.hidden, 1)
        finish_phase(members)
        self.show(index, b"residual", self.residual, rows, self.hidden)

    cdef void _join(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Add attention and the residual of low rank to x, divide by the root of two, norm x."""
        cdef long start, stop, at, count, i
        if not self.num_streams:
            BranchPass._join(self, members, layer, index)
            return
        while claim_rows(members, self.step.rows, &start, &stop):
            at, count = start * self.hidden, (stop - start) * self.hidden
            self._norm_into(self.projected + at, layer.attention_out_norm, NULL, stop - start, self.projected + at)
            table().add(self.step.x + at, self.projected + at, count, self.residual_scale)
            table().add(self.step.x + at, self.residual + at, count, 1)
            for i in range(at, at + count):
                self.step.x[i] /= ROOT_OF_TWO
            self._norm_rows(layer.mlp_norm, layer.mlp_norm_bias, start, stop)
        finish_phase(members)
