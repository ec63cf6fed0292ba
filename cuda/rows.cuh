// Shared by float and integer products: weights streamed through shared memory, and, for few rows, blocks of K added in
// order.
//
// A CUDA block has 32 outputs; its up to four warps take blocks of 256 inputs in turn. A warp's weights are a stream of
// 4 KB stages, STAGES of them in flight, so the bytes in flight do not depend on registers: with one row, 64 KB a CUDA
// block, of which a multiprocessor of an H200 holds two or three. By Little's law each needs 4.8 TB/s * 0.7 us / 132 =
// 26 KB. Every lane copies the 16 bytes that it multiplies, a warp 512 contiguous bytes; rows of x, which all lanes
// read, become visible at a barrier of the warp.
// The stream starts before the previous kernel has ended, since weights do not depend on it (common.cuh,
// `await_previous`).
#pragma once
#include "common.cuh"

enum { STAGE_BYTES = 4096, SLOTS = 3 };  // SLOTS: buffers for parts of a tile of many rows
template <int M>
struct ring {
    enum { STAGES = M > 2 ? 2 : 4 };  // many rows are bound by arithmetic, not by memory
};

// A product's shape; rows of y lie `width` floats apart. With `chosen`, a row of y belongs to one expert (N9): its matrix
// is number chosen[row] of a stack, and `share` consecutive rows of y share a row of x.
struct product {
    int rows, N, num_blocks, width;
    epilogue after;
    const int *chosen;
    int share;
};

// The start of every product: weights can be fetched at once, unless the previous kernel writes `chosen`.
DEVICE void begin(product p) {
    start_next();
    if (p.chosen) await_previous();
}

// The tile of 32 outputs in the stack, and the row of x that belongs to a row of y.
DEVICE size_t tile_of(product p, int row) { return blockIdx.x + (p.chosen ? (size_t)p.chosen[row] * gridDim.x : 0); }
DEVICE int operand_of(product p, int row) { return p.chosen ? row / p.share : row; }

// Stream stages 0 .. count - 1 of a warp: stage s lies in slot s % STAGES when `use(s)` is called. The first weights are
// fetched before the previous kernel has ended.
template <int STAGES, class Weights, class Rows, class Use>
DEVICE void stream(int count, Weights fetch_weights, Rows fetch_rows, Use use) {
    for (int s = 0; s < STAGES && s < count; s++) fetch_weights(s);
    await_previous();
    for (int s = 0; s < STAGES; s++) {
        if (s < count) fetch_rows(s);
        commit_copies();
    }
    for (int s = 0; s < count; s++) {
        wait_for_copies<STAGES - 1>();
        __syncwarp();  // other lanes fetched parts of it
        use(s);
        __syncwarp();  // all lanes have read the slot
        if (s + STAGES < count) fetch_weights(s + STAGES), fetch_rows(s + STAGES);
        commit_copies();
    }
}

// Stream a tile of many rows, whose warps share parts of STEP inputs or groups. `fetch` and `use` get the start of a part,
// which lies in slot start / STEP % SLOTS; SLOTS - 1 parts are in flight.
template <int STEP, class Fetch, class Use>
DEVICE void stream_tile(int size, Fetch fetch, Use use) {
    for (int part = 0; part < SLOTS - 1; part++) {
        if (part * STEP < size) fetch(part * STEP);
        commit_copies();
    }
    for (int start = 0; start < size; start += STEP) {
        wait_for_copies<SLOTS - 2>();
        __syncthreads();  // all threads see this part and have read the one before it: its slot is free
        const int next = start + (SLOTS - 1) * STEP;
        if (next < size) fetch(next);
        commit_copies();
        use(start);
    }
}

// The number of blocks of K that this warp computes.
DEVICE int blocks_of_warp(product p) {
    const int warp = threadIdx.x / WARP, num_warps = blockDim.x / WARP;
    return (p.num_blocks - warp + num_warps - 1) / num_warps;
}

// y = the blocks' totals (num_blocks, M, 32) added in order from +0, then the epilogue.
template <int M>
DEVICE void add_blocks(product p, const float *totals, float *y, int first) {
    __syncthreads();
    const int lane = threadIdx.x % WARP, n = blockIdx.x * WARP + lane;
    for (int m = threadIdx.x / WARP; m < M && first + m < p.rows; m += blockDim.x / WARP) {
        if (n >= p.N) continue;
        float total = 0.0f;
        for (int block = 0; block < p.num_blocks; block++) total = add(total, totals[(block * M + m) * WARP + lane]);
        const size_t at = (size_t)(first + m) * p.width + n;
        y[at] = finish(p.after, total, n + (p.chosen ? p.chosen[first + m] * p.N : 0), at);
    }
}
