// linear with float weights (N3): y[m,n] = sum over k of x[m,k] * w[n,k]; reference/numerics/arithmetic.py, `linear`.
//
// Sum: from +0 in order of k inside a block of 256, then the totals of the blocks from +0 in order. Blocks are
// independent, so each warp computes one of them; only the last addition waits for all.
// x float32 (rows, K); w float32, float16 or bfloat16 packed (ceil(N/32), ceil(K/8), 32, 8): lanes are outputs, and a
// warp reads 512 contiguous bytes of bfloat16. y float32 (rows, N).
// linear_rows, few rows: grid (ceil(N/32), ceil(rows/M)), up to 4 warps, a block of K each in turn, M rows share the
// weights read (rows.cuh). With `chosen` a row belongs to one expert: grid (ceil(N/32), rows), M 1.
// linear_tile, many rows: grid (ceil(N/32), ceil(rows/64)), 8 warps of 8 rows; x and weights pass through shared memory,
// 32 inputs at a time, prefetched 64 inputs ahead.
// Ladder, a device has measured none; registers are ptxas 13.0's for sm_90a, nothing spills:
// 1. weights loaded to registers, four loads of 16 bytes unrolled behind a test for the last input. 32 registers with
//    one row, so one or two loads in flight: by Little's law a tenth of an H200's bandwidth for a matrix with few
//    outputs.
// 2. this. 48 registers with one row, 70 with eight. 64 inputs take 64 products, 64 sums, 24 loads of 16 bytes from
//    shared memory: at full bandwidth of bfloat16 a quarter of a multiprocessor's instruction rate with one row, one and
//    a half times it with eight, since a product and a sum are two instructions and not one.
// Tiles: 1. x read 4 bytes at a time, 8 loads for 16 operations. 2. this: 16 loads of 16 bytes for 128 operations, 53
// registers.
// Next: half a tile of outputs a CUDA block, for matrices of 2,048 outputs, which reach 64 of 132 multiprocessors.
#include "rows.cuh"

template <class T>
struct alignas(sizeof(T) * 8 > 16 ? 16 : sizeof(T) * 8) eight {
    T at[8];
};

// A stage of a warp: EIGHTS groups of 8 weights of its tile, and the matching inputs of M rows.
template <class T, int M>
struct float_stage {
    enum { EIGHTS = STAGE_BYTES / (WARP * sizeof(eight<T>)), INPUTS = EIGHTS * 8, A_BLOCK = BLOCK / INPUTS };
    eight<T> weights[EIGHTS][WARP];
    eight<float> x[M][EIGHTS];
};

template <class T, int M>
DEVICE void multiply_rows(const float *x, const eight<T> *w, float *y, int K, product p) {
    typedef float_stage<T, M> stage;
    begin(p);
    constexpr int STAGES = ring<M>::STAGES, VECTORS = sizeof(eight<T>) / 16;
    DYNAMIC_SHARED(stage, stages);  // (warps, STAGES), then totals (blocks of K, M, 32)
    float *totals = (float *)(stages + blockDim.x / WARP * STAGES);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, num_warps = blockDim.x / WARP;
    const int first = blockIdx.y * M, eights = (K + 7) / 8;
    stages += warp * STAGES;
    w += tile_of(p, first) * eights * WARP + lane;
    float sum[M];
    const auto block_of = [&](int s) { return warp + s / stage::A_BLOCK * num_warps; };
    const auto begin_of = [&](int s) { return block_of(s) * BLOCK + s % stage::A_BLOCK * stage::INPUTS; };
    const auto fetch_weights = [&](int s) {
        stage *to = stages + s % STAGES;
        const int begin = begin_of(s);
        for (int e = 0; e < stage::EIGHTS; e++)
            for (int v = 0; v < VECTORS; v++)
                copy_async<16>((quad *)&to->weights[e][lane] + v,
                               (const quad *)(w + (size_t)(begin / 8 + e) * WARP) + v, begin / 8 + e < eights);
    };
    const auto fetch_rows = [&](int s) {
        stage *to = stages + s % STAGES;
        const int begin = begin_of(s);
        for (int m = 0; m < M; m++) {
            const float *from = x + (size_t)operand_of(p, first + m) * K + begin;
            for (int i = lane; i < stage::INPUTS; i += WARP)
                copy_async<4>(to->x[m]->at + i, from + i, first + m < p.rows && begin + i < K);
        }
    };
    const auto use = [&](int s) {
        const stage *from = stages + s % STAGES;
        if (s % stage::A_BLOCK == 0)
            for (int m = 0; m < M; m++) sum[m] = 0.0f;
#pragma unroll
        for (int e = 0; e < stage::EIGHTS; e++) {  // past the last input: zeros, by zeros
            const eight<T> weights = from->weights[e][lane];
#pragma unroll
            for (int m = 0; m < M; m++) {
                const eight<float> row = from->x[m][e];
#pragma unroll
                for (int j = 0; j < 8; j++) sum[m] = add(sum[m], mul(row.at[j], widen(weights.at[j])));
            }
        }
        if (s % stage::A_BLOCK == stage::A_BLOCK - 1)
            for (int m = 0; m < M; m++) totals[(block_of(s) * M + m) * WARP + lane] = sum[m];
    };
    stream<STAGES>(blocks_of_warp(p) * stage::A_BLOCK, fetch_weights, fetch_rows, use);
    add_blocks<M>(p, totals, y, first);
}

