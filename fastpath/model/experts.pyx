"""Mirrored. The weight of each expert of a mixture for a token (N9); forward.pyx adds the experts' outputs."""

from verbatim.fastpath.machine.dispatch cimport SIGMOID, table
from libc.math cimport INFINITY, fabsf
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

cdef float LOG2E = 1.4426950408889634
cdef float NOTHING = -1000  # an exponent of 2 that gives 0


cdef void expert_weights(float *scores, const routing *rule) noexcept nogil:
    """Replace a token's scores by weights: softmax or sigmoids of the best (ties to the lower id), 0 for others."""
    cdef long num_experts = rule.num_experts, i
    cdef float *shares = <float *>malloc(2 * num_experts * sizeof(float))
    cdef float *choice = shares + num_experts
    cdef bint *is_out = <bint *>calloc(num_experts, sizeof(bint))  # those of other groups; then, all but the chosen
    cdef float total
    if rule.is_sigmoid:
        table().activate(scores, num_experts, SIGMOID, shares)
    else:
        _softmax_shares(scores, num_experts, shares)
    memcpy(choice, scores, num_experts * sizeof(float))
    if rule.bias != NULL:
        total = 1 if rule.is_sigmoid else table().lane_sum(shares, num_experts)
        for i in range(num_experts):
            choice[i] = shares[i] / total + rule.bias[i]
    total = 0 if rule.is_normalized or rule.is_sigmoid else table().lane_sum(shares, num_experts)
    if rule.num_groups > 1:
        _leave_groups(choice, rule, is_out)
    _keep_best(choice, num_experts, rule.num_per_token, is_out)
    for i in range(num_experts):
        if is_out[i]:
            shares[i] = 0
    if rule.is_normalized:
        total = table().lane_sum(shares, num_experts)
    if rule.bias != NULL or rule.is_sigmoid:
        total += rule.least_sum
    for i in range(num_experts):
        scores[i] = shares[i] / total if rule.is_normalized or not rule.is_sigmoid else shares[i]
        if rule.scale != 1:
            scores[i] *= rule.scale
    free(shares)
    free(is_out)


cdef void _softmax_shares(const float *scores, long num_experts, float *shares) noexcept nogil:
    """2^((score - largest) * log2(e))."""
    cdef float peak = scores[0]
    cdef long i
    for i in range(1, num_experts):
        peak = max(peak, scores[i])
    for i in range(num_experts):
        shares[i] = (scores[i] - peak) * LOG2E
    table().exp2(shares, num_experts, shares)


cdef void _leave_groups(const float *choice, const routing *rule, bint *is_out) noexcept nogil:
    """Mark the experts of all but the best groups: by their largest score, or the sum of two for sigmoids."""
    cdef long size = rule.num_experts // rule.num_groups, group, i
    cdef float *best = <float *>malloc(rule.num_groups * sizeof(float))
    cdef bint *is_left = <bint *>calloc(rule.num_groups, sizeof(bint))
    cdef float first, second
    for group in range(rule.num_groups):
        first, second = choice[group * size], -INFINITY
        for i in range(group * size + 1, (group + 1) * size):
            second = max(second, min(first, choice[i]))
            first = max(first, choice[i])
        best[group] = first + second if rule.is_sigmoid and size > 1 else first
    _keep_best(best, rule.num_groups, rule.groups_per_token, is_left)
    for i in range(rule.num_experts):
        is_out[i] = is_left[i // size]
    free(best)
    free(is_left)


cdef void _keep_best(const float *scores, long count, long num_kept, bint *is_out) noexcept nogil:
    """Mark all but the largest scores of those not marked yet; ties to the lower index."""
    cdef bint *is_kept = <bint *>calloc(count, sizeof(bint))
    cdef long best, i, _
    for _ in range(num_kept):
        best = -1
        for i in range(count):
            if not is_out[i] and not is_kept[i] and (best < 0 or scores[i] > scores[best]):
                best = i
        is_kept[best] = True
    for i in range(count):
        is_out[i] = not is_kept[i]
    free(is_kept)


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
