// linear with quantised weights (N4): y = block_sum over groups of float(d) * (s_x * s_w); reference,
// `linear_quantized`.
//
// d is the exact integer dot of a group's 32 products, so its order is free: dp4a adds four at a time for few rows, one
// int8 tensor-core instruction all 32 for many. Sum: float(d) * (s_x * s_w), each product rounded, from +0 in order
// over the 8 groups of a block, then the blocks' totals from +0 in order.
// q int8 (rows, groups, 32) and s_x (rows, groups) from quantize.cu. Weights packed by 32 outputs: w8a8 (ceil(N/32),
// groups, 2, 32, 16) bytes, the two halves of a group separate; w4a8 (ceil(N/32), groups, 32, 16) bytes, q[i] + 8 in the
// low and q[i+16] + 8 in the high half of byte i. s_w float16 (ceil(N/32), ceil(groups/8), 32, 8): a lane's scales of a
// block of K are 16 bytes. y float32 (rows, N).
// linear_rows: as with floats (linear.cu, rows.cuh). linear_tile: grid (ceil(N/32), ceil(rows/64)), 4 warps of 16 rows
// by 32 outputs; x and weights pass through shared memory, four groups at a time, prefetched eight groups ahead.
// Ladder, a device has measured none; registers are ptxas 13.0's for sm_90a, nothing spills:
// 1. operands from the caches, two groups unrolled: 56 registers with one row and w4a8, at most 2 KB of a warp's weights
//    in flight; 24 instructions to subtract 8 from each of 32 nibbles; scales 2 bytes at a time.
// 2. this. 75 registers with one row and w4a8, 96 with w8a8. A group of w4a8 takes 12 instructions to unpack, 8 dp4a
//    and about 8 more: at full bandwidth of an H200 about 0.9 of the 4 that a multiprocessor issues a cycle with one
//    row, 4.5 with eight.
// Tiles: 1. each lane loads its own 4 bytes from the caches, weights once a warp. 2. this, 80 registers; rows of x
// padded so that the eight rows of a fragment lie in different banks. Next: wider tiles; the caches send 3 KB for
// 65,536 products.
#include "integers.cuh"

// Four nibbles q + 8 in the low or the high halves of four bytes, as four int8 of 16 q: a nibble in a byte's high half is
// 16 (q + 8), and inverting the top bit subtracts 128. So a dot of them is 16 d, exactly.
DEVICE uint32_t sixteen_times_low(uint32_t both) { return (both << 4 & 0xF0F0F0F0u) ^ 0x80808080u; }
DEVICE uint32_t sixteen_times_high(uint32_t both) { return (both & 0xF0F0F0F0u) ^ 0x80808080u; }
template <int BITS>
DEVICE float dot_of(int sum) {
    return (float)(BITS == 4 ? sum >> 4 : sum);
}

// A stage of a warp: GROUPS groups of its tile and of M rows, with their scales.
template <int BITS, int M>
struct integer_stage {
    enum { GROUPS = STAGE_BYTES / (WARP * GROUP * BITS / 8), QUADS = BITS / 4, A_BLOCK = GROUPS_A_BLOCK / GROUPS };
    quad weights[GROUPS][QUADS][WARP];
    quad x[M][GROUPS][2];
    half_bits w_scales[WARP][GROUPS];
    float x_scales[M][GROUPS];
};

template <int BITS>
DEVICE void unpack(const quad *from, uint32_t words[8]) {
    for (int i = 0; i < 4; i++)
        if (BITS == 8) words[i] = from[0].at[i], words[4 + i] = from[WARP].at[i];
        else words[i] = sixteen_times_low(from->at[i]), words[4 + i] = sixteen_times_high(from->at[i]);
}

