# The C kernels for Cython; kernels/kernels.h documents each array.
from libc.stdint cimport int8_t, int32_t, uint64_t

cdef extern from "kernels.h" nogil:
    enum:
        PACK
        STRIP
        LANES
        BLOCK
        GROUP
        KEY_BLOCK
        FLOAT32
        BFLOAT16
        FLOAT16
        W8A8
        W4A8
        W8A8_SCALE
        W8A8_MINIMUM
        Q2_K
        Q3_K
        Q4_K
        Q5_K
        Q6_K
        IQ4_XS
        W16A16
        W8A16
        W4A16
        W8A8_256
        W4A8_256
        SILU
        GELU_TANH
        SIGMOID
        RELU2

    struct matrix:
        const void *weights
        const float *bias
        long inputs, outputs
        int format

    struct quantized:
        int8_t *integers
        float *scales
        int32_t *corrections
        int32_t *sums
        int width
        int8_t *slices

    struct mamba_head:
        long tokens, state_rows, head_dim, row_step, out_step, step_step, kept_step
        const float *values
        const float *inward
        const float *outward
        const float *steps
        const float *kept
        float skip
        float *state
        float *out

    struct heads:
        long num_heads, num_kv_heads, head_dim, value_dim, window, sinks, chunk
        float scale, cap, cap_factor
        int stored
        const void *keys
        const void *values
        const float *sink_scores

    struct work_item:
        const float *queries
        float *out
        const int32_t *pages
        const int32_t *positions
        long kv_head
        long from_ "from"
        long to

    struct convolution:
        const float *weight
        const float *bias
        long length, channels

    struct delta_head:
        const float *queries
        const float *keys
        const float *values
        const float *decays
        const float *rates
        float *out
        float *state
        long row_step, out_step, head_step, tokens, key_dim, value_dim

    struct kernels:
        const char *name
        void (*narrow)(const float *, long, int, void *, long) noexcept nogil
        void (*widen)(const void *, long, int, float *) noexcept nogil
        float (*lane_sum)(const float *, long) noexcept nogil
        void (*linear)(const matrix *, const float *, long, long, long, float *) noexcept nogil
        void (*linear_apart)(const matrix *, const float *, long, long, float *, long) noexcept nogil
        void (*quantize)(const float *, long, long, int, const quantized *) noexcept nogil
        void (*linear_quantized)(const matrix *, const quantized *, long, long, long, float *) noexcept nogil
        void (*rms_norm)(const float *, const float *, float, long, long, float *) noexcept nogil
        void (*layer_norm)(const float *, const float *, const float *, float, long, long, float *) noexcept nogil
        void (*rotate)(float *, long, long, long, const float *, const float *) noexcept nogil
        void (*unit_rows)(float *, long, long, float, float) noexcept nogil
        void (*decay_steps)(float *, const float *, const float *, long) noexcept nogil
        void (*delta_rule)(const delta_head *) noexcept nogil
        void (*exp2)(const float *, long, float *) noexcept nogil
        void (*log2)(const float *, long, float *) noexcept nogil
        void (*activate)(const float *, long, int, float *) noexcept nogil
        void (*softcap)(float *, long, float, float) noexcept nogil
        void (*gate)(float *, const float *, long, int) noexcept nogil
        void (*clamped_gate)(float *, const float *, long, float, float) noexcept nogil
        void (*add)(float *, const float *, long, float) noexcept nogil
        void (*softplus)(const float *, long, float *) noexcept nogil
        void (*gated_norm)(float *, const float *, const float *, float, long, long, long, int) noexcept nogil
        void (*mamba_steps)(float *, const float *, const float *, float, float, long, float *) noexcept nogil
        void (*mamba_scan)(const mamba_head *) noexcept nogil
        void (*scale)(float *, long, float) noexcept nogil
        void (*multiply)(float *, const float *, long) noexcept nogil
        void (*attend)(const heads *, const work_item *, const work_item *) noexcept nogil
        void (*convolve)(const convolution *, const float *, long, long, const float *, long, long, float *,
                         long) noexcept nogil
        void (*keep_tail)(const convolution *, const float *, long, long, const float *, long, long,
                          float *) noexcept nogil
        void (*multiply_rows)(float *, long, const float *, long, long, long, long) noexcept nogil
        float (*peak)(const float *, long, int *) noexcept nogil
        long (*find)(const float *, long, float) noexcept nogil
        void (*weigh)(const float *, long, float, float, uint64_t *) noexcept nogil
        uint64_t (*total)(const uint64_t *, long) noexcept nogil
        long (*draw)(const uint64_t *, long, uint64_t) noexcept nogil
        uint64_t (*probe_read)(const void *, long) noexcept nogil
        double (*probe_integers)(long, float *) noexcept nogil
        double (*probe_floats)(long, float *) noexcept nogil

    quantized rows_of(const quantized *, long, long)
    matrix strip_of(const matrix *, long)
    int bits_of_format(int)
    int parts_of(int)
    int has_minimum(int)
    int offset_of(int)
    int is_blocked(int)
    int takes_pairs(int)
    long group_bytes(int)
    long step_bytes(int)
    long strip_bytes(const matrix *)
    const kernels *const *available_kernels()


cdef const kernels *table() noexcept nogil
cdef size_t address(array) except? 0
