// Norms (N5); reference/numerics/arithmetic.py. rms_norm: y = x * (1 / sqrt(lane_sum(x * x) / n + eps)) * w. layer_norm: c = x -
// lane_sum(x) / n, y = c * (1 / sqrt(lane_sum(c * c) / n + eps)) * w, then + bias where there is one. Left to right.
//
// A CUDA block normalises one item: `heads` items of `size` features lie side by side in an input row of `from_stride`
// floats and an output row of `to_stride`. Grid (items,); dynamic shared memory for `size` numbers and their sum.
// With `wanted`, item i of the output belongs to row `wanted[i / heads]` of the input. Without a weight the row is
// copied. With `q`, the row is also rounded to int8 (N4): q (items, groups, 32), scales (items, groups).
// Sum, N2: every thread writes its numbers, then lane j of the first warp adds j, j + 32, ... in order from +0, and the
// lanes fold 16, 8, 4, 2, 1.
// Ladder (a device has measured none): 1. a warp an item, which reads memory 32 floats at a time, n / 32 times one after
// the other. 2. this: all loads of x are in flight at once, the chain of additions reads shared memory; rounding needs no
// launch of its own. 28 registers on sm_90a.
#include "common.cuh"

// The lane_sum of all threads' numbers, returned to each of them. numbers[size] is overwritten.
DEVICE float sum_of_block(float *numbers, int size) {
    __syncthreads();
    if (threadIdx.x < WARP) {
        float sum = 0.0f;
#pragma unroll 8
        for (int i = threadIdx.x; i < size; i += WARP) sum = add(sum, numbers[i]);
        sum = fold_lanes(sum);
        if (threadIdx.x == 0) numbers[size] = sum;
    }
    __syncthreads();
    return numbers[size];
}

template <bool IS_LAYER>
DEVICE void norm_item(const float *x, const int *wanted, const float *weight, const float *bias, float *y, int8_t *q,
                      float *scales, int heads, int size, int from_stride, int to_stride, float epsilon) {
    DYNAMIC_SHARED(float, numbers);
    const int item = blockIdx.x, row = item / heads, head = item % heads;
    x += (size_t)(wanted ? wanted[row] : row) * from_stride + (size_t)head * size;
    y += (size_t)row * to_stride + (size_t)head * size;
    float mean = 0.0f, scale = 1.0f;
    if (IS_LAYER && weight) {
#pragma unroll 4
        for (int i = threadIdx.x; i < size; i += blockDim.x) numbers[i] = x[i];
        mean = divide(sum_of_block(numbers, size), (float)size);
    }
    if (weight) {
#pragma unroll 4
        for (int i = threadIdx.x; i < size; i += blockDim.x) {
            const float centred = IS_LAYER ? sub(x[i], mean) : x[i];
            numbers[i] = mul(centred, centred);
        }
        const float variance = divide(sum_of_block(numbers, size), (float)size);
        scale = divide(1.0f, __fsqrt_rn(add(variance, epsilon)));
    }
    const int groups = (size + GROUP - 1) / GROUP;
#pragma unroll 4
    for (int i = threadIdx.x; i < groups * GROUP; i += blockDim.x) {
        float value = i < size ? x[i] : 0.0f;
        if (weight && i < size) {
            value = mul(mul(IS_LAYER ? sub(value, mean) : value, scale), weight[i]);
            if (IS_LAYER && bias) value = add(value, bias[i]);
        }
        if (i < size) y[i] = value;
        if (q) quantize_group(value, q, scales, (size_t)item * groups + i / GROUP);
    }
}

#define NORM(NAME, IS_LAYER)                                                                                      \
    KERNEL NAME(const float *x, const int *wanted, const float *weight, const float *bias, float *y, int8_t *q,   \
                float *scales, int heads, int size, int from_stride, int to_stride, float epsilon) {              \
        in_turn();                                                                                                \
        norm_item<IS_LAYER>(x, wanted, weight, bias, y, q, scales, heads, size, from_stride, to_stride, epsilon); \
    }                                                                                                             \
    EXPORT_KERNEL(NAME)
NORM(rms_norm, false)
NORM(layer_norm, true)

// x + scale * y, one thread a feature: the residual connection of a sublayer whose output is normed.
KERNEL add_scaled(float *x, const float *y, float scale, int count) {
    in_turn();
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) x[i] = add(x[i], mul(y[i], scale));
}
EXPORT_KERNEL(add_scaled)
