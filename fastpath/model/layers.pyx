"""Mirrored. A checkpoint's tensors in the kernels' layout, kept alive as long as the pointers to them."""

import numpy as np

from verbatim.fastpath.machine.dispatch cimport address, matrix
from verbatim.fastpath.numerics.packed cimport PackedMatrix
from libc.stdlib cimport calloc, free

from verbatim.fastpath.machine.memory import HugePages
from verbatim.fastpath.model.attention import query_scale
from verbatim.fastpath.numerics.packed import pack
from verbatim.reference.numerics.rotary import rotary_table


cdef class Layers:
    """All layers of a decoder, its final norm and its head, packed here or loaded from a model library."""

    def __init__(self, config, checkpoint, quantization: str | None, model_lib=None):
        if model_lib is not None:
            floats = [(matrix, None) for layer in checkpoint.layers for matrix in layer.float_matrices()]
            model_lib.complete([*((matrix, quantization) for matrix in checkpoint.quantized_matrices()), *floats])
        self.owners, self.norm_offset = [], config.norm_offset
        self.model_lib, self.memory = model_lib, HugePages()
        self.num_layers = config.num_layers
        self.layers = <layer_weights *>calloc(self.num_layers, sizeof(layer_weights))
        if self.layers == NULL:
            raise MemoryError
        ropes = {layer.rope for layer in config.layers if layer.rope}
        tables = {rope: list(map(np.ascontiguousarray, rotary_table(rope, config.context_size))) for rope in ropes}
        self.owners.append(tables)
        for index, layer in enumerate(checkpoint.layers):
            self.layers[<long>index].pages_at, self.layers[<long>index].state_at = config.places_in_cache(index)
            self.layers[<long>index].output_scale = config.attention_out_scale
            self.layers[<long>index].mixer_scale = config.mixer.output_scale if config.mixer is not None else 1
            self._load_heads(&self.layers[<long>index], config, index)
            self._load(&self.layers[<long>index], layer, tables.get(layer.config.rope), quantization)
        self.norm, self.norm_bias = self._vector(checkpoint.norm), self._vector(checkpoint.norm_bias, 0)
        if checkpoint.head is not None:  # an eagle head has none
            self.head = self._matrix(checkpoint.head, quantization)

    def __dealloc__(self):
        cdef long index
        if self.layers != NULL:
            for index in range(self.num_layers):
                free(self.layers[index].parts)
                free(self.layers[index].latent.key_up)
        free(self.layers)

    cdef _load_heads(self, layer_weights *into, config, long index):
        """The shape of a layer's heads, and what follows from it."""
        into.num_kv_heads, into.head_dim = config.heads_of(index)
        into.value_dim = config.latent.rank if config.latent else into.head_dim
        into.query_width, into.key_width = config.num_heads * into.head_dim, into.num_kv_heads * into.head_dim
        into.query_scale = query_scale(into.head_dim, config.attention_scale, config.attention_softcap)
        into.span_set = config.kv_head_counts.index(into.num_kv_heads)

    cdef _load(self, layer_weights *into, layer, rope_table, quantization):
        into.attention_norm, into.mlp_norm = self._vector(layer.attention_norm), self._vector(layer.mlp_norm)
        into.attention_norm_bias = self._vector(layer.attention_norm_bias, 0)
        into.mlp_norm_bias = self._vector(layer.mlp_norm_bias, 0)
        into.attention_out_norm = self._vector(layer.attention_out_norm)
        into.mlp_out_norm = self._vector(layer.mlp_out_norm)
        into.score_bias = self._vector(layer.score_bias, 0)
        if layer.query is not None:
            self._load_attention(into, layer, quantization)
        self._load_residuals(into, layer, quantization)
        into.has_cutoff, into.cutoff = layer.config.cutoff is not None, layer.config.cutoff or 0
        if layer.mixer is not None:
            into.has_mixer, into.mixer_output = True, self._matrix(layer.mixer.out, quantization)
        into.has_network = layer.config.has_feed_forward
        into.first_norm, into.first_norm_bias = into.attention_norm, into.attention_norm_bias
        if not (into.has_attention or into.has_mixer):
            into.first_norm, into.first_norm_bias = into.mlp_norm, into.mlp_norm_bias
        into.window, into.sinks = layer.config.window or 0, layer.config.sinks
        into.chunk = layer.config.chunk or 0
        if rope_table is not None:
            into.half = rope_table[0].shape[1]
            into.cosines, into.sines = <float *>address(rope_table[0]), <float *>address(rope_table[1])
        parts, into.has_shared = layer.parts(), layer.shared is not None
        if layer.experts:  # the router stays float: its scores choose the experts
            into.num_experts, into.router = len(layer.experts), self._matrix(layer.router, None)
        if layer.shared_gate is not None:
            into.shared_gate = self._matrix(layer.shared_gate, None)
        into.parts = <gated *>calloc(max(1, len(parts)), sizeof(gated))
        if into.parts == NULL:
            raise MemoryError
        for i, part in enumerate(parts):
            if part.gate is not None:
                into.parts[<long>i].gate = self._matrix(part.gate, quantization)
            into.parts[<long>i].up = self._matrix(part.up, quantization)
            into.parts[<long>i].down = self._matrix(part.down, quantization)

    cdef _load_attention(self, layer_weights *into, layer, quantization):
        into.has_attention, into.sink_scores = True, self._vector(layer.sink_scores, 0)
        into.query_norm, into.key_norm = self._vector(layer.query_norm), self._vector(layer.key_norm)
        into.value_norm, into.makes_keys = self._vector(layer.value_norm), layer.key is not None
        into.query, into.output = self._matrix(layer.query, quantization), self._matrix(layer.output, quantization)
        if layer.attention_gate is not None:
            into.attention_gate = self._matrix(layer.attention_gate, quantization)
        if layer.key is not None:
            into.key = self._matrix(layer.key, quantization)
        if layer.value is not None:
            into.value = self._matrix(layer.value, quantization)
        if layer.latent is not None:
            self._load_latent(&into.latent, layer.latent, quantization)

    cdef _load_residuals(self, layer_weights *into, layer, quantization):
        """Experts beside a dense network, inputs of the layer, streams, and the factor of the layer's result."""
        if layer.branch is not None:
            into.branch = branch_weights(
                self._vector(layer.branch.router_norm), self._vector(layer.branch.norm),
                self._vector(layer.branch.out_norm), self._vector(layer.branch.dense_out_norm),
                self._vector(layer.branch.factors, 0),
            )
        if layer.inputs is not None:
            into.inputs.gate = self._matrix(layer.inputs.gate, quantization)
            into.inputs.projection = self._matrix(layer.inputs.projection, quantization)
            into.inputs.norm = self._vector(layer.inputs.norm)
        if layer.streams is not None:
            into.streams.router_norm = self._vector(layer.streams.router_norm)
            into.streams.norm = self._vector(layer.streams.norm)
            into.streams.router = self._matrix(layer.streams.router, None)
            into.streams.predictions = self._matrix(layer.streams.predictions, None)
            into.streams.corrections = self._matrix(layer.streams.corrections, None)
            into.streams.scale = self._vector(layer.streams.scale, 0)
            into.streams.left = self._matrix(layer.streams.left, quantization)
            into.streams.right = self._matrix(layer.streams.right, quantization)
        if layer.scale is not None:
            into.has_scale, into.scale = True, layer.scale.float32()[0]

    cdef _load_latent(self, latent_weights *into, latent, quantization):
        cdef long index, count = len(latent.key_up)
        if latent.query_down is not None:
            into.query_down = self._matrix(latent.query_down, quantization)
            into.query_norm = self._vector(latent.query_norm)
        into.latent_norm = self._vector(latent.latent_norm)
        into.key_up = <matrix *>calloc(2 * count, sizeof(matrix))
        if into.key_up == NULL:
            raise MemoryError
        into.value_up = into.key_up + count
        for index in range(count):  # these stay floats
            into.key_up[index] = self._matrix(latent.key_up[index], None)
            into.value_up[index] = self._matrix(latent.value_up[index], None)

    cdef const float *_vector(self, tensor, offset=None) except? NULL:
        """The address of a norm's weight or, with an offset of 0, of another vector; NULL for None."""
        if tensor is None:
            return NULL
        values = np.ascontiguousarray(tensor.float32() + np.float32(self.norm_offset if offset is None else offset))
        self.owners.append(values)
        return <const float *>address(values)

    cdef matrix _matrix(self, source, quantization) except *:
        cdef PackedMatrix packed = pack(source, quantization, self.model_lib, self.memory)
        self.owners.append(packed)
        return packed.c
