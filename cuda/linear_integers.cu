// linear with quantised weights (N4): y = block_sum over groups of float(d) * (s_x * s_w); reference, `linear_quantized`.
//
// d is the exact integer dot of a group's 32 products, so its order is free: four at a time by dp4a for few rows, all 32
// by one int8 tensor-core instruction for many. Sum: float(d) * (s_x * s_w), each product rounded, from +0 in order over
// the 8 groups of a block, then the blocks' totals from +0 in order.
// q int8 (rows, groups, 32) and s_x (rows, groups) from quantize.cu. Weights packed by 32 outputs: w8a8
// (ceil(N/32), groups, 2, 32, 16) bytes, the two halves of a group apart; w4a8 (ceil(N/32), groups, 32, 16) bytes, q[i] + 8
// in the low and q[i+16] + 8 in the high half of byte i. s_w float16 (ceil(N/32), groups, 32). y float32 (rows, N).
// integers_rows: as linear_rows. integers_tile: grid (ceil(N/32), ceil(rows/64)), 4 warps of 16 rows by 32 outputs.
// Ladder: 1. these two, operands straight from the caches. No version has been measured on a device yet.
#include "common.cuh"

struct alignas(16) quad { uint32_t at[4]; };

// Four nibbles 0..15 in the low halves of four bytes, less 8 each, as four int8; no borrow leaves a byte.
DEVICE uint32_t less_eight(uint32_t nibbles) { return ((nibbles | 0x80808080u) - 0x08080808u) ^ 0x80808080u; }

template <int BITS>
DEVICE void load_group(const uint8_t *w, size_t group, int lane, uint32_t words[8]) {
    if (BITS == 8) {
        const quad *from = (const quad *)w + group * 2 * WARP + lane;
        const quad low = from[0], high = from[WARP];
        for (int i = 0; i < 4; i++) words[i] = low.at[i], words[4 + i] = high.at[i];
    } else {
        const quad both = ((const quad *)w)[group * WARP + lane];
        for (int i = 0; i < 4; i++) {
            words[i] = less_eight(both.at[i] & 0x0F0F0F0Fu);
            words[4 + i] = less_eight(both.at[i] >> 4 & 0x0F0F0F0Fu);
        }
    }
}

enum { GROUPS_A_BLOCK = BLOCK / GROUP };

template <int BITS, int M>
DEVICE void integer_rows(const int8_t *q, const float *x_scales, const uint8_t *w, const half_bits *w_scales, float *y,
                         int rows, int N, int groups, epilogue after, const float *gates, int stride) {
    DYNAMIC_SHARED(float, totals);  // (blocks of K, M, 32)
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, num_warps = blockDim.x / WARP;
    const int first = blockIdx.y * M, num_blocks = (groups + GROUPS_A_BLOCK - 1) / GROUPS_A_BLOCK;
    bool has_any = false;
    for (int m = 0; m < M; m++) has_any |= first + m < rows && is_wanted(gates, stride, first + m);
    if (!has_any) return;
    for (int block = warp; block < num_blocks; block += num_warps) {
        float sum[M];
        for (int m = 0; m < M; m++) sum[m] = 0.0f;
        const int end = (block + 1) * GROUPS_A_BLOCK < groups ? (block + 1) * GROUPS_A_BLOCK : groups;
#pragma unroll 2
        for (int g = block * GROUPS_A_BLOCK; g < end; g++) {
            const size_t group = (size_t)blockIdx.x * groups + g;
            uint32_t words[8];
            load_group<BITS>(w, group, lane, words);
            const float w_scale = widen(w_scales[group * WARP + lane]);
#pragma unroll
            for (int m = 0; m < M; m++) {
                const size_t at = (size_t)(first + m < rows ? first + m : first) * groups + g;
                const quad *x = (const quad *)(q + at * GROUP);
                const quad low = x[0], high = x[1];
                int dot = 0;
                for (int i = 0; i < 4; i++) {
                    dot = __dp4a((int)words[i], (int)low.at[i], dot);
                    dot = __dp4a((int)words[4 + i], (int)high.at[i], dot);
                }
                sum[m] = add(sum[m], mul((float)dot, mul(x_scales[at], w_scale)));
            }
        }
        for (int m = 0; m < M; m++) totals[(block * M + m) * WARP + lane] = sum[m];
    }
    __syncthreads();
    const int n = blockIdx.x * WARP + lane;
    for (int m = warp; m < M && first + m < rows; m += num_warps) {
        if (n >= N || !is_wanted(gates, stride, first + m)) continue;
        float total = 0.0f;
        for (int block = 0; block < num_blocks; block++) total = add(total, totals[(block * M + m) * WARP + lane]);
        const size_t at = (size_t)(first + m) * N + n;
        y[at] = finish(after, total, n, at);
    }
}

