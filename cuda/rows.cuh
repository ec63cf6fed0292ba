// What products share, float or integer: weights streamed through shared memory, and for a few rows blocks of K added in
// order.
//
// A CUDA block has 32 outputs, its up to four warps take blocks of 256 inputs in turn. A warp's weights come as a
// stream of stages of 4 KB, STAGES of them under way at once, so that what is in flight does not depend on registers:
// with one row 64 KB a CUDA block, of which a multiprocessor of an H200 holds two or three. Little's law asks for 4.8
// TB/s * 0.7 us / 132 = 26 KB on each. Every lane copies the 16 bytes that it will multiply itself, 512 bytes side by
// side a warp; rows of x, which all lanes read, are handed over behind a barrier of the warp.
// The stream begins before the previous kernel has ended, since weights do not depend on it (common.cuh,
// `await_previous`).
#pragma once
#include "common.cuh"

enum { STAGE_BYTES = 4096, SLOTS = 3 };  // SLOTS is for many rows: so many parts of a tile there is room for
template <int M>
struct ring { enum { STAGES = M > 2 ? 2 : 4 }; };  // with many rows it is arithmetic that takes the time

// A product's shape. With `chosen`, a row of y is one expert's (N9): its matrix is number chosen[row] of a stack, and
// its row of x is shared by `share` rows of y side by side.
struct product {
    int rows, N, num_blocks;
    epilogue after;
    const int *chosen;
    int share;
};

// What every product begins with: weights can be asked for at once, unless the previous kernel says which.
DEVICE void begin(product p) {
    start_next();
    if (p.chosen) await_previous();
}

// The tile of 32 outputs in the stack, and the row of x that belongs to a row of y.
DEVICE size_t tile_of(product p, int row) {
    return blockIdx.x + (p.chosen ? (size_t)p.chosen[row] * gridDim.x : 0);
}
DEVICE int operand_of(product p, int row) { return p.chosen ? row / p.share : row; }

// Numbers 0 .. count - 1 of a warp's stages: what is fetched of number s lies in slot s % STAGES when `use` is called
// with it. The first weights are on their way before the previous kernel has ended.
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
        __syncwarp();  // nobody needs the slot any more
        if (s + STAGES < count) fetch_weights(s + STAGES), fetch_rows(s + STAGES);
        commit_copies();
    }
}

// The same for a tile of many rows, whose warps share its parts, of STEP inputs or groups each: `fetch` and `use` are told
// where one starts, it lies in slot start / STEP % SLOTS, and SLOTS - 1 of them are under way at once.
template <int STEP, class Fetch, class Use>
DEVICE void stream_tile(int size, Fetch fetch, Use use) {
    for (int ahead = 0; ahead < SLOTS - 1; ahead++) {
        if (ahead * STEP < size) fetch(ahead * STEP);
        commit_copies();
    }
    for (int start = 0; start < size; start += STEP) {
        wait_for_copies<SLOTS - 2>();
        __syncthreads();  // this part is there for all, and nobody reads the one before it any more: its slot is free
        const int next = start + (SLOTS - 1) * STEP;
        if (next < size) fetch(next);
        commit_copies();
        use(start);
    }
}

// How many blocks of K this warp takes.
DEVICE int blocks_of_warp(product p) {
    const int warp = threadIdx.x / WARP, num_warps = blockDim.x / WARP;
    return (p.num_blocks - warp + num_warps - 1) / num_warps;
}

// y = the blocks' totals (num_blocks, M, 32) added in order from +0, and what follows.
template <int M>
DEVICE void add_blocks(product p, const float *totals, float *y, int first) {
    __syncthreads();
    const int lane = threadIdx.x % WARP, n = blockIdx.x * WARP + lane;
    for (int m = threadIdx.x / WARP; m < M && first + m < p.rows; m += blockDim.x / WARP) {
        if (n >= p.N) continue;
        float total = 0.0f;
        for (int block = 0; block < p.num_blocks; block++) total = add(total, totals[(block * M + m) * WARP + lane]);
        const size_t at = (size_t)(first + m) * p.N + n;
        y[at] = finish(p.after, total, n + (p.chosen ? p.chosen[first + m] * p.N : 0), at);
    }
}
