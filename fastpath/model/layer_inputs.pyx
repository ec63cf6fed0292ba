"""Mirrored. Inputs of each layer (N9b), on all threads; reference/model/layer_inputs.py has the arithmetic."""

import numpy as np

from verbatim.fastpath.machine.dispatch cimport address, table
from verbatim.fastpath.machine.threads cimport finish_phase, team
from verbatim.fastpath.model.latent_attention cimport LatentPass
from verbatim.fastpath.model.layers cimport layer_weights
from verbatim.fastpath.model.phases cimport claim_rows
from verbatim.fastpath.numerics.packed cimport product

from verbatim.fastpath.numerics.arithmetic import rms_norm
from verbatim.fastpath.numerics.packed import pack
from verbatim.reference.checkpoint.weights import Tensor


class TokenRows:
    """The inputs of all layers: called with ids (tokens,) and embeddings (tokens, hidden).

    Returns (tokens, layers, size).
    """

    def __init__(self, config, settings, stored):
        self.settings, self.embedding, self.epsilon = settings, stored.embedding, config.norm_epsilon
        self.projection, self.norm = pack(stored.projection), stored.norm.float32()
        self.token_scale = np.float32(float(settings.size) ** 0.5)
        self.scale = np.float32(float(config.hidden_size) ** -0.5)

    def __call__(self, ids, embedded):
        """The projected embedding, normed, plus the token's own rows, times the root of one half."""
        rows = self.embedding.bits[np.where(ids < self.settings.vocab_size, ids, 0)]
        own = Tensor(self.embedding.name, self.embedding.dtype, rows).float32() * self.token_scale
        shape = len(ids), -1, self.settings.size
        made = rms_norm((self.projection(embedded) * self.scale).reshape(shape), self.norm, self.epsilon)
        return (made + own.reshape(shape)) * np.float32(0.5**0.5)


cdef class LayerInputPass(LatentPass):
    """All layers of a model, which may have inputs of their own, and multiply what they give by a number."""

    def __init__(self, config, checkpoint, quantization, model_lib=None):
        super().__init__(config, checkpoint, quantization, model_lib)
        self.has_tail = config.has_layer_scale or config.layer_inputs is not None
        if config.layer_inputs is not None:
            self.token_rows = TokenRows(config, config.layer_inputs, checkpoint.inputs)
            self.input_size = config.layer_inputs.size
            self.widest = max(self.widest, self.input_size)
            self.intermediate = max(self.intermediate, self.input_size)

    cdef _reserve(self, long rows):
        """Allocate scratch buffers for that many rows."""
        if self.input_size and rows > self.capacity:
            self.input_scratch = np.empty((rows, self.input_size), np.float32)
            self.input_rows = <float *>address(self.input_scratch)
        LatentPass._reserve(self, rows)

    cdef _take_inputs(self, ids, embedded):
        """Make the inputs of all layers for the next pass."""
        if self.token_rows is None:
            return
        self.held_inputs = self.token_rows(ids, embedded)
        self.inputs = <const float *>address(self.held_inputs)
        self.show(-1, b"layer inputs", <float *>self.inputs, len(ids), self.num_layers * self.input_size)

    cdef void _begin_layer(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        self._norm(members, layer.attention_norm, layer.attention_norm_bias)

    cdef void _finish_layer(self, team *members, const layer_weights *layer, long index) noexcept nogil:
        """Add to x what it and the layer's inputs make, then multiply it."""
        cdef long start, stop, i
        if not self.has_tail:
            return
        if layer.inputs.norm != NULL:
            self._combine(members, layer, index, self.step.x)
        while claim_rows(members, self.step.rows, &start, &stop):
            start, stop = start * self.hidden, stop * self.hidden
            if layer.inputs.norm != NULL:
                table().add(self.step.x + start, self.projected + start, stop - start, 1)
            if layer.has_scale:
                for i in range(start, stop):
                    self.step.x[i] *= layer.scale
        finish_phase(members)
        self.show(index, b"after inputs", self.step.x, self.step.rows, self.hidden)

    cdef void _combine(self, team *members, const layer_weights *layer, long index, const float *x) noexcept nogil:
        """projected = norm(projection(activation(gate(x)) * inputs)) of the batch's rows."""
        cdef long rows = self.step.rows, size = self.input_size, start, stop, row
        cdef product work = product(&layer.inputs.gate, x, &self.rounded.c, rows, self.input_rows)
        self._round(members, x, rows, self.hidden)
        self._multiply(members, &work, 1)
        while claim_rows(members, rows, &start, &stop):
            for row in range(start, stop):
                table().gate(self.input_rows + row * size, self.inputs + (row * self.num_layers + index) * size, size,
                             self.activation)
            self._round_gated(self.input_rows, size, start, stop)
        finish_phase(members)
        work = product(&layer.inputs.projection, self.input_rows, &self.rounded_gated.c, rows, self.projected)
        self._multiply(members, &work, 1)
        while claim_rows(members, rows, &start, &stop):
            self._norm_into(self.projected + start * self.hidden, layer.inputs.norm, NULL, stop - start,
                            self.projected + start * self.hidden)
        finish_phase(members)