template <int BITS, int M>
DEVICE void integer_rows(const int8_t *q, const float *x_scales, const quad *w, const half_bits *w_scales, float *y,
                         int groups, product p) {
    typedef integer_stage<BITS, M> stage;
    begin(p);
    constexpr int STAGES = ring<M>::STAGES;
    DYNAMIC_SHARED(stage, stages);  // (warps, STAGES), then totals (blocks of K, M, 32)
    float *totals = (float *)(stages + blockDim.x / WARP * STAGES);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, num_warps = blockDim.x / WARP;
    const int first = blockIdx.y * M;
    stages += warp * STAGES;
    w += tile_of(p, first) * groups * stage::QUADS * WARP + lane;
    w_scales += (tile_of(p, first) * p.num_blocks * WARP + lane) * GROUPS_A_BLOCK;
    float sum[M];
    const auto block_of = [&](int s) { return warp + s / stage::A_BLOCK * num_warps; };
    const auto inside_of = [&](int s) { return s % stage::A_BLOCK * stage::GROUPS; };
    const auto fetch_weights = [&](int s) {
        stage *to = stages + s % STAGES;
        const int inside = inside_of(s), begin = block_of(s) * GROUPS_A_BLOCK + inside;
        for (int g = 0; g < stage::GROUPS; g++)
            for (int v = 0; v < stage::QUADS; v++)
                copy_async<16>(&to->weights[g][v][lane], w + ((size_t)(begin + g) * stage::QUADS + v) * WARP,
                               begin + g < groups);
        copy_async<stage::GROUPS * 2>(to->w_scales[lane],
                                      w_scales + (size_t)block_of(s) * WARP * GROUPS_A_BLOCK + inside, true);
    };
    const auto fetch_rows = [&](int s) {
        stage *to = stages + s % STAGES;
        const int begin = block_of(s) * GROUPS_A_BLOCK + inside_of(s);
        for (int m = 0; m < M; m++) {
            const size_t at = (size_t)operand_of(p, first + m) * groups + begin;
            const bool is_row = first + m < p.rows;
            if (lane < stage::GROUPS * 2)
                copy_async<16>(to->x[m][0] + lane, (const quad *)(q + at * GROUP) + lane,
                               is_row && begin + lane / 2 < groups);
            if (lane < stage::GROUPS)
                copy_async<4>(to->x_scales[m] + lane, x_scales + at + lane, is_row && begin + lane < groups);
        }
    };
    const auto use = [&](int s) {
        const stage *from = stages + s % STAGES;
        if (s % stage::A_BLOCK == 0)
            for (int m = 0; m < M; m++) sum[m] = 0.0f;
#pragma unroll
        for (int g = 0; g < stage::GROUPS; g++) {  // past the last group: zeros, by zeros
            uint32_t words[8];
            unpack<BITS>(from->weights[g][0] + lane, words);
            const float w_scale = widen(from->w_scales[lane][g]);
#pragma unroll
            for (int m = 0; m < M; m++) {
                const quad low = from->x[m][g][0], high = from->x[m][g][1];
                int dot = 0;
                for (int i = 0; i < 4; i++) {
                    dot = __dp4a((int)words[i], (int)low.at[i], dot);
                    dot = __dp4a((int)words[4 + i], (int)high.at[i], dot);
                }
                sum[m] = add(sum[m], mul(dot_of<BITS>(dot), mul(from->x_scales[m][g], w_scale)));
            }
        }
        if (s % stage::A_BLOCK == stage::A_BLOCK - 1)
            for (int m = 0; m < M; m++) totals[(block_of(s) * M + m) * WARP + lane] = sum[m];
    };
    stream<STAGES>(blocks_of_warp(p) * stage::A_BLOCK, fetch_weights, fetch_rows, use);
    add_blocks<M>(p, totals, y, first);
}

// Four groups of 64 rows and 32 outputs. A row of x has a quad of padding, so that the eight rows that a warp reads at
// once lie in different banks.
template <int BITS>
struct integer_part {
    quad x[CTA_ROWS][PADDED];
    quad weights[TILE_GROUPS][BITS / 4][WARP];
    float x_scales[CTA_ROWS][TILE_GROUPS];
    half_bits w_scales[WARP][TILE_GROUPS];
};

