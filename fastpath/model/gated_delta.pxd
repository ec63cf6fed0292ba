# Gated delta nets: a model's weights of them, and what a step computes.
from verbatim.fastpath.machine.dispatch cimport convolution, matrix
from verbatim.fastpath.machine.threads cimport team
from verbatim.fastpath.model.mixers cimport Mixer, chunk_states
from verbatim.fastpath.model.phases cimport Phases, floats

cdef struct delta_weights:  # of a layer; the vectors are those of its heads
    matrix mixed, gate, rates, steps
    convolution weight
    const float *decays
    const float *step_bias
    const float *norm


cdef class GatedDeltaNets(Mixer):
    cdef delta_weights *layers
    cdef list owners
    cdef long num_key_heads, num_heads, key_dim, value_dim, channels, tail
    cdef bint is_tiled
    cdef float epsilon, query_scale
    cdef floats inputs, gates, rates, steps, convolved
    cdef void _show_inputs(self, Phases model, long index) noexcept nogil
    cdef _show_joined(self, Phases model, long index)
    cdef void _convolve(self, Phases model, team *members, long layer) noexcept nogil
    cdef void _convolve_head(self, const delta_weights *weights, const chunk_states *chunk, long place, long row,
                             long tokens, long block) noexcept nogil
    cdef void _read(self, Phases model, team *members, long layer) noexcept nogil
    cdef void _read_head(self, const delta_weights *weights, const chunk_states *chunk, long place, long row,
                         long tokens, long head) noexcept nogil
