/* AVX-512 with VNNI (Ice Lake, Zen 4 and later): vectors of sixteen floats, four products of bytes a lane at once. */
#ifdef __x86_64__
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512bw,avx512vl,avx512dq,avx512vnni"))), apply_to = function)
#else
#pragma GCC target("avx512bw,avx512vl,avx512dq,avx512vnni,prefer-vector-width=512") /* else loops use 256 bits */
#endif
#include <immintrin.h>
#define TABLE avx512_kernels
#define NAME "avx512"
#define LEVEL_AVX512
#define WIDTH 16
#define FLOAT_ROWS 6
#define FLOAT_VECTORS 4
#define INTEGER_ROWS 4
#include "table.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
