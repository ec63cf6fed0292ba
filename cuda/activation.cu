// Activations (N7): silu or gelu of the gate times up, clamped gates (N9a), and softcaps; reference/numerics/arithmetic.py.
//
// `both` holds gate and up side by side, (rows, 2 intermediate), or up alone, (rows, intermediate), where the network has
// no gate; y is (rows, intermediate). A warp computes 32 features
// of a row. With `q`, the row is also rounded to int8 (N4): q (rows, groups, 32), scales (rows, groups). No sum.
// Ladder (a device has measured none): 1. a thread an element, a launch more for rounding. 2. this, 24 registers on
// sm_90a. Next: silu of the gate in the product's epilogue, once gate and up are interleaved in one matrix.
#include "common.cuh"

template <class Gate>
DEVICE void gate_rows(const float *both, float *y, int8_t *q, float *scales, int intermediate, int count, int has_gate,
                      Gate gate) {
    const int groups = (intermediate + GROUP - 1) / GROUP, item = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (item >= count) return;
    const int i = item % groups * GROUP + threadIdx.x % WARP;
    const size_t row = item / groups;
    both += row * (1 + has_gate) * intermediate;
    const float value = i < intermediate ? gate(both[i], both[has_gate ? intermediate + i : i]) : 0.0f;
    if (i < intermediate) y[row * intermediate + i] = value;
    if (q) quantize_group(value, q, scales, item);
}

#define GATE(NAME, ACTIVATION)                                                                                      \
    KERNEL NAME(const float *both, float *y, int8_t *q, float *scales, int intermediate, int count, int has_gate) { \
        in_turn();                                                                                                  \
        const auto gate = [&](float x, float up) { return has_gate ? mul(ACTIVATION(x), up) : ACTIVATION(x); };     \
        gate_rows(both, y, q, scales, intermediate, count, has_gate, gate);                                         \
    }                                                                                                               \
    EXPORT_KERNEL(NAME)
GATE(gate_silu, silu_of)
GATE(gate_gelu_tanh, gelu_tanh_of)

// gpt-oss: (u + 1) * (g * sigmoid(g * alpha)), both clamped from above, u also from below. A NaN stays one.
KERNEL gate_clamped(const float *both, float *y, int8_t *q, float *scales, int intermediate, int count, float alpha,
                    float limit) {
    in_turn();
    gate_rows(both, y, q, scales, intermediate, count, 1, [&](float g, float u) {
        g = g > limit ? limit : g, u = u > limit ? limit : u;
        u = u < -limit ? -limit : u;
        return mul(add(u, 1.0f), mul(g, sigmoid_of(mul(g, alpha))));
    });
}
EXPORT_KERNEL(gate_clamped)

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
