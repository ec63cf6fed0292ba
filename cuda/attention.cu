// Attention over paged keys and values (N8), a warp for each query head of a token; reference/model/attention.py.
//
// q * scale; blocks of 64 keys by absolute position; m_b = ceil(largest visible score), p = exp2(s - m_b), invisible 0.
// Sums: a score from +0 in order over head_dim, in the lane that has the key; l_b = lane_sum of the 64 weights (N2);
// o_b from +0 in order over the visible keys, in the lane that has the feature; blocks merged in order: the first with
// a visible key is copied, then l = l 2^(m - m') + l_b 2^(m_b - m') and the same for o. At the end o / l.
// Last, where heads have a sink score, that is merged: score * log2 e, (heads,) floats.
// x holds each row's queries first, (rows, stride) floats; a page: keys (kv_heads, head_dim, 16), values (kv_heads, 16,
// head_dim), float32, float16 or bfloat16, widened as they are read (N1); out (rows, heads, head_dim). 4 warps a CUDA
// block: heads that share keys find them in its cache. A head of more than 256 features has a warp for each 256 of them,
// which all compute its scores.
// attend_rows, for prefill: grid (rows, ceil(warps/4)), a warp computes its blocks in order.
// attend_blocks, for decode: grid (rows, ceil(warps/4), key blocks), a warp a block; then merge_blocks in order.
// Both give the same bits.
// Ladder (a device has measured none): 1. one key, one value at a time, four loads in flight. 2. this: an invisible key
// is loaded from the token's own position and adds nothing, so that no branch separates loads: 32 elements of keys and
// 16 of values in flight in each lane. 70 registers on sm_90a. merge_blocks rounds (N4) for a quantised next product.
#include "common.cuh"

enum { WARPS = 4, MAX_HEAD_DIM = 1024, PIECE = 256, FEATURES = PIECE / WARP };

struct heads_shape {
    int heads, kv_heads, head_dim, stride, window, sinks;
    float scale, cap, scaled_cap;
};
#define SHAPE_ARGUMENTS \
    int heads, int kv_heads, int head_dim, int stride, int window, int sinks, float scale, float cap, float scaled_cap
#define SHAPE_VALUES \
    heads_shape { heads, kv_heads, head_dim, stride, window, sinks, scale, cap, scaled_cap }

// The head of a warp, and the first of its features that the warp adds.
struct head_piece { int head, start; };

DEVICE head_piece piece_of_warp(int head_dim) {
    const int pieces = (head_dim + PIECE - 1) / PIECE, at = blockIdx.y * WARPS + threadIdx.x / WARP;
    return {at / pieces, at % pieces * PIECE};
}

struct block_result {
    float peak, weight;  // weight 0: no key of the block is visible
    float total[FEATURES];
};

DEVICE bool attends_to(heads_shape shape, int position, int place) {
    const int distance = position - place;
    return distance >= 0 && (!shape.window || distance < shape.window || place < shape.sinks);
}

// Whether a row attends to a key of the block that begins at `first`.
DEVICE bool attends_to_block(heads_shape shape, int position, int first) {
    if (first > position) return false;
    return !shape.window || first < shape.sinks || first + KEY_BLOCK > position + 1 - shape.window;
}

struct key_block {
    float weights[KEY_BLOCK];
    int rows[KEY_BLOCK];  // which row of head_dim values in all pages
};

