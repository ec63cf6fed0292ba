/* The kernels of one instruction set: a table of functions over raw pointers; all tables give the same bits.
 *
 * Matrices are packed in strips of 64 outputs, so that outputs lie in vector lanes (docs/numerics.md, N3 and N4) and a
 * strip is read from memory in one stream:
 *   floats    [outputs / 64][inputs][64]                as stored: float32, or the 16 bits of float16
 *   BFLOAT16  [outputs / 64][inputs / 2][64][2]         its 16 bits, of two inputs side by side
 *   W8A8      [outputs / 64][groups] times [8][64][4]   the integer plus 128, an unsigned byte
 *                                     then [64]         the scale, the 16 bits of a float16
 *   W4A8      [outputs / 64][groups] times [4][64][4]   the integer plus 8, two to a byte: k in the low half, k + 16
 *                                                       of the same group in the high half
 *                                     then [64]         the scale
 *   W8A8_SCALE and W8A8_MINIMUM (N4g): W8A8 with float32 scales, the second with a float32 minimum behind the scale
 *   Q2_K and the next ones (N4g)  [outputs / 64][blocks of 256] times
 *       [8] times [words][64][4]  unsigned integers of a group: the four low bits as in W4A8, or whole bytes; then, of 6
 *                                 bits, [2][64][4]: from bit 0 up the two high bits of k, k + 16, k + 4 and k + 20
 *                 [parts][64]     the factors of a group, or of each half of it; then the minimum factors, if it has them
 *       [64]                      the scale, a float16; then the minimum
 *   W16A16 and the next ones (N4b)  [outputs / 64] times [groups] times
 *       W16A16             [16][64][2]  integers of 16 bits, of each four inputs 0, 2, 1, 3
 *       W8A16, W8A8_256    [8][64][4]   integers, of the latter plus 128
 *       W4A16, W4A8_256    [4][64][4]   as in W4A8, then [64] multipliers
 *     then [blocks][64]                 the scales of the strip, float32
 * with zeros for outputs and inputs past the last one. The cache is packed 16 positions at a time (N8):
 *   keys   [pages][kv_heads][head_dim][16]      values   [pages][kv_heads][16][value_dim rounded up to 16]
 * as float32, float16 or bfloat16, here not in pairs. Of latent attention (N8a) there are keys alone.
 */
#ifndef VERBATIM_KERNELS_H
#define VERBATIM_KERNELS_H

#include <stddef.h>
#include <stdint.h>

enum { PACK = 16, STRIP = 64, LANES = 32, BLOCK = 256, GROUP = 32, KEY_BLOCK = 64 };
/* Of a matrix; the first three are dtypes as well. */
enum format {
    FLOAT32,
    BFLOAT16,
    FLOAT16,
    W8A8,
    W4A8,
    W8A8_SCALE,
    W8A8_MINIMUM,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ4_XS,
    W16A16,
    W8A16,
    W4A16,
    W8A8_256,
    W4A8_256
};

struct matrix {
    const void *weights;
    const float *bias; /* (outputs,) or NULL */
    long inputs, outputs;
    int format;
};

/* Rows of int8 with a float32 scale a group; `corrections` is -128 times the sum of a group's integers (N4), `sums` the
 * sum of each half. For blocks (N4b) the scale is that of the block, at the place of its first group; integers of 16 bits
 * have corrections of -8 times the sum, and `width` is 2;
 * the level with tiles has them as bytes as well: in `slices` (rows, 2, groups, 32) the high, then the low ones. */
struct quantized {
    int8_t *integers;     /* (rows, groups, 32) of `width` bytes */
    float *scales;        /* (rows, groups) */
    int32_t *corrections; /* (rows, groups) */
    int32_t *sums;        /* (rows, groups, 2) */
    int width;
    int8_t *slices;
};

/* Of a format from Q2_K on: the bits of an integer, the parts of a group that have a factor each, whether they have a
 * minimum factor, and what is added to an integer to make it unsigned. */
static inline int bits_of_format(int format) { return format == IQ4_XS ? 8 : format >= Q5_K ? 6 : 4; }
static inline int parts_of(int format) { return format == Q2_K || format == Q3_K || format == Q6_K ? 2 : 1; }
static inline int has_minimum(int format) { return format == Q2_K || format == Q4_K || format == Q5_K; }
static inline int offset_of(int format) {
    return format == Q3_K ? 4 : format == Q6_K ? 32 : format == IQ4_XS ? 128 : 0;
}

static inline int is_blocked(int format) { return format >= W16A16; }
static inline int takes_pairs(int format) { return format >= W16A16 && format <= W4A16; } /* 16 bits of activations */

/* Bytes of a group of a strip, without the block's scales. */
static inline long group_bytes(int format) {
    if (format == W16A16) return STRIP * GROUP * 2;
    if (is_blocked(format)) return STRIP * (format == W8A16 || format == W8A8_256 ? GROUP : GROUP / 2 + 1);
    return STRIP * (GROUP / 8 * bits_of_format(format) + parts_of(format) * (1 + has_minimum(format)));
}

