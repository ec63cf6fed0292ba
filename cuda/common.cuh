// Used by all kernels: rounded arithmetic (N0), 16-bit floats (N1), a warp's sum (N2), exp2 and log2 (N7).
//
// No header of the toolkit is included, so that NVRTC alone can compile these files. With CUDA_EMU defined, a C++
// compiler builds them against tests/gpu/emulator/cuda_emu.h; they then run on the CPU with the same bits.
// A product and a sum are always two roundings: compilers never contract the intrinsics below to a fused multiply-add.
#pragma once
#ifdef CUDA_EMU
#include "cuda_emu.h"
#else
#define EXPORT_KERNEL(name)
extern __shared__ __align__(16) unsigned char dynamic_shared[];
#define DYNAMIC_SHARED(T, name) T *name = (T *)dynamic_shared
typedef unsigned char uint8_t;
typedef signed char int8_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
#endif
#define KERNEL extern "C" __global__ void
#define DEVICE static __device__ __forceinline__
#define EVERY_LANE 0xffffffffu

enum { WARP = 32, LANES = 32, BLOCK = 256, KEY_BLOCK = 64, PAGE = 16, GROUP = 32 };

#ifdef FUSED  // for benchmarks/gpu.py only: the same kernels with fused and approximate arithmetic
DEVICE float mul(float a, float b) { return a * b; }
DEVICE float add(float a, float b) { return a + b; }
DEVICE float sub(float a, float b) { return a - b; }
DEVICE float divide(float a, float b) { return __fdividef(a, b); }
#else
DEVICE float mul(float a, float b) { return __fmul_rn(a, b); }
DEVICE float add(float a, float b) { return __fadd_rn(a, b); }
DEVICE float sub(float a, float b) { return __fsub_rn(a, b); }
DEVICE float divide(float a, float b) { return __fdiv_rn(a, b); }
#endif

struct alignas(16) quad { uint32_t at[4]; };
struct half_bits { uint16_t bits; };
struct bfloat_bits { uint16_t bits; };

DEVICE float widen(float x) { return x; }
DEVICE float widen(bfloat_bits x) { return __uint_as_float((uint32_t)x.bits << 16); }
DEVICE float widen(half_bits x) {
#ifdef CUDA_EMU
    return emu::half_to_float(x.bits);
#else
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
#endif
}

// N1: round to nearest-even. Overflow gives an infinity; subnormals are kept, NaN stays NaN.
DEVICE void narrow(float x, float *y) { *y = x; }
DEVICE void narrow(float x, bfloat_bits *y) {
    const uint32_t bits = __float_as_uint(x), rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    y->bits = (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
}
DEVICE void narrow(float x, half_bits *y) {
#ifdef CUDA_EMU
    y->bits = emu::float_to_half(x);
#else
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y->bits) : "f"(x));
#endif
}

// N2, the fold: lane j adds lane j + 16, then 8, 4, 2, 1. Every lane gets the sum.
DEVICE float fold_lanes(float x) {
    for (int half = 16; half; half >>= 1) x = add(x, __shfl_down_sync(EVERY_LANE, x, half));
    return __shfl_sync(EVERY_LANE, x, 0);
}

DEVICE float largest_of_warp(float x) {
    for (int half = 16; half; half >>= 1) {
        const float other = __shfl_xor_sync(EVERY_LANE, x, half);
        x = other > x ? other : x;
    }
    return x;
}

// N7
DEVICE float exp2_of(float x) {
    float clamped = x < -126.0f ? -126.0f : x;
    clamped = clamped > 127.0f ? 127.0f : clamped;
    const float whole = rintf(clamped), fraction = sub(clamped, whole);
    float result = 0.00015461447765119374f;
    result = add(mul(result, fraction), 0.0013390866806730628f);
    result = add(mul(result, fraction), 0.009618056938052177f);
    result = add(mul(result, fraction), 0.055503569543361664f);
    result = add(mul(result, fraction), 0.24022650718688965f);
    result = add(mul(result, fraction), 0.6931471824645996f);
    result = add(mul(result, fraction), 1.0f);
    const float power = __int_as_float(((int)whole + 127) << 23);
    return x < -126.0f ? 0.0f : mul(result, power);
}

DEVICE float log2_of(float x) {
    const int sqrt_half = 0x3F3504F3, shifted = __float_as_int(x) - sqrt_half;
    const float t = sub(__int_as_float((shifted & 0x007FFFFF) + sqrt_half), 1.0f);
    float result = 0.12614846229553223f;
    result = add(mul(result, t), -0.20742103457450867f);
    result = add(mul(result, t), 0.21566985547542572f);
    result = add(mul(result, t), -0.23892034590244293f);
    result = add(mul(result, t), 0.2879183292388916f);
    result = add(mul(result, t), -0.36070483922958374f);
    result = add(mul(result, t), 0.48091059923171997f);
    result = add(mul(result, t), -0.7213473320007324f);
    result = add(mul(result, t), 1.4426950216293335f);
    return add((float)(shifted >> 23), mul(t, result));
}