template <class T>
DEVICE void attend_block(heads_shape shape, const float *query, key_block *block, const T *keys, const T *values,
                         const int *pages, int position, int kv_head, int first, int start, block_result *result) {
    const int lane = threadIdx.x % WARP;
    const size_t size = (size_t)shape.head_dim * PAGE;
    float score[2];
    bool is_visible[2];
    const T *key[2];
    int rows[2];
    for (int i = 0; i < 2; i++) {
        is_visible[i] = attends_to(shape, position, first + lane + i * WARP);
        const int place = is_visible[i] ? first + lane + i * WARP : position;  // an invisible key may have no page
        const int head = pages[place / PAGE] * shape.kv_heads + kv_head;
        key[i] = keys + head * size + place % PAGE;
        rows[i] = head * PAGE + place % PAGE;
        score[i] = 0.0f;
    }
#pragma unroll 16
    for (int d = 0; d < shape.head_dim; d++)
        for (int i = 0; i < 2; i++) score[i] = add(score[i], mul(query[d], widen(key[i][d * PAGE])));
    if (shape.cap != 0.0f)
        for (int i = 0; i < 2; i++) score[i] = softcap_of(score[i], shape.cap, shape.scaled_cap);
    const float none = -__int_as_float(0x7f800000);
    const float high = is_visible[0] ? score[0] : none, other = is_visible[1] ? score[1] : none;
    result->peak = ceilf(largest_of_warp(other > high ? other : high));
    float p[2];
    for (int i = 0; i < 2; i++) p[i] = is_visible[i] ? exp2_of(sub(score[i], result->peak)) : 0.0f;
    result->weight = fold_lanes(add(p[0], p[1]));
    const uint32_t visible[2] = {__ballot_sync(EVERY_LANE, is_visible[0]), __ballot_sync(EVERY_LANE, is_visible[1])};
    __syncwarp();
    for (int i = 0; i < 2; i++) block->weights[lane + i * WARP] = p[i], block->rows[lane + i * WARP] = rows[i];
    __syncwarp();
#pragma unroll
    for (int f = 0; f < FEATURES; f++) {
        result->total[f] = 0.0f;
        if (start + f * WARP >= shape.head_dim) continue;
        const int d = start + f * WARP + lane < shape.head_dim ? start + f * WARP + lane : 0;
#pragma unroll 16
        for (int j = 0; j < KEY_BLOCK; j++) {  // an invisible value adds +0, which changes no sum from +0
            const bool adds = visible[j / WARP] >> (j % WARP) & 1;
            const float x = widen(values[(size_t)block->rows[j] * shape.head_dim + d]);
            result->total[f] = add(result->total[f], adds ? mul(block->weights[j], x) : 0.0f);
        }
    }
}

DEVICE void merge(block_result *past, const block_result *block) {
    if (past->weight == 0.0f) {
        *past = *block;
        return;
    }
    const float peak = past->peak > block->peak ? past->peak : block->peak;
    const float keep = exp2_of(sub(past->peak, peak)), take = exp2_of(sub(block->peak, peak));
    past->peak = peak;
    past->weight = add(mul(past->weight, keep), mul(block->weight, take));
    for (int f = 0; f < FEATURES; f++) past->total[f] = add(mul(past->total[f], keep), mul(block->total[f], take));
}

// A head's sink score, a power of two, merged as the last block: it has a weight and no value.
DEVICE void merge_sink(block_result *past, float score) {
    const float own = ceilf(score), peak = past->peak > own ? past->peak : own;
    const float keep = exp2_of(sub(past->peak, peak)), take = exp2_of(sub(own, peak));
    past->peak = peak;
    past->weight = add(mul(past->weight, keep), mul(exp2_of(sub(score, own)), take));
    for (int f = 0; f < FEATURES; f++) past->total[f] = mul(past->total[f], keep);
}

// o / l of a piece of head number `at` of all rows; with `q`, where head_dim is a multiple of 32, also rounded to int8 (N4).
DEVICE void write_result(const block_result *result, float *out, int8_t *q, float *scales, int head_dim, size_t at,
                         int start) {
    for (int f = 0; f < FEATURES && start + f * WARP < head_dim; f++) {
        const int d = start + f * WARP + threadIdx.x % WARP;
        const float value = d < head_dim ? divide(result->total[f], result->weight) : 0.0f;
        if (d < head_dim) out[at * head_dim + d] = value;
        if (q) quantize_group(value, q, scales, at * (head_dim / GROUP) + start / WARP + f);
    }
}

// Scale the warp's query into shared memory.
DEVICE void load_query(heads_shape shape, const float *x, int row, int head, float *query) {
    x += (size_t)row * shape.stride + (size_t)head * shape.head_dim;
    for (int d = threadIdx.x % WARP; d < shape.head_dim; d += WARP) query[d] = mul(x[d], shape.scale);
    __syncwarp();
}

