# A decoder's layers, as each thread of a team goes through them.
from verbatim.fastpath.cache.pages cimport PagedCache
from verbatim.fastpath.machine.dispatch cimport heads, look
from verbatim.fastpath.model.layers cimport layer_weights
from verbatim.fastpath.model.phases cimport Phases, rows_of_step
from verbatim.fastpath.machine.threads cimport team


cdef class Decoder(Phases):
    cdef _layers(self, rows_of_step step, PagedCache cache)
    cdef void _take_step(self, team *members) noexcept nogil
    cdef void _attend(self, team *members, const layer_weights *layer, long index) noexcept nogil
    cdef void _project(self, team *members, const layer_weights *layer, long index) noexcept nogil
    cdef void _turn(self, team *members, const layer_weights *layer, long index) noexcept nogil
    cdef void _look_back(self, team *members, const heads *shape) noexcept nogil
    cdef void _cut_piece(self, const heads *shape, long piece, look *out) noexcept nogil
    cdef void _norm_heads(self, float *x, const float *weight, long rows, long width) noexcept nogil
    cdef void _rotate(self, const layer_weights *layer, float *x, long num_heads, long position) noexcept nogil
    cdef void _feed_forward(self, team *members, const layer_weights *layer, long index) noexcept nogil
    cdef void _mix(self, team *members, const layer_weights *layer) noexcept nogil
    cdef long _gather(self, team *members, long num_experts, long expert) noexcept nogil
    cdef void _scatter(self, team *members, long num_experts, long expert) noexcept nogil
