# The router's weights, as the model calls for them.
cdef void expert_weights(float *scores, long num_experts, long num_per_token, bint is_normalized) noexcept nogil