template <class T>
DEVICE void attend_in_order(const float *x, const T *keys, const T *values, const int *positions, const int *first_page,
                            const int *pages, float *out, const float *sink_scores, heads_shape shape) {
    __shared__ float queries[WARPS][MAX_HEAD_DIM];
    __shared__ key_block blocks[WARPS];
    const int warp = threadIdx.x / WARP, row = blockIdx.x;
    const auto [head, start] = piece_of_warp(shape.head_dim);
    if (head >= shape.heads) return;
    load_query(shape, x, row, head, queries[warp]);
    block_result all = {}, result;
    for (int first = 0; first <= positions[row]; first += KEY_BLOCK) {
        if (!attends_to_block(shape, positions[row], first)) continue;
        attend_block(shape, queries[warp], &blocks[warp], keys, values, pages + first_page[row], positions[row],
                     head / (shape.heads / shape.kv_heads), first, start, &result);
        merge(&all, &result);
    }
    if (sink_scores) merge_sink(&all, sink_scores[head]);
    write_result(&all, out, nullptr, nullptr, shape.head_dim, (size_t)row * shape.heads + head, start);
}

// parts: (rows, heads, key blocks, 2 + head_dim): peak, weight, total of each.
template <class T>
DEVICE void attend_in_parallel(const float *x, const T *keys, const T *values, const int *positions,
                               const int *first_page, const int *pages, float *parts, const float *,
                               heads_shape shape) {
    __shared__ float queries[WARPS][MAX_HEAD_DIM];
    __shared__ key_block blocks[WARPS];
    const int warp = threadIdx.x / WARP, row = blockIdx.x, lane = threadIdx.x % WARP;
    const auto [head, start] = piece_of_warp(shape.head_dim);
    if (head >= shape.heads) return;
    float *part = parts + (((size_t)row * shape.heads + head) * gridDim.z + blockIdx.z) * (2 + shape.head_dim);
    const int first = blockIdx.z * KEY_BLOCK;
    if (!attends_to_block(shape, positions[row], first)) {
        if (lane == 0 && start == 0) part[1] = 0.0f;
        return;
    }
    load_query(shape, x, row, head, queries[warp]);
    block_result result;
    attend_block(shape, queries[warp], &blocks[warp], keys, values, pages + first_page[row], positions[row],
                 head / (shape.heads / shape.kv_heads), first, start, &result);
    if (lane == 0 && start == 0) part[0] = result.peak, part[1] = result.weight;
    for (int f = 0; f < FEATURES; f++)
        if (start + f * WARP + lane < shape.head_dim) part[2 + start + f * WARP + lane] = result.total[f];
}

#define ATTEND(NAME, METHOD, T)                                                                           \
    KERNEL __launch_bounds__(128, 4)                                                                      \
        NAME(const float *x, const T *keys, const T *values, const int *positions, const int *first_page, \
             const int *pages, float *out, const float *sink_scores, SHAPE_ARGUMENTS) {                   \
        in_turn();                                                                                        \
        METHOD<T>(x, keys, values, positions, first_page, pages, out, sink_scores, SHAPE_VALUES);         \
    }                                                                                                     \
    EXPORT_KERNEL(NAME)
ATTEND(attend_rows_float32, attend_in_order, float)
ATTEND(attend_rows_float16, attend_in_order, half_bits)
ATTEND(attend_rows_bfloat16, attend_in_order, bfloat_bits)
ATTEND(attend_blocks_float32, attend_in_parallel, float)
ATTEND(attend_blocks_float16, attend_in_parallel, half_bits)
ATTEND(attend_blocks_bfloat16, attend_in_parallel, bfloat_bits)

KERNEL __launch_bounds__(128) merge_blocks(const float *parts, float *out, const float *sink_scores, int heads,
                                           int head_dim, int num_blocks, int8_t *q, float *scales) {
    in_turn();
    const int row = blockIdx.x, lane = threadIdx.x % WARP;
    const auto [head, start] = piece_of_warp(head_dim);
    if (head >= heads) return;
    const size_t at = (size_t)row * heads + head;
    block_result all = {}, result = {};
    for (int block = 0; block < num_blocks; block++) {
        const float *part = parts + (at * num_blocks + block) * (2 + head_dim);
        if (part[1] == 0.0f) continue;
        result.peak = part[0], result.weight = part[1];
        for (int f = 0; f < FEATURES; f++)
            if (start + f * WARP + lane < head_dim) result.total[f] = part[2 + start + f * WARP + lane];
        merge(&all, &result);
    }
    if (sink_scores) merge_sink(&all, sink_scores[head]);
    write_result(&all, out, q, scales, head_dim, at, start);
}
EXPORT_KERNEL(merge_blocks)
