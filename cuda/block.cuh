// Reductions and scans over the threads of a block: the best logit, and sums over the threads before each (N10).
//
// Blocks of up to 1,024 threads, whole warps. Every function begins with a barrier, so its shared memory may still be in
// use by an earlier step.
#pragma once
#include "common.cuh"

enum { MAX_WARPS = 32 };

struct peak {
    float value;
    int id;
};

DEVICE bool is_better(peak a, peak b) { return a.value > b.value || (a.value == b.value && a.id < b.id); }
DEVICE bool is_finite(float x) { return (__float_as_uint(x) & 0x7f800000u) != 0x7f800000u; }

// The best over all threads, returned to each of them.
DEVICE peak best_of_block(peak mine, peak *shared) {
    for (int half = 16; half; half >>= 1) {
        const peak other = {__shfl_xor_sync(EVERY_LANE, mine.value, half), __shfl_xor_sync(EVERY_LANE, mine.id, half)};
        if (is_better(other, mine)) mine = other;
    }
    __syncthreads();
    if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = mine;
    __syncthreads();
    for (unsigned i = 0; i < blockDim.x / WARP; i++)
        if (is_better(shared[i], mine)) mine = shared[i];
    return mine;
}

// Worse than every logit: the start of a search.
DEVICE peak lowest() { return {-__int_as_float(0x7f800000), 0x7fffffff}; }

// The exclusive prefix sum of `mine` over the block's threads; `total` is the sum over all. shared: an element a warp.
DEVICE uint64_t sum_before(uint64_t mine, uint64_t *shared, uint64_t *total) {
    const unsigned lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    uint64_t sum = mine;
    for (unsigned step = 1; step < WARP; step *= 2) {
        const uint64_t other = __shfl_up_sync(EVERY_LANE, sum, step);
        if (lane >= step) sum += other;
    }
    __syncthreads();
    if (lane == WARP - 1) shared[warp] = sum;
    __syncthreads();
    uint64_t before = 0, all = 0;
    for (unsigned i = 0; i < blockDim.x / WARP; i++) {
        if (i < warp) before += shared[i];
        all += shared[i];
    }
    *total = all;
    return before + sum - mine;
}
