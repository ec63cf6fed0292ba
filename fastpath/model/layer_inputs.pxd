# A decoder whose layers may have inputs of their own.
from verbatim.fastpath.machine.threads cimport team
from verbatim.fastpath.model.latent_attention cimport LatentPass
from verbatim.fastpath.model.layers cimport layer_weights
from verbatim.fastpath.model.phases cimport floats


cdef class LayerInputPass(LatentPass):
    cdef long input_size
    cdef const float *inputs  # (rows, layers, input_size)
    cdef floats input_rows
    cdef object token_rows, input_scratch, held_inputs
    cdef _take_inputs(self, ids, embedded)
    cdef void _combine(self, team *members, const layer_weights *layer, long index, const float *x) noexcept nogil
