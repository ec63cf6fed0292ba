// rms_norm (N5): y = x * (1 / sqrt(lane_sum(x * x) / n + eps)) * w, left to right; reference/numerics.py, `rms_norm`.
//
// One warp normalises one item: `heads` items of `size` features lie side by side in a row of `stride` floats. Item i
// of the output belongs to row `wanted[i / heads]` of the input where `wanted` is given. Without a weight the row is copied.
// Sum, N2: lane j adds the squares of j, j + 32, ... in order from +0, then the lanes fold 16, 8, 4, 2, 1.
// Ladder: 1. a warp an item, its chain of additions n / 32 long. No version has been measured on a device yet.
#include "common.cuh"

KERNEL rms_norm(const float *x, const int *wanted, const float *weight, float *y, int items, int heads, int size,
                int from_stride, int to_stride, float epsilon) {
    const int item = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (item >= items) return;
    const int row = item / heads, head = item % heads, from_row = wanted ? wanted[row] : row;
    x += (size_t)from_row * from_stride + (size_t)head * size;
    y += (size_t)row * to_stride + (size_t)head * size;
    if (!weight) {
        for (int i = lane; i < size; i += WARP) y[i] = x[i];
        return;
    }
    float sum = 0.0f;
    for (int i = lane; i < size; i += WARP) sum = add(sum, mul(x[i], x[i]));
    const float mean = divide(fold_lanes(sum), (float)size);
    const float scale = divide(1.0f, __fsqrt_rn(add(mean, epsilon)));
    for (int i = lane; i < size; i += WARP) y[i] = mul(mul(x[i], scale), weight[i]);
}
EXPORT_KERNEL(rms_norm)

// x + scale * y, one thread a feature: what a half of a layer adds, where its output has been normed.
KERNEL add_scaled(float *x, const float *y, float scale, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) x[i] = add(x[i], mul(y[i], scale));
}
EXPORT_KERNEL(add_scaled)
