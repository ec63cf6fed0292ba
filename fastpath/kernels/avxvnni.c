/* AVX-VNNI (Alder Lake, Zen 5 and later): AVX2's table, with products of integers that one instruction multiplies and adds.
 *
 * With AVX512_VNNI_HALVES, which a test defines, the same instructions are those of AVX-512 over 256 bits.
 */
#include "kernels.h"

#if defined __x86_64__ && (defined __clang__ || __GNUC__ >= 11)
#ifdef AVX512_VNNI_HALVES
#pragma GCC target("avx2,avx512vl,avx512vnni")
#define ADD_BYTE_PRODUCTS _mm256_dpbusd_epi32
#define ADD_PAIR_PRODUCTS _mm256_dpwssd_epi32
#else
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,avxvnni"))), apply_to = function)
#else
#pragma GCC target("avx2,avxvnni")
#endif
#define ADD_BYTE_PRODUCTS _mm256_dpbusd_avx_epi32
#define ADD_PAIR_PRODUCTS _mm256_dpwssd_avx_epi32
#endif
#include <cpuid.h>
#include <immintrin.h>
#define LEVEL_AVX2
#define WIDTH 8
#define FLOAT_ROWS 5
#define FLOAT_VECTORS 2
#define INTEGER_ROWS 3
#pragma GCC diagnostic ignored "-Wunused-function"
#include "vector.h"
#include "elementwise.h"
#include "tiles.h"
#include "superblocks.h"
#include "products.h"
#include "blocks.h"
#include "block_products.h"

static int has_products(void) {
#ifdef AVX512_VNNI_HALVES
    return 1;
#else
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
#endif
}

const struct kernels *avxvnni_kernels(void) {
    static struct kernels table;
    if (!has_products()) return NULL;
    table = avx2_kernels;
    table.name = "avxvnni", table.linear_quantized = linear_quantized;
    return &table;
}
#if defined __clang__ && !defined AVX512_VNNI_HALVES
#pragma clang attribute pop
#endif
#else
const struct kernels *avxvnni_kernels(void) { return NULL; }
#endif
