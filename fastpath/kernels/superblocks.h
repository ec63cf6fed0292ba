/* Tiles of the formats whose scales are integers times one number a block of 256 (N4g).
 *
 * A group's sum is an exact integer, dot products times factors, and so is the order of its parts free. Minimums are
 * summed in a second pass over a block, whose sums take the registers of the first.
 */

/* The integers that lie in the low or the high halves of a word's bytes; of 6 bits, with bits 4 and 5 of `tops`. */
INLINE ivec low_integers(ivec word, ivec tops, const int bits) {
    ivec low = word & 0x0F0F0F0F;
    return bits == 6 ? low | (tops & 0x30303030) : low;
}

INLINE ivec high_integers(ivec word, ivec tops, const int bits) { return low_integers(word >> 4, tops, bits); }

/* WIDTH factors of 8 bits as floats. (Compilers convert bytes to floats in one step lane by lane.) */
INLINE vec widen_factors(const uint8_t *address, const int is_signed) {
#ifdef LEVEL_AVX512
    __m128i bytes = _mm_loadu_si128((const void *)address);
    return (vec)_mm512_cvtepi32_ps(is_signed ? _mm512_cvtepi8_epi32(bytes) : _mm512_cvtepu8_epi32(bytes));
#elif defined LEVEL_AVX2
    __m128i bytes = _mm_loadl_epi64((const void *)address);
    return (vec)_mm256_cvtepi32_ps(is_signed ? _mm256_cvtepi8_epi32(bytes) : _mm256_cvtepu8_epi32(bytes));
#else
    signed_bytes bytes;
    memcpy(&bytes, address, sizeof bytes);
    ivec integers = __builtin_convertvector(bytes, ivec);
    return __builtin_convertvector(is_signed ? integers : integers & 255, vec);
#endif
}

