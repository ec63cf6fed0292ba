# What all kinds of mixers have: where a batch's states come from and go to.
from verbatim.fastpath.machine.threads cimport team
from verbatim.fastpath.model.phases cimport Phases, floats

# The state after `count` tokens of a chunk goes to `to`.
cdef struct save:
    long count
    float *to

# A chunk begins from `begin`, NULL for zeros, and saves its states in ascending order; the last save is after its last
# token. The first `num_wanted` are those of the chunk. Pointers are those of the first layer with a state, the others'
# follow; a save may be where the chunk begins.
cdef struct chunk_states:
    const float *begin
    long num_saves, num_wanted
    const save *saves


cdef class Mixer:
    cdef long size, features, capacity  # numbers of a layer's state; of a row of `mixed`; rows of the scratch buffers
    cdef floats mixed
    cdef dict scratch
    cdef const chunk_states *chunks  # of the batch, as many as it has spans
    cdef object laid_out
    cdef lay_out(self, chunks, states)
    cdef _reserve(self, long rows)
    cdef floats _buffer(self, str name, long rows, long width) except NULL
    cdef void run(self, Phases model, team *members, long layer, long index) noexcept nogil
    cdef void show_states(self, Phases model, long layer, long index) noexcept nogil