/* Bytes of one input of a strip, or, of a quantised matrix, of one group with its (share of the block's) scales. */
static inline long step_bytes(int format) {
    static const int each[] = {[FLOAT32] = 4,
                               [BFLOAT16] = 2,
                               [FLOAT16] = 2,
                               [W8A8] = GROUP + 2,
                               [W4A8] = GROUP / 2 + 2,
                               [W8A8_SCALE] = GROUP + 4,
                               [W8A8_MINIMUM] = GROUP + 8};
    if (is_blocked(format)) return group_bytes(format);
    if (format >= Q2_K) return group_bytes(format) + STRIP / 4 * (1 + has_minimum(format));
    return STRIP * each[format];
}

/* Bytes of a strip. */
static inline long strip_bytes(const struct matrix *w) {
    long groups = (w->inputs + GROUP - 1) / GROUP, pairs = (w->inputs + 1) / 2;
    long scales = is_blocked(w->format) ? (w->inputs + BLOCK - 1) / BLOCK * STRIP * 4 : 0;
    return (w->format >= W8A8       ? groups
            : w->format == BFLOAT16 ? pairs * 2
                                    : w->inputs) *
               step_bytes(w->format) +
           scales;
}

/* One strip of a matrix as a matrix: up to 64 outputs. */
static inline struct matrix strip_of(const struct matrix *w, long strip) {
    long first = strip * STRIP, left = w->outputs - first;
    struct matrix part = *w;
    part.weights = (const char *)w->weights + strip * strip_bytes(w);
    if (w->bias) part.bias += first;
    part.outputs = left < STRIP ? left : STRIP;
    return part;
}

/* One head of a selective state space (N15) and the tokens of a chunk, in order. `values`, `inward` and `outward` have
 * rows `row_step` apart, `out` rows `out_step`, `steps` and `kept` numbers `step_step` and `kept_step` apart. */
struct mamba_head {
    long tokens, state_rows, head_dim, row_step, out_step, step_step, kept_step;
    const float *values, *inward, *outward, *steps, *kept;
    float skip;
    float *state; /* (state_rows, head_dim), in place */
    float *out;   /* (tokens, head_dim) */
};

/* A layer's attention parameters. `scale` multiplies the queries, `cap` (0: none) is the softcap of scores; a token
 * attends to the last `window` keys (0: all) and to the first `sinks`, or to those of its own `chunk` of positions (0:
 * none). `sink_scores` (num_heads,), or NULL, are scores without a value. `stored` is the dtype of keys and values:
 * FLOAT32, BFLOAT16 or FLOAT16. Where `values` is NULL, the last `value_dim` features of a key are its value. */
struct heads {
    long num_heads, num_kv_heads, head_dim, value_dim, window, sinks, chunk;
    float scale, cap, cap_factor; /* the last is cap * log2(e) */
    int stored;
    const void *keys, *values;
    const float *sink_scores;
};

/* Attention rows `from` to `to` - 1 of one sequence and key-value head: a row for each token and each query head that
 * shares the key-value head. Queries are (tokens, heads, head_dim), out (tokens, heads, value_dim). */
struct work_item {
    const float *queries;
    float *out;
    const int32_t *pages, *positions;
    long kv_head, from, to;
};

/* A convolution of each of `channels` features over the last `length` tokens (N14a): weight (length, channels), bias
 * (channels,) or NULL. */
struct convolution {
    const float *weight, *bias;
    long length, channels;
};

/* One head of a gated delta net over consecutive tokens of a sequence (N16). Queries, keys (key_dim,) and values
 * (value_dim,) of the first token; those of the next one are `row_step` numbers further, its output `out_step`, its decay
 * and rate `head_step`. `state` is (key_dim, value_dim). */
struct delta_head {
    const float *queries, *keys, *values, *decays, *rates;
    float *out, *state;
    long row_step, out_step, head_step, tokens, key_dim, value_dim;
};

/* The rows of x from `row` on. */
static inline struct quantized rows_of(const struct quantized *x, long row, long groups) {
    long at = row * groups;
    return (struct quantized){x->integers + at * GROUP * x->width,
                              x->scales + at,
                              x->corrections + at,
                              x->sums + at * 2,
                              x->width,
                              x->width == 2 ? x->slices + at * GROUP * 2 : NULL};
}

enum activation { SILU, GELU_TANH, SIGMOID, RELU2 };

