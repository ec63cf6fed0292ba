# The layers of a decoder, run by all threads of a team.
from verbatim.fastpath.cache.pages cimport PagedCache
from verbatim.fastpath.machine.dispatch cimport matrix
from verbatim.fastpath.model.layers cimport layer_weights
from verbatim.fastpath.model.mixers cimport Mixer
from verbatim.fastpath.model.phases cimport batch_rows
from verbatim.fastpath.model.stored_attention cimport StoredAttention
from verbatim.fastpath.machine.threads cimport team


cdef class ForwardPass(StoredAttention):
    cdef Mixer mixer  # of all layers with a state; None without
    cdef _run_layers(self, batch_rows step, PagedCache cache)
    cdef void _run_thread(self, team *members) noexcept nogil
    cdef void _begin_layer(self, team *members, const layer_weights *layer, long index) noexcept nogil
    cdef void _finish_layer(self, team *members, const layer_weights *layer, long index) noexcept nogil
    cdef void _attention(self, team *members, const layer_weights *layer, long index) noexcept nogil
    cdef void _mix_tokens(self, team *members, const layer_weights *layer, long index) noexcept nogil
    cdef float *_gate_attended(self, team *members, const layer_weights *layer, long index) noexcept nogil
    cdef void _output(self, team *members, const matrix *last, const layer_weights *layer, long index, float *attended,
                      long width) noexcept nogil
    cdef void _join(self, team *members, const layer_weights *layer, long index) noexcept nogil
    cdef void _multiply_last(self, team *members, const matrix *last, float scale, long index, float *rows, long width,
                             float *y) noexcept nogil
    cdef void _add_beside(self, team *members) noexcept nogil
    cdef void _copy_keys(self, team *members, const layer_weights *layer) noexcept nogil
    cdef void _project(self, team *members, const layer_weights *layer, long index) noexcept nogil