// d (16, 8) = a (16, 32) b (8, 32)ᵀ on the int8 tensor core, in its layout of fragments: lane 4 r + t holds of `a` the
// bytes 4 t .. 4 t + 3 of rows r and r + 8, then the same 16 bytes on; of `b` those of row r; of `d` columns 2 t and 2 t + 1
// of rows r and r + 8. On the CPU the same by shuffles.
DEVICE void multiply_fragments(int d[4], const uint32_t a[4], const uint32_t b[2]) {
#ifdef CUDA_EMU
    const int lane = threadIdx.x % WARP, r = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) d[i] = 0;
    for (int part = 0; part < 2; part++)
        for (int word = 0; word < 4; word++)
            for (int i = 0; i < 4; i++) {
                const uint32_t left = __shfl_sync(EVERY_LANE, a[part * 2 + i / 2], r * 4 + word);
                const uint32_t right = __shfl_sync(EVERY_LANE, b[part], (t * 2 + i % 2) * 4 + word);
                d[i] = __dp4a((int)left, (int)right, d[i]);
            }
#else
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"
        : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(0));
#endif
}

enum { WARP_ROWS = 16, EIGHTS = 4 };

template <int BITS>
DEVICE void integer_tile(const int8_t *q, const float *x_scales, const uint8_t *w, const half_bits *w_scales, float *y,
                         int rows, int N, int groups, epilogue after, const float *gates, int stride) {
    const int lane = threadIdx.x % WARP, r = lane / 4, t = lane % 4;
    const int first = (blockIdx.y * (blockDim.x / WARP) + threadIdx.x / WARP) * WARP_ROWS;
    if (first >= rows) return;
    const int low = first + r < rows ? first + r : rows - 1, high = first + r + 8 < rows ? first + r + 8 : rows - 1;
    float total[EIGHTS][4] = {}, sum[EIGHTS][4] = {};
    for (int g = 0; g < groups; g++) {
        const size_t at_low = (size_t)low * groups + g, at_high = (size_t)high * groups + g;
        const uint32_t *x_low = (const uint32_t *)(q + at_low * GROUP), *x_high = (const uint32_t *)(q + at_high * GROUP);
        const uint32_t a[4] = {x_low[t], x_high[t], x_low[4 + t], x_high[4 + t]};
        const size_t group = (size_t)blockIdx.x * groups + g;
#pragma unroll
        for (int e = 0; e < EIGHTS; e++) {
            uint32_t b[2];
            if (BITS == 8) {
                const uint32_t *from = (const uint32_t *)(w + group * 2 * WARP * 16) + (e * 8 + r) * 4 + t;
                b[0] = from[0], b[1] = from[WARP * 4];
            } else {
                const uint32_t both = ((const uint32_t *)(w + group * WARP * 16))[(e * 8 + r) * 4 + t];
                b[0] = less_eight(both & 0x0F0F0F0Fu), b[1] = less_eight(both >> 4 & 0x0F0F0F0Fu);
            }
            int d[4];
            multiply_fragments(d, a, b);
            for (int i = 0; i < 4; i++) {
                const float x_scale = x_scales[i < 2 ? at_low : at_high];
                const float w_scale = widen(w_scales[group * WARP + e * 8 + t * 2 + i % 2]);
                sum[e][i] = add(sum[e][i], mul((float)d[i], mul(x_scale, w_scale)));
            }
        }
        if ((g + 1) % GROUPS_A_BLOCK && g + 1 < groups) continue;
        for (int e = 0; e < EIGHTS; e++)
            for (int i = 0; i < 4; i++) total[e][i] = add(total[e][i], sum[e][i]), sum[e][i] = 0.0f;
    }
    for (int e = 0; e < EIGHTS; e++)
        for (int i = 0; i < 4; i++) {
            const int row = first + r + i / 2 * 8, n = blockIdx.x * WARP + e * 8 + t * 2 + i % 2;
            if (row >= rows || n >= N || !is_wanted(gates, stride, row)) continue;
            const size_t at = (size_t)row * N + n;
            y[at] = finish(after, total[e][i], n, at);
        }
}

#define INTEGER_ARGUMENTS                                                                                          \
    const int8_t *q, const float *x_scales, const uint8_t *w, const half_bits *w_scales, float *y, int rows,       \
        int N, int groups, const float *bias, const float *residual, float scale, const float *gates, int stride
#define INTEGER_VALUES q, x_scales, w, w_scales, y, rows, N, groups, epilogue{bias, residual, scale}, gates, stride
#define INTEGERS_ROWS(NAME, BITS, M)                                                  \
    KERNEL NAME(INTEGER_ARGUMENTS) { integer_rows<BITS, M>(INTEGER_VALUES); }         \
    EXPORT_KERNEL(NAME)
#define INTEGERS(KIND, BITS)                                                                                  \
    INTEGERS_ROWS(linear_rows1_##KIND, BITS, 1)                                                               \
    INTEGERS_ROWS(linear_rows2_##KIND, BITS, 2)                                                               \
    INTEGERS_ROWS(linear_rows4_##KIND, BITS, 4)                                                               \
    INTEGERS_ROWS(linear_rows8_##KIND, BITS, 8)                                                               \
    KERNEL __launch_bounds__(128) linear_tile_##KIND(INTEGER_ARGUMENTS) { integer_tile<BITS>(INTEGER_VALUES); } \
    EXPORT_KERNEL(linear_tile_##KIND)
INTEGERS(w8a8, 8)
INTEGERS(w4a8, 4)