struct kernels {
    const char *name;
    /* N1; round n elements to a dtype and store them `step` elements apart */
    void (*narrow)(const float *x, long n, int dtype, void *stored, long step);
    /* N1 */ void (*widen)(const void *stored, long n, int dtype, float *y);
    /* N2 */ float (*lane_sum)(const float *x, long n);
    /* N3; strips `from` to `to` - 1 of the matrix; other columns of y are not written */
    void (*linear)(const struct matrix *w, const float *x, long rows, long from, long to, float *y);
    /* N3; the whole matrix for some rows that are `x_step` and `y_step` apart, as those of one head among others are */
    void (*linear_apart)(const struct matrix *w, const float *x, long x_step, long rows, float *y, long y_step);
    /* N4, N4b; `format` is that of the weights */
    void (*quantize)(const float *x, long rows, long n, int format, const struct quantized *out);
    /* N4, N4b; the same strips */
    void (*linear_quantized)(const struct matrix *w, const struct quantized *x, long rows, long from, long to,
                             float *y);
    /* N5 */ void (*rms_norm)(const float *x, const float *weight, float epsilon, long rows, long n, float *y);
    /* N5; without a bias it is NULL */
    void (*layer_norm)(const float *x, const float *weight, const float *bias, float epsilon, long rows, long n,
                       float *y);
    /* N6 */ void (*rotate)(float *x, long heads, long head_dim, long half, const float *cosines, const float *sines);
    /* N16; x * (1 / sqrt(lane_sum(x * x) + epsilon)) * factor, in place */
    void (*unit_rows)(float *x, long rows, long n, float epsilon, float factor);
    /* N16; steps = 2^-(decays * softplus(steps + bias)) */
    void (*decay_steps)(float *steps, const float *bias, const float *decays, long n);
    /* N16 */ void (*delta_rule)(const struct delta_head *head);
    /* N7 */ void (*exp2)(const float *x, long n, float *y);
    /* N7 */ void (*log2)(const float *x, long n, float *y);
    /* N7 */ void (*activate)(const float *x, long n, int activation, float *y);
    /* N7; x = factor * tanh(x / cap) */ void (*softcap)(float *x, long n, float cap, float factor);
    /* gate = activation(gate) * up */ void (*gate)(float *gate, const float *up, long n, int activation);
    /* N9a; gate = (up + 1) * (gate * sigmoid(gate * alpha)), both clamped */
    void (*clamped_gate)(float *gate, const float *up, long n, float alpha, float limit);
    /* x = x + y * factor */ void (*add)(float *x, const float *y, long n, float factor);
    /* N7 */ void (*softplus)(const float *x, long n, float *y);
    /* N5; x (rows, groups, size) in place; `weight` (groups, size), or NULL for the gate alone */
    void (*gated_norm)(float *x, const float *gate, const float *weight, float epsilon, long rows, long groups,
                       long size, int norms_first);
    /* N15; steps = softplus(steps + bias) within bounds, kept = 2^-(decays * steps); n heads of a token */
    void (*mamba_steps)(float *steps, const float *bias, const float *decays, float least, float greatest, long n,
                        float *kept);
    /* N15 */ void (*mamba_scan)(const struct mamba_head *head);
    /* x = x * factor */ void (*scale)(float *x, long n, float factor);
    /* x = x * y */ void (*multiply)(float *x, const float *y, long n);
    /* N8; prefetches the keys and values of `next`, the caller's probable next item, or NULL */
    void (*attend)(const struct heads *shape, const struct work_item *item, const struct work_item *next);
    /* N14a; of channels `from` to `to` - 1, see states.h */
    void (*convolve)(const struct convolution *c, const float *x, long x_step, long tokens, const float *tail,
                     long from, long to, float *y, long y_step);
    void (*keep_tail)(const struct convolution *c, const float *x, long x_step, long count, const float *tail,
                      long from, long to, float *out);
    void (*multiply_rows)(float *x, long x_step, const float *y, long y_step, long rows, long from, long to);
    /* N10; the largest logit, and whether all are finite: NaN makes it meaningless, minus infinity does not */
    float (*peak)(const float *logits, long n, int *is_finite);
    /* N10; the lowest id with that logit, n if there is none */ long (*find)(const float *logits, long n, float value);
    /* N10 */ void (*weigh)(const float *logits, long n, float peak, float factor, uint64_t *weights);
    /* N10 */ uint64_t (*total)(const uint64_t *weights, long n);
    /* N10; n if all weights are 0 */ long (*draw)(const uint64_t *weights, long n, uint64_t bits);
    /* for benchmarks: see probe.h */
    uint64_t (*probe_read)(const void *memory, long bytes);
    double (*probe_integers)(long rounds, float *memory);
    double (*probe_floats)(long rounds, float *memory);
};

extern long first_cache_bytes; /* size of the L1 data cache, 0 if unknown; `available_kernels` sets it */

extern const struct kernels plain_kernels, avx2_kernels, avx512_kernels;
const struct kernels *amx_kernels(void); /* NULL where there are no tiles, or the system does not permit them */
const struct kernels *avxvnni_kernels(void);

/* The compiled tables that this processor can run, best first; ends with NULL. */
const struct kernels *const *available_kernels(void);

#endif
