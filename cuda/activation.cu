// Activations (N7): silu or gelu of the gate times the other half, and soft caps; reference/numerics.py and experts.py.
//
// `both` holds gate and up side by side, (rows, 2 inner); y is (rows, inner). One thread an element. No sum.
// Ladder: 1. this. No version has been measured on a device yet.
#include "common.cuh"

KERNEL gate_silu(const float *both, float *y, int inner, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const float *row = both + (size_t)(i / inner) * 2 * inner;
    y[i] = mul(silu_of(row[i % inner]), row[inner + i % inner]);
}
EXPORT_KERNEL(gate_silu)

KERNEL gate_gelu_tanh(const float *both, float *y, int inner, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const float *row = both + (size_t)(i / inner) * 2 * inner;
    y[i] = mul(gelu_tanh_of(row[i % inner]), row[inner + i % inner]);
}
EXPORT_KERNEL(gate_gelu_tanh)

// Logits on their way out (N9a): divided by the model's constant, then capped where there is a cap.
KERNEL finish_logits(float *logits, float divisor, float cap, size_t count) {
    const size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (i >= count) return;
    const float x = divide(logits[i], divisor);
    logits[i] = cap != 0.0f ? softcap_of(x, cap, cap) : x;
}
EXPORT_KERNEL(finish_logits)
