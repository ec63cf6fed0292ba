/* AVX2: vectors of eight floats; no fused multiply-add, since N0 rounds every product. */
#ifdef __x86_64__
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif
#include <immintrin.h>
#define TABLE avx2_kernels
#define NAME "avx2"
#define LEVEL_AVX2
#define WIDTH 8
#define FLOAT_ROWS 5
#define FLOAT_VECTORS 2
#define INTEGER_ROWS 3
#include "table.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
