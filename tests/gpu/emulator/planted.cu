// Kernels with a race, each beside its twin without: what races.cpp must tell, and what it must not.
#include "common.cuh"

#define PAIR(NAME, PARAMETERS, ...)    \
    KERNEL NAME##_ordered PARAMETERS { \
        enum { IS_ORDERED = 1 };       \
        __VA_ARGS__                    \
    }                                  \
    EXPORT_KERNEL(NAME##_ordered)      \
    KERNEL NAME##_racing PARAMETERS {  \
        enum { IS_ORDERED = 0 };       \
        __VA_ARGS__                    \
    }                                  \
    EXPORT_KERNEL(NAME##_racing)

// A thread reads what one of another warp has stored.
PAIR(block_barrier, (int *y), {
    in_turn();
    __shared__ int numbers[64];
    numbers[threadIdx.x] = threadIdx.x;
    if (IS_ORDERED) __syncthreads();
    y[threadIdx.x] = numbers[63 - threadIdx.x];
})

// The same within a warp; a shuffle synchronises, too, but orders no memory.
PAIR(warp_barrier, (int *y), {
    in_turn();
    DYNAMIC_SHARED(int, numbers);
    numbers[threadIdx.x] = threadIdx.x;
    if (IS_ORDERED) __syncwarp();
    else __shfl_sync(EVERY_LANE, 0, 0);
    y[threadIdx.x] = numbers[threadIdx.x ^ 1];
})

// A store into what others still read: the second round needs a barrier before it as well.
PAIR(second_round, (int *y), {
    in_turn();
    __shared__ uint8_t numbers[64];
    int sum = 0;
    for (int round = 0; round < 2; round++) {
        if (IS_ORDERED) __syncthreads();
        numbers[threadIdx.x] = threadIdx.x + round;
        __syncthreads();
        sum += numbers[63 - threadIdx.x];
    }
    y[threadIdx.x] = sum;
})

// Blocks add up: only atomic operations may collide.
PAIR(two_blocks, (int *y), {
    in_turn();
    if (threadIdx.x) return;
    if (IS_ORDERED) atomicAdd(y, 1);
    else *y += 1;
})

// Half a warp waits at a barrier, the other half reads without it.
PAIR(half_a_warp, (int *y), {
    in_turn();
    __shared__ int numbers[64];
    numbers[threadIdx.x] = threadIdx.x;
    if (threadIdx.x % WARP < 16) __syncwarp(0x0000ffffu);
    y[threadIdx.x] = numbers[threadIdx.x % WARP < 16 ? threadIdx.x ^ 1 : IS_ORDERED ? threadIdx.x : threadIdx.x ^ 1];
})

// What an asynchronous copy brings is there for others behind a barrier after its wait.
PAIR(copied, (const int *x, int *y), {
    in_turn();
    __shared__ int numbers[64];
    copy_async<4>(numbers + threadIdx.x, x + threadIdx.x, true);
    commit_copies();
    if (!IS_ORDERED) __syncthreads();
    wait_for_copies<0>();
    if (IS_ORDERED) __syncthreads();
    y[threadIdx.x] = numbers[63 - threadIdx.x];
})

// The launch before this one may still run: what it wrote is there after the wait. Every thread waits.
PAIR(early_load, (int *y), {
    start_next();
    int ahead = 0;
    if (!IS_ORDERED) ahead = y[threadIdx.x];
    await_previous();
    y[threadIdx.x] += ahead + 1;
})
PAIR(early_end, (int *y), {
    start_next();
    if (IS_ORDERED || threadIdx.x) await_previous();
    if (threadIdx.x) y[threadIdx.x] += 1;
})

// Blocks of a cooperative launch wait for those that share their counter, and not for others.
PAIR(grouped, (uint32_t *arrived, int *y), {
    in_turn();
    const int pair = blockIdx.x / 2;
    y[blockIdx.x * blockDim.x + threadIdx.x] = threadIdx.x;
    group_barrier(arrived + pair, 2);
    const int other = IS_ORDERED ? blockIdx.x ^ 1 : (blockIdx.x + 2) % 4;
    const int found = y[other * blockDim.x + threadIdx.x];
    group_barrier(arrived + pair, 2);
    y[blockIdx.x * blockDim.x + threadIdx.x] = found + threadIdx.x;
})
PAIR(not_grouped, (uint32_t *arrived, int *y), {
    in_turn();
    y[blockIdx.x * blockDim.x + threadIdx.x] = threadIdx.x;
    if (IS_ORDERED) group_barrier(arrived, 2);
    else __syncthreads();
    const int found = y[(blockIdx.x ^ 1) * blockDim.x + threadIdx.x];
    group_barrier(arrived, 2);
    y[blockIdx.x * blockDim.x + threadIdx.x] = found + threadIdx.x;
})
