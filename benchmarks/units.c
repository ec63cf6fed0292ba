/* What the processor's units do in registers, in operations a second: `name rate` a line, a line for each that is there.
 *
 * bfloat16     its own dot products, which the contract cannot use: they round as they like (N3)
 * bytes        dot products of int8
 * bytes_scaled the same with what a group of 32 takes beside them (N4): to float, times the product of two scales, added
 */
#ifdef __x86_64__
#include <immintrin.h>
#endif
#include <stdio.h>
#include <time.h>

#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
#define HIDE(value) __asm__ volatile("" : "+v"(value)) /* from the compiler, which would compute it once */
enum { SUMS = 12, ROUNDS = 6000000, QUADS = 8 };

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

#ifdef __AVX512BF16__
static double bfloat16(void) {
    __m512bh x = (__m512bh)_mm512_set1_epi16(1), w = x;
#define FLOAT_SUM(i)                     \
    __m512 sum##i = _mm512_setzero_ps(); \
    HIDE(sum##i);
#define FLOAT_DOT(i) sum##i = _mm512_dpbf16_ps(sum##i, w, x);
#define KEEP(i) HIDE(sum##i);
    EACH(FLOAT_SUM)
    double start = now();
    for (long round = 0; round < QUADS * (long)ROUNDS; round++) { EACH(FLOAT_DOT) }
    double seconds = now() - start;
    EACH(KEEP)
    return (double)QUADS * ROUNDS * SUMS * 64 / seconds;
}
#endif

#ifdef __AVX512VNNI__
static inline __attribute__((always_inline)) double bytes(const int is_scaled) {
    __m512i x = _mm512_set1_epi32(0x01010101), w = x;
    __m512 factor = _mm512_set1_ps(1), scale = factor;
    EACH(FLOAT_SUM)
    double start = now();
    for (long round = 0; round < ROUNDS; round++) {
#define INTEGER_SUM(i)   \
    __m512i dots##i = x; \
    HIDE(dots##i);
#define INTEGER_DOT(i) dots##i = _mm512_dpbusd_epi32(dots##i, w, x);
#define SCALE(i)  \
    HIDE(factor); \
    sum##i = _mm512_add_ps(sum##i, _mm512_mul_ps(_mm512_cvtepi32_ps(dots##i), _mm512_mul_ps(factor, scale)));
#define TAKE(i) HIDE(dots##i);
        EACH(INTEGER_SUM)
        for (int quad = 0; quad < QUADS; quad++) { EACH(INTEGER_DOT) HIDE(w); }
        if (is_scaled) {
            EACH(SCALE)
        } else {
            EACH(TAKE)
        }
    }
    double seconds = now() - start;
    EACH(KEEP)
    return (double)QUADS * ROUNDS * SUMS * 128 / seconds;
}
#endif

int main(void) {
#ifdef __AVX512BF16__
    printf("bfloat16 %g\n", bfloat16());
#endif
#ifdef __AVX512VNNI__
    printf("bytes %g\n", bytes(0));
    printf("bytes_scaled %g\n", bytes(1));
#endif
}
