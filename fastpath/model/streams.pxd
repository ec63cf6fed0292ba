# A decoder that may have several streams.
from verbatim.fastpath.machine.threads cimport team
from verbatim.fastpath.model.expert_branch cimport BranchPass
from verbatim.fastpath.model.layers cimport layer_weights
from verbatim.fastpath.model.phases cimport floats


cdef class StreamPass(BranchPass):
    cdef long num_streams, active, rank
    cdef float *streams  # (rows, num_streams, hidden)
    cdef floats predicted, routed, weights_of_streams, low, residual
    cdef dict stream_scratch
    cdef object ends, held_streams
    cdef _take_streams(self, embedded)
    cdef _leave_streams(self, x)
    cdef void _route(self, team *members, const layer_weights *layer, const float *x, long step) noexcept nogil
    cdef void _predict(self, team *members, const layer_weights *layer, long index) noexcept nogil
    cdef void _predict_row(self, long row) noexcept nogil
    cdef void _correct(self, team *members, const layer_weights *layer) noexcept nogil
    cdef void _correct_row(self, const layer_weights *layer, long row) noexcept nogil
    cdef void _make_residual(self, team *members, const layer_weights *layer, long index) noexcept nogil
