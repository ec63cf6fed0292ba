# Pointers to a checkpoint's tensors. A norm or rotary table that a family lacks is NULL.
from verbatim.fastpath.machine.dispatch cimport matrix


cdef struct gated:  # the feed-forward network, or one expert; without a gate its weights are NULL
    matrix gate, up, down

cdef struct latent_weights:  # of latent attention; `query_down` may lack weights
    matrix query_down
    const float *query_norm
    const float *latent_norm
    matrix *key_up  # of each head; NULL in other layers
    matrix *value_up

cdef struct branch_weights:  # of experts beside a dense network; NULL in other layers
    const float *router_norm
    const float *norm
    const float *out_norm
    const float *dense_out_norm
    const float *factors

cdef struct input_weights:  # what adds a layer's own inputs; `norm` is NULL where there are none
    matrix gate, projection
    const float *norm

cdef struct stream_weights:  # of several streams; `scale` may be NULL
    const float *router_norm
    matrix router, predictions, corrections
    const float *scale
    matrix left, right
    const float *norm

# A layer that attends to another one's keys lacks `key`, and `value`; so may one whose values are its keys. `span_set`
# is the list of attention work items for its number of key-value heads.
cdef struct layer_weights:
    const float *attention_norm
    const float *attention_norm_bias
    const float *attention_out_norm
    const float *query_norm
    const float *key_norm
    const float *value_norm
    const float *sink_scores
    const float *score_bias
    const float *mlp_norm
    const float *mlp_norm_bias
    const float *mlp_out_norm
    const float *cosines
    const float *sines
    long half, window, sinks, chunk, num_experts
    long pages_at, state_at  # places in the cache of keys and values, and of the state
    long num_kv_heads, head_dim, value_dim, query_width, key_width, span_set
    float query_scale, scale, cutoff
    bint makes_keys, has_scale, has_cutoff
    matrix query, key, value, output, mixer_output, router, shared_gate, attention_gate
    gated *parts  # one feed-forward network, or num_experts experts, then the shared one
    bint has_shared, has_attention, has_mixer, has_network
    float output_scale, mixer_scale
    const float *first_norm  # of the half that comes first
    const float *first_norm_bias
    latent_weights latent
    branch_weights branch
    input_weights inputs
    stream_weights streams


cdef class Layers:
    cdef layer_weights *layers
    cdef long num_layers
    cdef float norm_offset
    cdef const float *norm
    cdef const float *norm_bias
    cdef matrix head
    cdef list owners
    cdef object model_lib, memory

    cdef _load(self, layer_weights *into, layer, rope_table, quantization)
    cdef _load_heads(self, layer_weights *into, config, long index)
    cdef _load_attention(self, layer_weights *into, layer, quantization)
    cdef _load_residuals(self, layer_weights *into, layer, quantization)
    cdef _load_latent(self, latent_weights *into, latent, quantization)
    cdef const float *_vector(self, tensor, offset=*) except? NULL
    cdef matrix _matrix(self, source, quantization) except *
