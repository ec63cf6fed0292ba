"""Mirrored. The weight of each expert of a mixture for a token (N9); forward.pyx adds the experts' outputs."""

from verbatim.fastpath.machine.dispatch cimport table
from libc.math cimport fabsf
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

cdef float LOG2E = 1.4426950408889634
cdef float NOTHING = -1000  # an exponent of 2 that gives 0


cdef void expert_weights(float *scores, long num_experts, long num_per_token, bint is_normalized) noexcept nogil:
    """Replace a token's scores by weights: softmax for the best (ties to the lower id), 0 for the others."""
    cdef float *shares = <float *>malloc(num_experts * sizeof(float))
    cdef float peak = scores[0], total
    cdef long i, rank
    for i in range(1, num_experts):
        peak = max(peak, scores[i])
    for i in range(num_experts):
        shares[i] = (scores[i] - peak) * LOG2E
    table().exp2(shares, num_experts, shares)
    total = 0 if is_normalized else table().lane_sum(shares, num_experts)
    for i in range(num_experts):
        rank = _rank(scores, num_experts, i)
        if rank >= num_per_token:
            shares[i] = 0
    if is_normalized:
        total = table().lane_sum(shares, num_experts)
    for i in range(num_experts):
        scores[i] = shares[i] / total
    free(shares)


cdef void sparsemixer_weights(float *scores, long num_experts, long num_per_token, float tolerance) noexcept nogil:
    """Replace a token's scores by weights: each chosen expert's share among those not chosen before it that are near.

    A score is near if it lies at most `tolerance` below the chosen one, relative to the larger of the two.
    """
    cdef float *weights = <float *>calloc(2 * num_experts, sizeof(float))
    cdef float *shares = weights + num_experts
    cdef float peak
    cdef long i, best, _
    for _ in range(num_per_token):
        best = -1
        for i in range(num_experts):
            if weights[i] == 0 and (best < 0 or scores[i] > scores[best]):
                best = i
        peak = scores[best]
        for i in range(num_experts):
            shares[i] = (scores[i] - peak) * LOG2E
            if weights[i] != 0 or (peak - scores[i]) / max(fabsf(scores[i]), peak) > tolerance:
                shares[i] = NOTHING
        table().exp2(shares, num_experts, shares)
        weights[best] = shares[best] / table().lane_sum(shares, num_experts)
    memcpy(scores, weights, num_experts * sizeof(float))
    free(weights)


cdef long _rank(const float *scores, long num_experts, long index) noexcept nogil:
    """The number of experts with a higher score, or with an equal score and a lower id."""
    cdef long i, before = 0
    for i in range(num_experts):
        before += scores[i] > scores[index] or (scores[i] == scores[index] and i < index)
    return before
