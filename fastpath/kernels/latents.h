/* Pages of latents (N8a): keys whose last features are their values; both layouts are needed, one is stored.
 *
 * Scores read 16 keys side by side, values one key after the other: a block's latents are transposed once for all rows
 * that share it, which is little beside what 64 rows compute of them.
 */
#ifdef LEVEL_AVX512
/* 16 features of 16 keys. */
INLINE void transpose_tile(const float *keys, float *values, long padded) {
    __m512 a[PACK], b[PACK];
    UNROLL for (int i = 0; i < PACK; i++) a[i] = _mm512_loadu_ps(keys + i * PACK);
    UNROLL for (int i = 0; i < PACK; i += 2) {
        b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]), b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
    UNROLL for (int i = 0; i < PACK; i += 4) UNROLL for (int j = 0; j < 2; j++) {
        __m512d low = _mm512_castps_pd(b[i + j]), high = _mm512_castps_pd(b[i + 2 + j]);
        a[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
        a[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
    }
    UNROLL for (int i = 0; i < 4; i++) {
        b[i] = _mm512_shuffle_f32x4(a[i], a[i + 4], 0x88), b[i + 4] = _mm512_shuffle_f32x4(a[i], a[i + 4], 0xDD);
        b[i + 8] = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0x88);
        b[i + 12] = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0xDD);
    }
    UNROLL for (int i = 0; i < 8; i++) {
        _mm512_storeu_ps(values + i * padded, _mm512_shuffle_f32x4(b[i], b[i + 8], 0x88));
        _mm512_storeu_ps(values + (i + 8) * padded, _mm512_shuffle_f32x4(b[i], b[i + 8], 0xDD));
    }
}
#else
INLINE void transpose_tile(const float *keys, float *values, long padded) {
    for (int j = 0; j < PACK; j++)
        for (int i = 0; i < PACK; i++) values[j * padded + i] = keys[i * PACK + j];
}
#endif

/* The latents of a page, (rank, 16), as values (16, padded), with zeros past the last; returns them. */
static const float *transpose_page(const float *keys, long rank, long padded, float *values) {
    long d = 0;
    for (; d + PACK <= rank; d += PACK) transpose_tile(keys + d * PACK, values + d, padded);
    for (; d < padded; d++)
        for (int j = 0; j < PACK; j++) values[j * padded + d] = d < rank ? keys[d * PACK + j] : 0.0f;
    return values;
}
