# The layers of a decoder, run by all threads of a team.
from verbatim.fastpath.cache.pages cimport PagedCache
from verbatim.fastpath.machine.dispatch cimport heads, matrix, work_item
from verbatim.fastpath.model.layers cimport layer_weights
from verbatim.fastpath.model.mixers cimport Mixer
from verbatim.fastpath.model.networks cimport NetworkPass
from verbatim.fastpath.model.phases cimport batch_rows
from verbatim.fastpath.machine.threads cimport team


cdef class ForwardPass(NetworkPass):
    cdef Mixer mixer  # of all layers with a state; None without
    cdef _run_layers(self, batch_rows step, PagedCache cache)
    cdef void _run_thread(self, team *members) noexcept nogil
    cdef void _attention(self, team *members, const layer_weights *layer, long index) noexcept nogil
    cdef void _attend_to_stored(self, team *members, const layer_weights *layer, long index) noexcept nogil
    cdef void _mix_tokens(self, team *members, const layer_weights *layer, long index) noexcept nogil
    cdef float *_gate_attended(self, team *members, const layer_weights *layer, long index) noexcept nogil
    cdef void _output(self, team *members, const matrix *last, const layer_weights *layer, long index, float *attended,
                      long width) noexcept nogil
    cdef void _multiply_last(self, team *members, const matrix *last, float scale, long index, float *rows, long width,
                             float *y) noexcept nogil
    cdef void _add_beside(self, team *members) noexcept nogil
    cdef void _project(self, team *members, const layer_weights *layer, long index) noexcept nogil
    cdef void _rotate_and_store(self, team *members, const layer_weights *layer, long index) noexcept nogil
    cdef void _attend(self, team *members, const heads *shape) noexcept nogil
    cdef void _make_item(self, const heads *shape, long index, work_item *item) noexcept nogil
    cdef void _rotate(self, const layer_weights *layer, float *x, long num_heads, long position) noexcept nogil
    cdef void _scale_query(self, const layer_weights *layer, float *x, long width, long position) noexcept nogil
