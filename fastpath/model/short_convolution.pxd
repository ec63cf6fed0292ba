# The gated short convolution of all layers that have one.
from verbatim.fastpath.machine.dispatch cimport convolution, matrix
from verbatim.fastpath.machine.threads cimport team
from verbatim.fastpath.model.mixers cimport Mixer, chunk_states
from verbatim.fastpath.model.phases cimport Phases, floats

cdef struct gated_convolution:
    matrix into
    convolution weights

# Features that a thread convolves at a time: the rows of a few tokens stay in its L1 cache.
cdef enum:
    CHANNELS = 256


cdef class ShortConvolutions(Mixer):
    cdef gated_convolution *layers
    cdef list owners
    cdef long channels
    cdef floats inputs
    cdef void _scan(self, Phases model, team *members, long layer) noexcept nogil


cdef convolution make_convolution(weight, bias) except *
cdef void keep_tails(const convolution *weights, const chunk_states *chunk, long place, const float *x, long step,
                     long start, long stop) noexcept nogil
