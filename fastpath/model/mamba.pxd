# The selective state spaces of all layers that have one.
from verbatim.fastpath.machine.dispatch cimport convolution, matrix
from verbatim.fastpath.machine.threads cimport team
from verbatim.fastpath.model.mixers cimport Mixer
from verbatim.fastpath.model.phases cimport Phases, floats

cdef struct state_space:
    matrix into
    convolution weights
    const float *step_bias
    const float *decays
    const float *skip
    const float *norm  # NULL without


cdef class StateSpaces(Mixer):
    cdef state_space *layers
    cdef list owners
    cdef object factors
    cdef long num_heads, head_dim, state_rows, num_groups, values, channels, width, tail
    cdef bint norms_first
    cdef float epsilon, least, greatest
    cdef const float *scales  # of what the first matrix makes; NULL for none
    cdef floats inputs, convolved, kept
    cdef _load(self, state_space *into, sizes, tensors)
    cdef const float *_vector(self, stored) except? NULL
    cdef void _multiply_by_factors(self, Phases model, team *members) noexcept nogil
    cdef void _convolve(self, Phases model, team *members, long layer) noexcept nogil
    cdef void _convolve_some(self, Phases model, long layer, long item) noexcept nogil
    cdef void _scan(self, Phases model, team *members, long layer) noexcept nogil
    cdef void _scan_head(self, Phases model, long layer, long sequence, long index) noexcept nogil
    cdef void _gate(self, Phases model, team *members, long layer) noexcept nogil