/* Groups start to stop - 1, whole blocks, of the outputs from `first` on, for some rows of x. */
INLINE void superblock_tile(const struct matrix *w, const struct quantized *x, float *y, long first, long start,
                            long stop, struct prefetch fetch, const int format, const int rows, const int vectors) {
    const int bits = bits_of_format(format), parts = parts_of(format), offset = offset_of(format);
    const int quads = bits == 8 ? 8 : 4, dot_format = bits == 8 ? W8A8 : W4A8, words = GROUP / 32 * bits;
    const long group = group_bytes(format), groups = w->inputs / GROUP, is_alone = fetch.next == NULL;
    const uint8_t *at = (const uint8_t *)w->weights + (first / STRIP * groups + start) * step_bytes(format);
    for (; start < stop; start += BLOCK_GROUPS) {
        const int8_t *integers = x->integers + start * GROUP;
        const float *scales = x->scales + start;
        const int32_t *sums = x->sums + start * 2;
        const uint8_t *factors = at + words * STRIP * 4 + first % STRIP, *minimum_factors = factors + parts * STRIP;
        EACH_ROW(NAME_SUMS)
        for (long g = 0; g < BLOCK_GROUPS; g++, at += group) {
            const uint8_t *weights = at + first % STRIP * 4, *tops = weights + 4 * STRIP * 4;
#define START(r, part)                                                            \
    splat_integer(offset == 128 && !TAKES_BYTES                                   \
                      ? 0                                                         \
                      : -offset * (parts == 2 ? sums[(r * groups + g) * 2 + part] \
                                              : sums[(r * groups + g) * 2] + sums[(r * groups + g) * 2 + 1]))
#define NAME_PARTS(r)                                                                                            \
    ivec low##r##0 = {0}, low##r##1, low##r##2, low##r##3, high##r##0 = {0}, high##r##1, high##r##2, high##r##3; \
    if (r < rows) low##r##0 = START(r, 0);                                                                       \
    if (r < rows && parts == 2) high##r##0 = START(r, 1);                                                        \
    low##r##1 = low##r##2 = low##r##3 = low##r##0, high##r##1 = high##r##2 = high##r##3 = high##r##0;
#define LOAD_TOPS(_, v) \
    ivec tops##v = {0}; \
    if (v < vectors && bits == 6) tops##v = load_integers(tops + (quad / 2 * STRIP + v * WIDTH) * 4);
#define LOW_TOPS0(v) tops##v << 4
#define HIGH_TOPS0(v) tops##v << 2
#define LOW_TOPS1(v) tops##v
#define HIGH_TOPS1(v) tops##v >> 2
#define UNPACK(odd, v)                                                               \
    ivec first##v = {0}, second##v = {0};                                            \
    if (v < vectors) {                                                               \
        ivec word = load_integers(weights + ((quad + odd) * STRIP + v * WIDTH) * 4); \
        first##v = bits == 8 ? word : low_integers(word, LOW_TOPS##odd(v), bits);    \
        if (bits != 8) second##v = high_integers(word, HIGH_TOPS##odd(v), bits);     \
    }
#define ADD_FIRST(r, v) \
    if (v < vectors) low##r##v = add_dot(low##r##v, first##v, four, dot_format);
#define ADD_SECOND(r, v)                                                                        \
    if (v < vectors && parts == 1) low##r##v = add_dot(low##r##v, second##v, four, dot_format); \
    if (v < vectors && parts == 2) high##r##v = add_dot(high##r##v, second##v, four, dot_format);
#define ADD_WORDS(r, odd)                                                               \
    if (r < rows) {                                                                     \
        const int8_t *four_at = integers + (r * groups + g) * GROUP + (quad + odd) * 4; \
        int32_t four = four_bytes(four_at);                                             \
        EACH_VECTOR(ADD_FIRST, r)                                                       \
        if (bits != 8) {                                                                \
            four = four_bytes(four_at + GROUP / 2);                                     \
            EACH_VECTOR(ADD_SECOND, r)                                                  \
        }                                                                               \
    }
#define FACTORS(_, v)                                                               \
    vec factor##v = {0}, other##v = {0};                                            \
    if (v < vectors) factor##v = widen_factors(factors + g * group + v * WIDTH, 1); \
    if (v < vectors && parts == 2) other##v = widen_factors(factors + g * group + STRIP + v * WIDTH, 1);
#define ADD_EXACT(r, v)                                                               \
    if (v < vectors) {                                                                \
        vec exact = __builtin_convertvector(low##r##v, vec) * factor##v;              \
        if (parts == 2) exact += __builtin_convertvector(high##r##v, vec) * other##v; \
        sum##r##v += exact * scale;                                                   \
    }
#define ADD_EXACTS(r)                              \
    if (r < rows) {                                \
        vec scale = splat(scales[r * groups + g]); \
        EACH_VECTOR(ADD_EXACT, r)                  \
    }
            EACH_ROW(NAME_PARTS)
            ROLLED for (int quad = 0; quad < quads; quad += 2) {
                if (is_alone) {
                    prefetch_weights(weights + PREFETCH_DISTANCE + quad * STRIP * 4, vectors * WIDTH * 4);
                    prefetch_weights(weights + PREFETCH_DISTANCE + (quad + 1) * STRIP * 4, vectors * WIDTH * 4);
                    if (bits == 6)
                        prefetch_weights(tops + PREFETCH_DISTANCE + quad / 2 * STRIP * 4, vectors * WIDTH * 4);
                }
                EACH_VECTOR(LOAD_TOPS, ) { EACH_VECTOR(UNPACK, 0) EACH_ROW(ADD_WORDS, 0) }
                { EACH_VECTOR(UNPACK, 1) EACH_ROW(ADD_WORDS, 1) }
            }
            EACH_VECTOR(FACTORS, )
            EACH_ROW(ADD_EXACTS)
            if (is_alone)
                prefetch_weights(at + PREFETCH_DISTANCE + words * STRIP * 4, LINE * parts * (1 + has_minimum(format)));
            else prefetch_next(&fetch);
        }
        const uint8_t *numbers = at + first % STRIP * 2;
#define SCALE_BLOCK(r, v) \
    if (v < vectors) sum##r##v *= widen(numbers + v * WIDTH * 2, FLOAT16, 0);
#define SCALE_BLOCKS(r) \
    if (r < rows) { EACH_VECTOR(SCALE_BLOCK, r) }
        EACH_ROW(SCALE_BLOCKS)
        if (has_minimum(format)) {
#define NAME_BELOW(r) vec below##r##0 = {0}, below##r##1 = {0}, below##r##2 = {0}, below##r##3 = {0};
#define MINIMUM_FACTORS(_, v) \
    vec factor##v = {0};      \
    if (v < vectors) factor##v = widen_factors(minimum_factors + g * group + part * STRIP + v * WIDTH, 0);
#define ADD_BELOW(r, v) \
    if (v < vectors) below##r##v += scaled * factor##v;
#define ADD_BELOWS(r)                                                                    \
    if (r < rows) {                                                                      \
        const int32_t *halves = sums + (r * groups + g) * 2;                             \
        vec scaled = splat((float)(parts == 2 ? halves[part] : halves[0] + halves[1])) * \
                     splat(scales[r * groups + g]);                                      \
        EACH_VECTOR(ADD_BELOW, r)                                                        \
    }
#define TAKE_BELOW(r, v) \
    if (v < vectors) sum##r##v -= below##r##v * widen(numbers + (STRIP + v * WIDTH) * 2, FLOAT16, 0);
#define TAKE_BELOWS(r) \
    if (r < rows) { EACH_VECTOR(TAKE_BELOW, r) }
            EACH_ROW(NAME_BELOW)
            for (long g = 0; g < BLOCK_GROUPS; g++)
                ROLLED for (int part = 0; part < parts;
                            part++){EACH_VECTOR(MINIMUM_FACTORS, ) EACH_ROW(ADD_BELOWS)} EACH_ROW(TAKE_BELOWS)
        }
        at += STRIP * 2 * (1 + has_minimum(format));
#define ADD_ZERO(r, v) \
    if (v < vectors) sum##r##v += (vec){0}; /* a total of -0 becomes +0, also where it is the first */
#define ADD_ZEROS(r) \
    if (r < rows) { EACH_VECTOR(ADD_ZERO, r) }
        EACH_ROW(ADD_ZEROS)
        EACH_ROW(ADD_ROW)
    }
}
