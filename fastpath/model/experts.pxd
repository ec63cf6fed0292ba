# The router's weights.

# How a token's experts are chosen and weighed (N9); `bias` takes part in the choice, where it is there.
cdef struct routing:
    long num_experts, num_per_token, num_groups, groups_per_token
    bint is_normalized, is_sigmoid
    float scale, least_sum  # the second is added to the sum of sigmoids, which may be 0
    const float *bias


cdef void expert_weights(float *scores, const routing *rule) noexcept nogil
cdef void sparsemixer_weights(float *scores, long num_experts, long num_per_token, float tolerance) noexcept nogil
