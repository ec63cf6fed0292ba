/* Vectors of WIDTH floats in GCC's and clang's portable notation, where * and + round each lane (N0). */
#include <stddef.h>
#include <math.h>
#include <string.h>

#include "kernels.h"

/* Vectorise loops whatever happens to exception flags, as clang does. No bit depends on it. */
#ifndef __clang__
#pragma GCC optimize("no-trapping-math", "no-math-errno")
#endif

#define INLINE static inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))
#define UNROLL _Pragma("GCC unroll 16")
#define ROLLED _Pragma("GCC unroll 1")
#define LINE 64                /* bytes of a cache line */
#define VECTORS (PACK / WIDTH) /* vectors that hold one pack */

typedef float vec __attribute__((vector_size(4 * WIDTH)));
typedef int32_t ivec __attribute__((vector_size(4 * WIDTH)));
typedef uint32_t uvec __attribute__((vector_size(4 * WIDTH)));
typedef int16_t wordvec __attribute__((vector_size(4 * WIDTH)));
typedef uint16_t halfvec __attribute__((vector_size(2 * WIDTH)));
typedef int8_t signed_bytes __attribute__((vector_size(WIDTH)));

INLINE long min(long a, long b) { return a < b ? a : b; }

INLINE vec load(const float *address) {
    vec v;
    memcpy(&v, address, sizeof v);
    return v;
}

INLINE void store(float *address, vec v) { memcpy(address, &v, sizeof v); }

INLINE vec splat(float x) { return x - (vec){0}; } /* minus, since -0 + 0 is +0 */

INLINE ivec splat_integer(int32_t x) { return x + (ivec){0}; }

/* Finite float16 to float32, exactly (N1): rebase the exponent; a subnormal counts from 2^-14 up. */
INLINE vec widen_half(halfvec half) {
#ifdef LEVEL_AVX512
    return (vec)_mm512_cvtph_ps((__m256i)half);
#else
    uvec bits = __builtin_convertvector(half, uvec);
    uvec magnitude = (bits & 0x7FFF) << 13, lowest = (uvec){0} + (113u << 23);
    vec subnormal = (vec)(magnitude + lowest) - (vec)lowest;
    uvec is_subnormal = (uvec)(magnitude < (uvec){0} + (1u << 23));
    uvec widened = (is_subnormal & (uvec)subnormal) | (~is_subnormal & (magnitude + (112u << 23)));
    return (vec)(widened | (bits & 0x8000) << 16);
#endif
}

/* A vector of packed weights (kernels.h) to float32, exactly (N1); `input` is 0 or 1 of a pair of bfloat16 inputs. */
INLINE vec widen(const void *weights, const int format, const int input) {
    if (format == FLOAT32) return load(weights);
    if (format == BFLOAT16) {
        uvec pairs;
        memcpy(&pairs, weights, sizeof pairs);
        return (vec)(input ? pairs & 0xFFFF0000 : pairs << 16);
    }
    halfvec bits;
    memcpy(&bits, weights, sizeof bits);
    return widen_half(bits);
}
