// Activations rounded to int8 in groups of 32 (N4); reference/numerics/arithmetic.py, `quantize_activations`.
//
// x (rows, inputs), q int8 (rows, groups, 32), s float32 (rows, groups). A warp a group, a lane an element; zeros past
// the last input: common.cuh, `quantize_group`. No sum; the largest of 32 has no order.
// Ladder (a device has measured none): 1. this. 2. norms, activations and attention call `quantize_group` themselves,
// which saves four launches a layer in decode; this kernel is for other rows.
#include "common.cuh"

KERNEL quantize_rows(const float *x, int8_t *q, float *scales, int inputs, int groups, int count) {
    in_turn();
    const int item = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (item >= count) return;
    const int row = item / groups, at = item % groups * GROUP + threadIdx.x % WARP;
    quantize_group(at < inputs ? x[(size_t)row * inputs + at] : 0.0f, q, scales, item);
}
EXPORT_KERNEL(quantize_rows)
