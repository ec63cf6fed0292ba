/* float32 to float16 and bfloat16, rounded to nearest-even, and back, exactly (N1).
 *
 * Overflow gives an infinity, subnormals are kept, NaN stays NaN. `widen_half` in vector.h is for weights, which are all
 * finite; here any bits are valid.
 */
INLINE uint16_t half_of(float x) {
    uint32_t bits = bits_of(x), magnitude = bits & 0x7FFFFFFF;
    uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f); /* the last place of 0.5 is 2^-24 */
    uint32_t half = (magnitude - (112u << 23) + 0xFFF + (magnitude >> 13 & 1)) >> 13;
    half = half < 0x7C00 ? half : 0x7C00;
    half = magnitude < 113u << 23 ? subnormal : half;
    half = magnitude > 0x7F800000 ? 0x7E00 : half;
    return (uint16_t)(half | (bits >> 16 & 0x8000));
}

INLINE uint16_t bfloat_of(float x) {
    uint32_t bits = bits_of(x), rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
    return (uint16_t)((bits & 0x7FFFFFFF) > 0x7F800000 ? 0x7FC0 : rounded);
}

INLINE float float_of_half(uint16_t half) {
    uint32_t magnitude = (half & 0x7FFFu) << 13, sign = (half & 0x8000u) << 16;
    uint32_t subnormal = bits_of(float_of(magnitude + (113u << 23)) - 0x1p-14f);
    uint32_t normal = magnitude + (112u << 23) + (magnitude >= 31u << 23 ? 112u << 23 : 0);
    return float_of(sign | (magnitude < 1u << 23 ? subnormal : normal));
}

static void narrow_all(const float *x, long n, int dtype, void *stored, long step) {
    if (dtype == FLOAT32)
        for (long i = 0; i < n; i++) ((float *)stored)[i * step] = x[i];
    else if (dtype == FLOAT16)
        for (long i = 0; i < n; i++) ((uint16_t *)stored)[i * step] = half_of(x[i]);
    else
        for (long i = 0; i < n; i++) ((uint16_t *)stored)[i * step] = bfloat_of(x[i]);
}

static void widen_all(const void *stored, long n, int dtype, float *y) {
    const uint16_t *bits = stored;
    long i = 0;
    if (dtype == FLOAT32) {
        memcpy(y, stored, n * sizeof(float));
    } else if (dtype == FLOAT16) {
#ifdef LEVEL_AVX512
        for (; i + WIDTH <= n; i += WIDTH)
            _mm512_storeu_ps(y + i, _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(bits + i))));
#endif
        for (; i < n; i++) y[i] = float_of_half(bits[i]);
    } else {
        for (; i < n; i++) y[i] = float_of((uint32_t)bits[i] << 16);
    }
}
