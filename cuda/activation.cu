// Activations (N7): silu or gelu of the gate times up, and softcaps; reference/numerics/arithmetic.py.
//
// `both` holds gate and up side by side, (rows, 2 intermediate); y is (rows, intermediate). A warp computes 32 features
// of a row. With `q`, the row is also rounded to int8 (N4): q (rows, groups, 32), scales (rows, groups). No sum.
// Ladder (a device has measured none): 1. a thread an element, a launch more for rounding. 2. this, 24 registers on
// sm_90a. Next: silu of the gate in the product's epilogue, once gate and up are interleaved in one matrix.
#include "common.cuh"

typedef float (*activation)(float);

template <activation ACTIVATION>
DEVICE void gate_rows(const float *both, float *y, int8_t *q, float *scales, int intermediate, int count) {
    const int groups = (intermediate + GROUP - 1) / GROUP, item = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (item >= count) return;
    const int i = item % groups * GROUP + threadIdx.x % WARP;
    const size_t row = item / groups;
    both += row * 2 * intermediate;
    const float value = i < intermediate ? mul(ACTIVATION(both[i]), both[intermediate + i]) : 0.0f;
    if (i < intermediate) y[row * intermediate + i] = value;
    if (q) quantize_group(value, q, scales, item);
}

#define GATE(NAME, ACTIVATION)                                                                        \
    KERNEL NAME(const float *both, float *y, int8_t *q, float *scales, int intermediate, int count) { \
        in_turn();                                                                                    \
        gate_rows<ACTIVATION>(both, y, q, scales, intermediate, count);                               \
    }                                                                                                 \
    EXPORT_KERNEL(NAME)
GATE(gate_silu, silu_of)
GATE(gate_gelu_tanh, gelu_tanh_of)

// x + silu(y), one thread a feature: a residual block of a medusa head; reference/speculation/medusa.py.
KERNEL add_silu(float *x, const float *y, int count) {
    in_turn();
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) x[i] = add(x[i], silu_of(y[i]));
}
EXPORT_KERNEL(add_silu)

// Logits (N9a) divided by the model's constant, then softcapped where there is a cap.
KERNEL finish_logits(float *logits, float divisor, float cap, size_t count) {
    in_turn();
    const size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (i >= count) return;
    const float x = divide(logits[i], divisor);
    logits[i] = cap != 0.0f ? softcap_of(x, cap, cap) : x;
}
EXPORT_KERNEL(finish_logits)
