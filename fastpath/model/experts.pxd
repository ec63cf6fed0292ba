# The router's weights.
cdef void expert_weights(float *scores, long num_experts, long num_per_token, bint is_normalized) noexcept nogil
cdef void sparsemixer_weights(float *scores, long num_experts, long num_per_token, float tolerance) noexcept nogil
