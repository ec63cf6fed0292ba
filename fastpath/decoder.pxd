# A decoder's layers, and the scratch memory that they work in.
from fastpath.cache cimport PagedCache
from fastpath.dispatch cimport heads, matrix
from fastpath.layers cimport Layers, gated, layer_weights
from fastpath.packed cimport Activations
from fastpath.watched cimport Watched
from libc.stdint cimport int32_t

ctypedef float *floats

# One sequence's share of the rows: its first row, how many, and where in the step's list of pages its own begin.
cdef struct span:
    long row, tokens, page


cdef class Decoder(Watched):
    cdef readonly object config
    cdef Layers weights
    cdef long num_layers, hidden, inner, key_width, vocab_size, num_positions, capacity, num_experts, experts_per_token
    cdef heads shape
    cdef float epsilon, residual_scale
    cdef int activation
    cdef bint norms_heads, normalizes_experts
    cdef Activations rounded
    cdef dict scratch
    cdef floats normed, queries, keys, values, attended, projected, gated, upped, scores, gathered, expert_output

    cdef _reserve(self, long rows)
    cdef _layers(self, float *x, long rows, const span *spans, long num_spans, const int32_t *positions, const int32_t
                 *pages, PagedCache cache)
    cdef void _multiply(self, const matrix *w, const float *x, long rows, float *y) noexcept nogil
    cdef int _norm(self, long index, const char *name, const float *x, const float *weight, long rows) except -1 nogil
    cdef int _attend(self, const layer_weights *layer, long index, float *x, long rows, const span *spans, long
                     num_spans, const int32_t *positions, const int32_t *pages, PagedCache cache) except -1 nogil
    cdef void _norm_heads(self, float *x, const float *weight, long rows, long width) noexcept nogil
    cdef void _rotate(self, const layer_weights *layer, float *x, long num_heads, long position) noexcept nogil
    cdef int _feed_forward(self, const layer_weights *layer, long index, float *x, long rows) except -1 nogil
    cdef void _gate(self, const gated *part, const float *x, long rows, float *y) noexcept nogil
    cdef void _mix(self, const layer_weights *layer, long rows) noexcept nogil
    cdef void _add(self, float *x, const float *norm, long rows) noexcept nogil