enum { TILE_ROWS = 64, TILE_K = 32, ROWS_A_WARP = 8 };

template <class T>
DEVICE void multiply_tile(const float *x, const eight<T> *w, float *y, int rows, int N, int K, int width,
                          epilogue after, const float *gates, int stride) {
    constexpr int EIGHTS = TILE_K / 8, VECTORS = sizeof(eight<T>) / 16, THREADS = TILE_ROWS / ROWS_A_WARP * WARP;
    __shared__ eight<float> part[SLOTS][TILE_ROWS][EIGHTS];
    __shared__ eight<T> weights[SLOTS][EIGHTS * WARP];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, first = blockIdx.y * TILE_ROWS;
    const int mine = warp * ROWS_A_WARP, n = blockIdx.x * WARP + lane, eights = (K + 7) / 8;
    w += (size_t)blockIdx.x * eights * WARP;
    float total[ROWS_A_WARP], sum[ROWS_A_WARP];
    for (int m = 0; m < ROWS_A_WARP; m++) total[m] = sum[m] = 0.0f;
    const auto fetch = [&](int start) {  // zeros past the last row and input
        const int slot = start / TILE_K % SLOTS;
        for (int i = threadIdx.x; i < TILE_ROWS * TILE_K; i += THREADS) {
            const int row = first + i / TILE_K, k = start + i % TILE_K;
            copy_async<4>(part[slot][0]->at + i, x + (size_t)row * K + k, row < rows && k < K);
        }
        for (int i = threadIdx.x; i < EIGHTS * WARP * VECTORS; i += THREADS)
            copy_async<16>((quad *)weights[slot] + i, (const quad *)(w + (size_t)(start / 8) * WARP) + i,
                           start / 8 + i / (WARP * VECTORS) < eights);
    };
    const auto use = [&](int start) {
        const int slot = start / TILE_K % SLOTS;
#pragma unroll
        for (int e = 0; e < EIGHTS; e++) {
            const eight<T> narrow = weights[slot][e * WARP + lane];
#pragma unroll
            for (int m = 0; m < ROWS_A_WARP; m++) {
                const eight<float> row = part[slot][mine + m][e];
#pragma unroll
                for (int j = 0; j < 8; j++) sum[m] = add(sum[m], mul(row.at[j], widen(narrow.at[j])));
            }
        }
        if ((start + TILE_K) % BLOCK && start + TILE_K < K) return;
        for (int m = 0; m < ROWS_A_WARP; m++) total[m] = add(total[m], sum[m]), sum[m] = 0.0f;
    };
    stream_tile<TILE_K>(K, fetch, use);
    for (int m = 0; m < ROWS_A_WARP; m++) {
        const int row = first + mine + m;
        if (row >= rows || n >= N || !is_wanted(gates, stride, row)) continue;
        const size_t at = (size_t)row * width + n;
        y[at] = finish(after, total[m], n, at);
    }
}

#define FLOAT_OPERANDS(T)                                                                              \
    const float *x, const eight<T> *w, float *y, int rows, int N, int K, int width, const float *bias, \
        const float *residual, float scale
#define LINEAR_ROWS(NAME, T, M)                                                                                 \
    KERNEL __launch_bounds__(128, 2) NAME(FLOAT_OPERANDS(T), const int *chosen, int share) {                    \
        multiply_rows<T, M>(x, w, y, K,                                                                         \
                            {rows, N, (K + BLOCK - 1) / BLOCK, width, {bias, residual, scale}, chosen, share}); \
    }                                                                                                           \
    EXPORT_KERNEL(NAME)
#define LINEAR(FORMAT, T)                                                                                   \
    LINEAR_ROWS(linear_rows1_##FORMAT, T, 1)                                                                \
    LINEAR_ROWS(linear_rows2_##FORMAT, T, 2)                                                                \
    LINEAR_ROWS(linear_rows4_##FORMAT, T, 4)                                                                \
    LINEAR_ROWS(linear_rows8_##FORMAT, T, 8)                                                                \
    KERNEL __launch_bounds__(256) linear_tile_##FORMAT(FLOAT_OPERANDS(T), const float *gates, int stride) { \
        in_turn();                                                                                          \
        multiply_tile<T>(x, w, y, rows, N, K, width, {bias, residual, scale}, gates, stride);               \
    }                                                                                                       \
    EXPORT_KERNEL(linear_tile_##FORMAT)
LINEAR(float32, float)
LINEAR(float16, half_bits)
LINEAR(bfloat16, bfloat_bits)
