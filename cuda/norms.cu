// rms_norm (N5): y = x * (1 / sqrt(lane_sum(x * x) / n + eps)) * w, left to right; reference/numerics/arithmetic.py, `rms_norm`.
//
// A CUDA block normalises one item: `heads` items of `size` features lie side by side in an input row of `from_stride`
// floats and an output row of `to_stride`. Grid (items,); dynamic shared memory for `size` squares and the scale.
// With `wanted`, item i of the output belongs to row `wanted[i / heads]` of the input. Without a weight the row is
// copied. With `q`, the row is also rounded to int8 (N4): q (items, groups, 32), scales (items, groups).
// Sum, N2: every thread squares, then lane j of the first warp adds j, j + 32, ... in order from +0, and the lanes fold
// 16, 8, 4, 2, 1.
// Ladder (a device has measured none): 1. a warp an item, which reads memory 32 floats at a time, n / 32 times one after
// the other. 2. this: all loads of x are in flight at once, the chain of additions reads shared memory; rounding needs no
// launch of its own. 28 registers on sm_90a.
#include "common.cuh"

KERNEL rms_norm(const float *x, const int *wanted, const float *weight, float *y, int8_t *q, float *scales, int heads,
                int size, int from_stride, int to_stride, float epsilon) {
    in_turn();
    DYNAMIC_SHARED(float, squares);
    const int item = blockIdx.x, row = item / heads, head = item % heads, lane = threadIdx.x;
    x += (size_t)(wanted ? wanted[row] : row) * from_stride + (size_t)head * size;
    y += (size_t)row * to_stride + (size_t)head * size;
    float scale = 1.0f;
    if (weight) {
#pragma unroll 4
        for (int i = threadIdx.x; i < size; i += blockDim.x) squares[i] = mul(x[i], x[i]);
        __syncthreads();
        if (threadIdx.x < WARP) {
            float sum = 0.0f;
#pragma unroll 8
            for (int i = lane; i < size; i += WARP) sum = add(sum, squares[i]);
            const float mean = divide(fold_lanes(sum), (float)size);
            if (lane == 0) squares[size] = divide(1.0f, __fsqrt_rn(add(mean, epsilon)));
        }
        __syncthreads();
        scale = squares[size];
    }
    const int groups = (size + GROUP - 1) / GROUP;
#pragma unroll 4
    for (int i = threadIdx.x; i < groups * GROUP; i += blockDim.x) {
        float value = i < size ? x[i] : 0.0f;
        if (weight && i < size) value = mul(mul(value, scale), weight[i]);
        if (i < size) y[i] = value;
        if (q) quantize_group(value, q, scales, (size_t)item * groups + i / GROUP);
    }
}
EXPORT_KERNEL(rms_norm)

// x + scale * y, one thread a feature: the residual connection of a sublayer whose output is normed.
KERNEL add_scaled(float *x, const float *y, float scale, int count) {
    in_turn();
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) x[i] = add(x[i], mul(y[i], scale));
}
EXPORT_KERNEL(add_scaled)
