# The feed-forward networks of a layer.
from verbatim.fastpath.machine.threads cimport team
from verbatim.fastpath.model.layers cimport gated, layer_weights
from verbatim.fastpath.model.phases cimport Phases


cdef class NetworkPass(Phases):
    cdef void _feed_forward(self, team *members, const layer_weights *layer, long index) noexcept nogil
    cdef void _gate_sparse(self, team *members, const gated *part, const float *x, long rows, float *y,
                           long layer) noexcept nogil
    cdef void _mix(self, team *members, const layer_weights *layer) noexcept nogil
    cdef void _weigh(self, float *scores, const layer_weights *layer) noexcept nogil
    cdef void _add_shared(self, team *members, const layer_weights *layer) noexcept nogil
    cdef long _gather(self, team *members, long num_experts, long expert) noexcept nogil
    cdef void _scatter(self, team *members, long num_experts, long expert) noexcept nogil
