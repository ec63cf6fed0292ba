# A decoder whose layers may have latent attention.
from verbatim.fastpath.machine.threads cimport team
from verbatim.fastpath.model.forward cimport ForwardPass
from verbatim.fastpath.model.layers cimport layer_weights
from verbatim.fastpath.model.phases cimport floats


cdef class LatentPass(ForwardPass):
    cdef long rotated, rank, query_dim, query_rank, value_dim
    cdef float latent_epsilon
    cdef floats query_states, head_queries, head_values
    cdef dict latent_scratch
    cdef long _rows_of_items(self, long rows) noexcept
    cdef void _project_latent(self, team *members, const layer_weights *layer, long index) noexcept nogil
    cdef void _norm_states(self, team *members, const layer_weights *layer) noexcept nogil
    cdef void _absorb_and_store(self, team *members, const layer_weights *layer, long index) noexcept nogil
    cdef void _absorb_head(self, const layer_weights *layer, long item) noexcept nogil
    cdef void _store_rows(self, const layer_weights *layer, long index, long start, long stop) noexcept nogil
    cdef void _rotate_heads(self, const layer_weights *layer, float *queries, long position) noexcept nogil
    cdef void _make_values(self, team *members, const layer_weights *layer) noexcept nogil