#define LOG2E 1.4426950408889634f
#define TWO_LOG2E 2.8853900817779268f
#define LN2 0.6931471805599453f

DEVICE float silu_of(float x) { return divide(x, add(1.0f, exp2_of(mul(-x, LOG2E)))); }
DEVICE float sigmoid_of(float x) { return divide(1.0f, add(1.0f, exp2_of(mul(-x, LOG2E)))); }
DEVICE float tanh_of(float x) { return sub(1.0f, divide(2.0f, add(1.0f, exp2_of(mul(x, TWO_LOG2E))))); }
DEVICE float gelu_tanh_of(float x) {
    const float cubic = add(x, mul(mul(mul(0.044715f, x), x), x));
    return mul(mul(0.5f, x), add(1.0f, tanh_of(mul(0.7978845608028654f, cubic))));
}
DEVICE float softcap_of(float x, float cap, float scaled_cap) { return mul(scaled_cap, tanh_of(divide(x, cap))); }

// The epilogue of a product (N3, N4): add the bias; with a residual, return residual + scale * y.
struct epilogue {
    const float *bias, *residual;
    float scale;
};

DEVICE float finish(epilogue after, float y, int n, size_t at) {
    if (after.bias) y = add(y, after.bias[n]);
    return after.residual ? add(after.residual[at], mul(y, after.scale)) : y;
}

// Whether a product computes a row: with gates, only rows that chose the expert; without gates, every row.
DEVICE bool is_wanted(const float *gates, int stride, int row) { return !gates || gates[(size_t)row * stride] != 0.0f; }

// Consecutive kernels of a graph overlap (programmatic dependent launch, from compute capability 9.0 on): the next
// kernel's blocks may start as soon as all blocks of this one have called `start_next`; they wait in `await_previous`
// until this kernel's writes are visible. So a kernel must not read another kernel's output, or write anything, before
// `await_previous`, and every thread of every kernel calls it, so that the writes of all earlier kernels are visible,
// too. Weights may be prefetched earlier.
#ifndef CUDA_EMU
DEVICE void start_next() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
DEVICE void await_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
#endif
#ifndef CUDA_EMU
// A barrier among the `count` blocks of a cooperative launch that share a counter, which starts at zero. All their writes
// before it are visible to all their threads after it.
DEVICE void group_barrier(uint32_t *arrived, uint32_t count) {
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        const uint32_t all = (atomicAdd(arrived, 1) / count + 1) * count;  // one more round
        for (uint32_t there = 0; there < all;)
            asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(there) : "l"(arrived) : "memory");
        __threadfence();
    }
    __syncthreads();
}
#endif

DEVICE void in_turn() {  // for kernels without work before `await_previous`
    start_next();
    await_previous();
}

// Copy 16, 8 or 4 bytes to shared memory asynchronously, zeros where `is_there` is false. The calling thread sees them
// after its wait, others after a barrier behind the wait. The emulator copies at the wait and not before.
template <int BYTES>
DEVICE void copy_async(void *to, const void *from, bool is_there) {
#ifdef CUDA_EMU
    emu::copy_async(to, from, BYTES, is_there ? BYTES : 0);
#else
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(to);
    const int wanted = is_there ? BYTES : 0;
    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(wanted) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(at), "l"(from), "n"(BYTES), "r"(wanted)
                     : "memory");
#endif
}

DEVICE void commit_copies() {  // the copies since the last commit become a group
#ifdef CUDA_EMU
    emu::commit_copies();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int NUM_LEFT>
DEVICE void wait_for_copies() {  // until at most NUM_LEFT groups are in flight
#ifdef CUDA_EMU
    emu::wait_for_copies(NUM_LEFT);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(NUM_LEFT) : "memory");
#endif
}

// N4: round a warp's 32 values, one a lane, to a group of int8 and its scale. With a = max |x|: q = 0 and s = 0 where
// a < 2^-100, else s = a / 127 and q = rint(x * (127 / a)).
DEVICE void quantize_group(float value, int8_t *q, float *scales, size_t group) {
    const int lane = threadIdx.x % WARP;
    const float largest = largest_of_warp(fabsf(value));
    const bool is_zero = largest < 7.888609052210118e-31f;  // 2^-100
    const float factor = is_zero ? 0.0f : divide(127.0f, largest);
    q[group * GROUP + lane] = (int8_t)(int)rintf(mul(value, factor));
    if (lane == 0) scales[group] = is_zero ? 0.0f : divide(largest, 127.0f);
}
