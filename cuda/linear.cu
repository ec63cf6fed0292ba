// linear with float weights (N3): y[m,n] = sum over k of x[m,k] * w[n,k]; reference/numerics.py, `linear`.
//
// Sum: from +0 in order of k inside a block of 256, then the totals of the blocks from +0 in order. The blocks do not
// depend on each other, so a warp takes one of them; only the last addition waits for all.
// x float32 (rows, K); w float32, float16 or bfloat16 packed (ceil(N/32), ceil(K/8), 32, 8): lanes are outputs, and a warp
// reads 512 bytes side by side of bfloat16. y float32 (rows, N).
// linear_rows, few rows: grid (ceil(N/32), ceil(rows/M)), a warp a block of K in turn, M rows share the weights read.
// linear_tile, many rows: grid (ceil(N/32), ceil(rows/64)), 8 warps of 8 rows; x goes through shared memory.
// Ladder: 1. these two. No version has been measured on a device yet. Next: asynchronous copies, wider tiles.
#include "common.cuh"

template <class T>
struct alignas(sizeof(T) * 8 > 16 ? 16 : sizeof(T) * 8) eight { T at[8]; };

template <class T, int M>
DEVICE void multiply_rows(const float *x, const eight<T> *w, float *y, int rows, int N, int K, epilogue after,
                          const float *gates, int stride) {
    DYNAMIC_SHARED(float, totals);  // (blocks of K, M, 32)
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, num_warps = blockDim.x / WARP;
    const int first = blockIdx.y * M, num_blocks = (K + BLOCK - 1) / BLOCK, eights = (K + 7) / 8;
    bool has_any = false;
    for (int m = 0; m < M; m++) has_any |= first + m < rows && is_wanted(gates, stride, first + m);
    if (!has_any) return;
    w += (size_t)blockIdx.x * eights * WARP + lane;
    const float *from[M];
    for (int m = 0; m < M; m++) from[m] = x + (size_t)(first + m < rows ? first + m : first) * K;
    for (int block = warp; block < num_blocks; block += num_warps) {
        float sum[M];
        for (int m = 0; m < M; m++) sum[m] = 0.0f;
        const int end = (block + 1) * BLOCK < K ? (block + 1) * BLOCK : K;
#pragma unroll 4
        for (int k = block * BLOCK; k < end; k += 8) {
            const eight<T> weights = w[(size_t)(k / 8) * WARP];
#pragma unroll
            for (int j = 0; j < 8; j++) {
                if (k + j >= K) break;  // the last few inputs
                const float weight = widen(weights.at[j]);
#pragma unroll
                for (int m = 0; m < M; m++) sum[m] = add(sum[m], mul(from[m][k + j], weight));
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

enum { TILE_ROWS = 64, TILE_K = 64, ROWS_A_WARP = 8 };

template <class T>
DEVICE void multiply_tile(const float *x, const eight<T> *w, float *y, int rows, int N, int K, epilogue after,
                          const float *gates, int stride) {
    __shared__ float part[TILE_ROWS][TILE_K];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, first = blockIdx.y * TILE_ROWS;
    const int mine = warp * ROWS_A_WARP, n = blockIdx.x * WARP + lane;
    w += (size_t)blockIdx.x * ((K + 7) / 8) * WARP + lane;
    float total[ROWS_A_WARP], sum[ROWS_A_WARP];
    for (int m = 0; m < ROWS_A_WARP; m++) total[m] = sum[m] = 0.0f;
    for (int start = 0; start < K; start += TILE_K) {
        __syncthreads();
        for (int i = threadIdx.x; i < TILE_ROWS * TILE_K; i += blockDim.x) {
            const int row = first + i / TILE_K, k = start + i % TILE_K;
            part[i / TILE_K][i % TILE_K] = row < rows && k < K ? x[(size_t)row * K + k] : 0.0f;
        }
        __syncthreads();
        for (int k = start; k < start + TILE_K && k < K; k += 8) {
            const eight<T> weights = w[(size_t)(k / 8) * WARP];  // past the last input: zeros, by zeros
#pragma unroll
            for (int j = 0; j < 8; j++) {
                const float weight = widen(weights.at[j]);
#pragma unroll
                for (int m = 0; m < ROWS_A_WARP; m++)
                    sum[m] = add(sum[m], mul(part[mine + m][k - start + j], weight));
            }
        }
        if ((start + TILE_K) % BLOCK && start + TILE_K < K) continue;
        for (int m = 0; m < ROWS_A_WARP; m++) total[m] = add(total[m], sum[m]), sum[m] = 0.0f;
    }
    for (int m = 0; m < ROWS_A_WARP; m++) {
        const int row = first + mine + m;
        if (row >= rows || n >= N || !is_wanted(gates, stride, row)) continue;
        const size_t at = (size_t)row * N + n;
        y[at] = finish(after, total[m], n, at);
    }
}

#define PRODUCT_ARGUMENTS(T)                                                                                       \
    const float *x, const eight<T> *w, float *y, int rows, int N, int K, const float *bias, const float *residual, \
        float scale, const float *gates, int stride
#define PRODUCT_VALUES x, w, y, rows, N, K, epilogue{bias, residual, scale}, gates, stride
#define LINEAR_ROWS(NAME, T, M)                                                      \
    KERNEL NAME(PRODUCT_ARGUMENTS(T)) { multiply_rows<T, M>(PRODUCT_VALUES); }       \
    EXPORT_KERNEL(NAME)
#define LINEAR(KIND, T)                                                                                          \
    LINEAR_ROWS(linear_rows1_##KIND, T, 1)                                                                       \
    LINEAR_ROWS(linear_rows2_##KIND, T, 2)                                                                       \
    LINEAR_ROWS(linear_rows4_##KIND, T, 4)                                                                       \
    LINEAR_ROWS(linear_rows8_##KIND, T, 8)                                                                       \
    KERNEL __launch_bounds__(256) linear_tile_##KIND(PRODUCT_ARGUMENTS(T)) { multiply_tile<T>(PRODUCT_VALUES); } \
    EXPORT_KERNEL(linear_tile_##KIND)
LINEAR(f32, float)
LINEAR(f16, half_bits)
LINEAR(bf16, bfloat_bits)
