// Activations rounded to int8 in groups of 32 (N4); reference/numerics.py, `quantize_activations`.
//
// a = max |x| of a group; a < 2^-100: q = 0, s = 0; else s = a / 127, q = rint(x * (127 / a)).
// x (rows, inputs), q int8 (rows, groups, 32), s float32 (rows, groups). A warp a group, a lane an element; zeros past the
// last input. No sum; the largest of 32 has no order.
// Ladder: 1. this. No version has been measured on a device yet.
#include "common.cuh"

KERNEL quantize_rows(const float *x, int8_t *q, float *scales, int inputs, int groups, int count) {
    const int item = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (item >= count) return;
    const int row = item / groups, at = item % groups * GROUP + lane;
    const float value = at < inputs ? x[(size_t)row * inputs + at] : 0.0f;
    const float largest = largest_of_warp(fabsf(value));
    const bool is_zero = largest < 7.888609052210118e-31f;  // 2^-100
    const float factor = is_zero ? 0.0f : divide(127.0f, largest);
    q[(size_t)item * GROUP + lane] = (int8_t)(int)rintf(mul(value, factor));
    if (lane == 0) scales[item] = is_zero ? 0.0f : divide(largest, 127.0f);
}
EXPORT_KERNEL(quantize_rows)