template <int BITS>
DEVICE void integer_tile(const int8_t *q, const float *x_scales, const quad *w, const half_bits *w_scales, float *y,
                         int rows, int N, int groups, int width, epilogue after, const float *gates, int stride) {
    typedef integer_part<BITS> part;
    constexpr int QUADS = BITS / 4;
    __shared__ part parts[SLOTS];
    const int lane = threadIdx.x % WARP, r = lane / 4, t = lane % 4;
    const int num_blocks = (groups + GROUPS_A_BLOCK - 1) / GROUPS_A_BLOCK;
    const int first = blockIdx.y * CTA_ROWS, low = threadIdx.x / WARP * WARP_ROWS + r, high = low + 8;
    w += (size_t)blockIdx.x * groups * QUADS * WARP;
    w_scales += (size_t)blockIdx.x * num_blocks * WARP * GROUPS_A_BLOCK;
    const auto fetch = [&](int begin) {  // zeros past the last row and group
        part *to = parts + begin / TILE_GROUPS % SLOTS;
        copy_rows(to, q, x_scales, first, rows, begin, groups);
        for (int i = threadIdx.x; i < TILE_GROUPS * QUADS * WARP; i += blockDim.x)
            copy_async<16>(to->weights[0][0] + i, w + (size_t)begin * QUADS * WARP + i,
                           begin + i / (QUADS * WARP) < groups);
        if (threadIdx.x < WARP)
            copy_async<TILE_GROUPS * 2>(to->w_scales[lane],
                                        w_scales + (begin / GROUPS_A_BLOCK * WARP + lane) * GROUPS_A_BLOCK +
                                            begin % GROUPS_A_BLOCK,
                                        true);
    };
    float total[EIGHTS][4] = {}, sum[EIGHTS][4] = {};
    const auto use = [&](int begin) {
        const part *from = parts + begin / TILE_GROUPS % SLOTS;
#pragma unroll
        for (int g = 0; g < TILE_GROUPS; g++) {
            const quad *x_low = from->x[low] + g * 2, *x_high = from->x[high] + g * 2;
            const uint32_t a[4] = {x_low[0].at[t], x_high[0].at[t], x_low[1].at[t], x_high[1].at[t]};
            const float scales[2] = {from->x_scales[low][g], from->x_scales[high][g]};
#pragma unroll
            for (int e = 0; e < EIGHTS; e++) {
                const quad *weights = from->weights[g][0] + e * 8 + r;
                uint32_t b[2] = {weights->at[t], 0};
                if (BITS == 8) b[1] = weights[WARP].at[t];
                else b[1] = sixteen_times_high(b[0]), b[0] = sixteen_times_low(b[0]);
                int d[4];
                multiply_fragments(d, a, b);
                for (int i = 0; i < 4; i++) {
                    const float w_scale = widen(from->w_scales[e * 8 + t * 2 + i % 2][g]);
                    sum[e][i] = add(sum[e][i], mul(dot_of<BITS>(d[i]), mul(scales[i / 2], w_scale)));
                }
            }
        }
        if ((begin + TILE_GROUPS) % GROUPS_A_BLOCK && begin + TILE_GROUPS < groups) return;
        for (int e = 0; e < EIGHTS; e++)
            for (int i = 0; i < 4; i++) total[e][i] = add(total[e][i], sum[e][i]), sum[e][i] = 0.0f;
    };
    stream_tile<TILE_GROUPS>(groups, fetch, use);
    for (int e = 0; e < EIGHTS; e++)
        for (int i = 0; i < 4; i++) {
            const int row = first + low + i / 2 * 8, n = blockIdx.x * WARP + e * 8 + t * 2 + i % 2;
            if (row >= rows || n >= N || !is_wanted(gates, stride, row)) continue;
            const size_t at = (size_t)row * width + n;
            y[at] = finish(after, total[e][i], n, at);
        }
}

#define OPERANDS                                                                                                 \
    const int8_t *q, const float *x_scales, const quad *w, const half_bits *w_scales, float *y, int rows, int N, \
        int groups, int width, const float *bias, const float *residual, float scale
#define INTEGERS_ROWS(NAME, BITS, M)                                                                 \
    KERNEL __launch_bounds__(128, 2) NAME(OPERANDS, const int *chosen, int share) {                  \
        const int num_blocks = (groups + GROUPS_A_BLOCK - 1) / GROUPS_A_BLOCK;                       \
        integer_rows<BITS, M>(q, x_scales, w, w_scales, y, groups,                                   \
                              {rows, N, num_blocks, width, {bias, residual, scale}, chosen, share}); \
    }                                                                                                \
    EXPORT_KERNEL(NAME)
#define INTEGERS(FORMAT, BITS)                                                                                  \
    INTEGERS_ROWS(linear_rows1_##FORMAT, BITS, 1)                                                               \
    INTEGERS_ROWS(linear_rows2_##FORMAT, BITS, 2)                                                               \
    INTEGERS_ROWS(linear_rows4_##FORMAT, BITS, 4)                                                               \
    INTEGERS_ROWS(linear_rows8_##FORMAT, BITS, 8)                                                               \
    KERNEL __launch_bounds__(128) linear_tile_##FORMAT(OPERANDS, const float *gates, int stride) {              \
        in_turn();                                                                                              \
        integer_tile<BITS>(q, x_scales, w, w_scales, y, rows, N, groups, width, {bias, residual, scale}, gates, \
                           stride);                                                                             \
    }                                                                                                           \
    EXPORT_KERNEL(linear_tile_##FORMAT)
INTEGERS(w8a8, 8)
INTEGERS(w4a8, 4)
