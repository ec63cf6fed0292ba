# Attention to the pages of a cache.
from verbatim.fastpath.machine.dispatch cimport heads, work_item
from verbatim.fastpath.machine.threads cimport team
from verbatim.fastpath.model.layers cimport layer_weights
from verbatim.fastpath.model.networks cimport NetworkPass
from verbatim.fastpath.model.phases cimport span


cdef class StoredAttention(NetworkPass):
    cdef void _attend_to_stored(self, team *members, const layer_weights *layer, long index) noexcept nogil
    cdef void _rotate_and_store(self, team *members, const layer_weights *layer, long index) noexcept nogil
    cdef void _attend(self, team *members, const heads *shape, const span *spans) noexcept nogil
    cdef void _make_item(self, const heads *shape, const span *spans, long index, work_item *item) noexcept nogil
    cdef void _rotate(self, const layer_weights *layer, float *x, long num_heads, long position) noexcept nogil
    cdef void _scale_query(self, const layer_weights *layer, float *x, long width, long position) noexcept nogil
    cdef void _norm_queries_and_keys(self, const layer_weights *layer, long start, long stop) noexcept nogil
    cdef void _norm_heads(self, float *x, const float *weight, long rows, long width, long head_dim) noexcept nogil
