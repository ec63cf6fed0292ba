# A decoder's shape, weights and scratch buffers, and the rows of a batch.
from verbatim.fastpath.cache.pages cimport PagedCache
from verbatim.fastpath.machine.dispatch cimport heads, quantized
from verbatim.fastpath.model.adapters cimport Adapters
from verbatim.fastpath.model.experts cimport routing
from verbatim.fastpath.model.layers cimport Layers, gated
from verbatim.fastpath.numerics.packed cimport Activations, product
from verbatim.fastpath.machine.threads cimport team
from verbatim.fastpath.model.watched cimport Watched
from libc.stdint cimport int32_t

ctypedef float *floats

# One sequence's share of a batch: its first row, its number of tokens, the index of its first page in the batch's list
# of pages, and its first attention work item.
cdef struct span:
    long row, tokens, page, item

# The rows of a batch: x (rows, hidden), and each row's position.
cdef struct batch_rows:
    float *x
    long rows, num_spans
    const span *spans  # num_spans and one after the last, for each number of key-value heads that layers have
    const int32_t *positions
    const int32_t *pages

cdef enum:
    ITEM_ROWS = 64  # attention rows of a work item, at most: one for each token and query head of a key-value head


cdef bint claim_rows(team *members, long rows, long *start, long *stop) noexcept nogil


cdef class Phases(Watched):
    cdef readonly object config
    cdef readonly Adapters adapters
    cdef Layers weights
    cdef long num_layers, hidden, intermediate, query_width, key_width, vocab_size, num_positions, capacity
    cdef long num_experts, item_rows, widest  # rows of an attention work item; inputs of the widest matrix of attention
    cdef routing rule  # without a layer's bias
    cdef heads shape
    cdef float epsilon, residual_scale, network_scale, gate_scale
    cdef bint has_beside
    cdef int activation
    cdef bint norms_heads, weighs_heads, norms_rotated, has_layer_norms, is_parallel, is_sparsemixer, weighs_inputs
    cdef bint only_scales_unrotated, has_tail  # whether there is more to a layer than its two halves
    cdef bint has_cutoffs
    cdef float tolerance, gate_alpha, gate_limit  # a limit of 0: the gate is not clamped
    cdef const float *query_scales
    cdef object owner
    cdef Activations rounded, rounded_gated
    cdef dict scratch
    cdef floats normed, queries, keys, values, attended, projected, beside, gated, ups
    cdef floats gates, scores, shared_scores, gathered, expert_output
    cdef batch_rows step
    cdef PagedCache cache
    cdef bint is_quantized, is_mixed  # whether some matrices are integers, and perhaps others are not
    cdef int format  # of the integers that activations are rounded to
    cdef bint keeps_gated  # the floats that a feed-forward network's last matrix takes
    cdef _reserve(self, long rows)
    cdef void _norm(self, team *members, const float *weight, const float *bias) noexcept nogil
    cdef void _norm_rows(self, const float *weight, const float *bias, long start, long stop) noexcept nogil
    cdef void _norm_into(self, const float *x, const float *weight, const float *bias, long rows,
                         float *y) noexcept nogil
    cdef void _norm_sized(self, const float *x, const float *weight, const float *bias, long rows, long size,
                          float *y) noexcept nogil
    cdef void _round_gated(self, const float *x, long width, long start, long stop) noexcept nogil
    cdef void _round_rows(self, const float *x, long width, long start, long stop) noexcept nogil
    cdef void _round_into(self, const quantized *rounded, const float *x, long width, long start,
                          long stop) noexcept nogil
    cdef void _round(self, team *members, const float *x, long rows, long width) noexcept nogil
    cdef void _multiply(self, team *members, const product *products, long count) noexcept nogil
    cdef void _multiply_adapted(self, team *members, const product *products, long count, long layer,
                                long place) noexcept nogil
    cdef void _gate(self, team *members, const gated *part, const float *x, long rows, float *y,
                    long layer) noexcept nogil
    cdef void _gate_strip(self, const gated *part, const float *x, long start, long rows, long strip,
                          long layer) noexcept nogil
    cdef void _gate_rows(self, float *gate, const float *up, long count) noexcept nogil
    cdef void _add(self, team *members, const float *norm, const float *next_norm, const float *next_bias,
                   bint norms_next, float scale) noexcept nogil
