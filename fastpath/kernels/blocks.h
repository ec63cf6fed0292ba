/* Integers in blocks of 256 inputs (N4b): y = sum over blocks of float(exact dot of 256) * (s_x * s_w).
 *
 * Sums of a block stay in registers as 32-bit integers, which no sum of products leaves, in any order. Activations of 16
 * bits lie as x0, x2, x1, x3 of each four inputs, so that words of four bytes are widened to two pairs by shifts alone.
 */
/* A stretch of groups of one strip, from the start of a block: where its parts lie for a tile. */
struct stretch {
    const uint8_t *weights;
    const float *scales, *x_scales;
    const int8_t *x;
    const int32_t *corrections;
    float *y;
    long groups, x_groups, outputs, left; /* in the stretch; of a row of x; the step of y; outputs from the strip on */
    int is_first;
};

/* Add the products of two pairs of 16-bit integers to each lane. */
#if defined LEVEL_AVX512
INLINE ivec add_pairs(ivec sums, wordvec a, ivec b) {
    return (ivec)_mm512_dpwssd_epi32((__m512i)sums, (__m512i)a, (__m512i)b);
}
#elif defined ADD_PAIR_PRODUCTS /* of AVX-VNNI */
INLINE ivec add_pairs(ivec sums, wordvec a, ivec b) {
    return (ivec)ADD_PAIR_PRODUCTS((__m256i)sums, (__m256i)a, (__m256i)b);
}
#elif defined LEVEL_AVX2
INLINE ivec add_pairs(ivec sums, wordvec a, ivec b) { return sums + (ivec)_mm256_madd_epi16((__m256i)a, (__m256i)b); }
#elif defined __SSE2__ /* every x86-64 has it */
#include <emmintrin.h>

INLINE ivec add_pairs(ivec sums, wordvec a, ivec b) { return sums + (ivec)_mm_madd_epi16((__m128i)a, (__m128i)b); }
#else
INLINE ivec add_pairs(ivec sums, wordvec a, ivec b) {
    ivec pairs = (ivec)a;
    return sums + (pairs << 16 >> 16) * (b << 16 >> 16) + (pairs >> 16) * (b >> 16);
}
#endif

/* A word of packed weights as pairs of 16-bit integers; `part` counts the pairs of a word. */
INLINE wordvec pairs_of(ivec word, const int part, const int format) {
    if (format == W16A16) return (wordvec)word;
    if (format == W8A16) return part ? (wordvec)word >> 8 : (wordvec)word << 8 >> 8;
    static const int shifts[] = {0, 8, 4, 12};
    return (wordvec)((ivec)((uvec)word >> shifts[part]) & 0x000F000F); /* the integer plus 8 */
}

/* The place among a group's 16 pairs of x. */
INLINE int pair_at(int word, const int part, const int format) {
    return format == W16A16 ? word : format == W8A16 ? word * 2 + part : word * 2 + part % 2 + part / 2 * 8;
}

/* The multipliers of WIDTH outputs. (Compilers convert bytes lane by lane.) */
INLINE ivec load_multipliers(const uint8_t *address) {
#ifdef LEVEL_AVX512
    return (ivec)_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)address));
#elif defined LEVEL_AVX2
    return (ivec)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)address));
#else
    signed_bytes bytes;
    memcpy(&bytes, address, sizeof bytes);
    return __builtin_convertvector(bytes, ivec);
#endif
}

INLINE int32_t sum_of(const int32_t *numbers, long count) {
    int32_t sum = 0;
    for (long i = 0; i < count; i++) sum += numbers[i];
    return sum;
}

/* Add a row's sums of a block, scaled, to y. */
INLINE void add_scaled(const ivec *sums, const vec *scales, float x_scale, const struct stretch *at, float *y,
                       long first, int is_first, const int vectors) {
    vec products[4];
    UNROLL for (int v = 0; v < vectors; v++) /* + 0: a product of -0 becomes +0, also where it is stored */
        products[v] = __builtin_convertvector(sums[v], vec) * (splat(x_scale) * scales[v]) + (vec){0};
    add_block(products, at->left, first, y, is_first, vectors);
}

/* Few rows wait for memory, more for the second cache. (Zen 4: four rows and fewer 1.1 to 1.3 times as fast with the first,
 * six rows with the second.) */
INLINE void prefetch_words(const uint8_t *address, const int bytes, const int rows) {
    if (rows <= 4) prefetch_weights(address, bytes);
    else
        for (int byte = 0; byte < bytes; byte += LINE) __builtin_prefetch(address + byte, 0, 2);
}

/* The outputs from `first` on of a strip, for some rows of x. */
INLINE void block_tile(const struct stretch *at, long first, const int format, const int rows, const int vectors) {
    const int is_wide = takes_pairs(format), has_multipliers = format == W4A16 || format == W4A8_256;
    const int parts = format == W16A16 ? 1 : format == W8A16 ? 2 : format == W4A16 ? 4 : 1;
    const int words = format == W16A16 ? GROUP / 2 : has_multipliers ? GROUP / 8 : GROUP / 4;
    const int dot_format = format == W4A8_256 ? W4A8 : W8A8;
    const long step = at->x_groups * GROUP * (is_wide ? 2 : 1), bytes = step_bytes(format);
    const uint8_t *weights = at->weights + first * 4;
    const float *x_scales = at->x_scales;
    const int32_t *corrections = at->corrections;
    const int8_t *x = at->x;
    for (long start = 0; start < at->groups; start += BLOCK_GROUPS) {
        const long stop = min(start + BLOCK_GROUPS, at->groups);
#define NAME_TOTALS(r) \
        ivec total##r##0 = {0}, total##r##1, total##r##2, total##r##3; \
        if (r < rows && !is_wide && !has_multipliers) \
            total##r##0 = first_dot(sum_of(corrections + r * at->x_groups, stop - start), dot_format); \
        total##r##1 = total##r##2 = total##r##3 = total##r##0;
        EACH_ROW(NAME_TOTALS)
        for (long g = start; g < stop; g++, weights += bytes, x += GROUP * (is_wide ? 2 : 1), corrections++) {
#define NAME_GROUP(r) \
            ivec sum##r##0 = {0}, sum##r##1 = {0}, sum##r##2 = {0}, sum##r##3 = {0}; \
            if (r < rows && !has_multipliers) \
                sum##r##0 = total##r##0, sum##r##1 = total##r##1, sum##r##2 = total##r##2, sum##r##3 = total##r##3; \
            if (r < rows && has_multipliers) { \
                int32_t correction = corrections[r * at->x_groups]; \
                sum##r##0 = is_wide ? splat_integer(correction) : first_dot(correction, dot_format); \
                sum##r##1 = sum##r##2 = sum##r##3 = sum##r##0; \
            }
#define LOAD_WORD(_, v) \
            ivec word##v = {0}; \
            if (v < vectors) word##v = load_integers(weights + (word * STRIP + v * WIDTH) * 4);
#define UNPACK_PAIRS(part, v) \
            wordvec pairs##v = {0}; \
            if (v < vectors) pairs##v = pairs_of(word##v, part, format);
#define ADD_PAIR(r, v) if (v < vectors) sum##r##v = add_pairs(sum##r##v, pairs##v, factors);
#define ADD_ROW_PAIRS(r, part) \
            if (r < rows) { \
                ivec factors = splat_integer(four_bytes(x + r * step + pair_at(word, part, format) * 4)); \
                EACH_VECTOR(ADD_PAIR, r) \
            }
#define EACH_PART(part) if (part < parts) { EACH_VECTOR(UNPACK_PAIRS, part) EACH_ROW(ADD_ROW_PAIRS, part) }
#define ADD_BYTES(r, v) if (v < vectors) sum##r##v = add_dot(sum##r##v, has_multipliers ? word##v & 0x0F0F0F0F : word##v, four, dot_format);
#define ADD_HIGH_BYTES(r, v) if (v < vectors) sum##r##v = add_dot(sum##r##v, word##v >> 4 & 0x0F0F0F0F, four, dot_format);
#define ADD_ROW_BYTES(r) \
            if (r < rows) { \
                int32_t four = four_bytes(x + r * step + word * 4); \
                EACH_VECTOR(ADD_BYTES, r) \
                if (has_multipliers) { \
                    four = four_bytes(x + r * step + word * 4 + GROUP / 2); \
                    EACH_VECTOR(ADD_HIGH_BYTES, r) \
                } \
            }
            EACH_ROW(NAME_GROUP)
            ROLLED for (int word = 0; word < words; word++) {
                prefetch_words(weights + PREFETCH_DISTANCE + word * STRIP * 4, vectors * WIDTH * 4, rows);
                EACH_VECTOR(LOAD_WORD, )
                if (is_wide) { EACH_PART(0) EACH_PART(1) EACH_PART(2) EACH_PART(3) }
                else { EACH_ROW(ADD_ROW_BYTES) }
            }
#define LOAD_MULTIPLIERS(_, v) \
            ivec multiplier##v = {0}; \
            if (v < vectors && has_multipliers) \
                multiplier##v = load_multipliers(weights + words * STRIP * 4 + v * WIDTH - first * 3);
#define ADD_GROUP_SUM(r, v) \
            if (v < vectors) total##r##v = has_multipliers ? total##r##v + sum##r##v * multiplier##v : sum##r##v;
#define ADD_GROUP_SUMS(r) if (r < rows) { EACH_VECTOR(ADD_GROUP_SUM, r) }
            EACH_VECTOR(LOAD_MULTIPLIERS, )
            EACH_ROW(ADD_GROUP_SUMS)
        }
        const float *scales = at->scales + start / BLOCK_GROUPS * STRIP + first;
#define LOAD_SCALE(_, v) \
        vec scale##v = {0}; \
        if (v < vectors) scale##v = load(scales + v * WIDTH);
#define ADD_TOTALS(r) \
        if (r < rows) { \
            ivec totals[] = {total##r##0, total##r##1, total##r##2, total##r##3}; \
            vec factors[] = {scale0, scale1, scale2, scale3}; \
            add_scaled(totals, factors, x_scales[r * at->x_groups], at, at->y + r * at->outputs, first, \
                       at->is_first && start == 0, vectors); \
        }
        EACH_VECTOR(LOAD_SCALE, )
        EACH_ROW(ADD_TOTALS)
        x_scales += BLOCK_GROUPS;
    }
}

/* Four bits and multipliers made into the bytes of W8A16 (signed) or W8A8_256 (plus 128), once for many rows. */
static void expand(const uint8_t *weights, long groups, int format, uint8_t *expanded) {
    for (; groups > 0; groups--, weights += step_bytes(format), expanded += GROUP * STRIP) {
        const ivec offset = splat_integer(format == W4A16 ? 0 : (int32_t)0x80808080);
        for (int v = 0; v < STRIP; v += WIDTH) {
            ivec multipliers = load_multipliers(weights + GROUP / 2 * STRIP + v) & 0xFFFF;
            wordvec factors = (wordvec)(multipliers | multipliers << 16);
            for (int word = 0; word < GROUP / 4; word++) {
                ivec packed = load_integers(weights + (word % 4 * STRIP + v) * 4);
                packed = (ivec)((uvec)packed >> (word < 4 ? 0 : 4));
                wordvec even = ((wordvec)(packed & 0x000F000F) - 8) * factors;
                wordvec odd = ((wordvec)((ivec)((uvec)packed >> 8) & 0x000F000F) - 8) * factors;
                ivec bytes = (((ivec)even & 0x00FF00FF) | (ivec)(odd << 8)) ^ offset;
                memcpy(expanded + (word * STRIP + v) * 4, &bytes, sizeof bytes);
            }
        }
    }
}

/* N4b: one block of activations, padded with zeros, as integers of 16 bits. */
INLINE void quantize_wide(float *block, long groups, int16_t *integers, float *scale, int32_t *corrections) {
    int32_t largest_bits = 0;
    for (int i = 0; i < BLOCK; i++) {
        int32_t bits = (int32_t)(bits_of(block[i]) & 0x7FFFFFFF);
        largest_bits = bits > largest_bits ? bits : largest_bits;
    }
    if (largest_bits >= 0x7F800000 || float_of((uint32_t)largest_bits) < 0x1p-100f) {
        memset(integers, 0, groups * GROUP * sizeof *integers);
        memset(corrections, 0, groups * sizeof *corrections);
        *scale = largest_bits >= 0x7F800000 ? NAN : 0.0f;
        return;
    }
    uint32_t exponent = (uint32_t)largest_bits >> 23;
    float power = float_of((268 - exponent) << 23), inverse = float_of((exponent - 14) << 23);
    for (int i = 0; i < BLOCK; i++) block[i] *= power;
    float norm = sqrtf(sum_of_squares(block, BLOCK)) / 46330.0f, step = float_of((uint32_t)largest_bits) * power / 32512.0f;
    step = norm > step ? norm : step;
    float factor = 1.0f / step;
    *scale = step * inverse;
    for (long g = 0; g < groups; g++, block += GROUP, integers += GROUP) {
        int32_t values[GROUP], sum = 0;
        for (int i = 0; i < GROUP; i++) values[i] = (int32_t)(bits_of(block[i] * factor + ROUNDER) - ROUNDER_BITS);
        for (int i = 0; i < GROUP; i++) sum += values[i];
        corrections[g] = -8 * sum;
        for (int i = 0; i < GROUP; i += 4) {
            integers[i] = (int16_t)values[i], integers[i + 1] = (int16_t)values[i + 2];
            integers[i + 2] = (int16_t)values[i + 1], integers[i + 3] = (int16_t)values[i + 3];
        }
    }
}

/* The same as integers of 8 bits. */
INLINE void quantize_bytes(const float *block, long groups, int8_t *integers, float *scale, int32_t *corrections) {
    int32_t largest_bits = 0;
    for (int i = 0; i < BLOCK; i++) {
        int32_t bits = (int32_t)(bits_of(block[i]) & 0x7FFFFFFF);
        largest_bits = bits > largest_bits ? bits : largest_bits;
    }
    float largest = float_of((uint32_t)largest_bits);
    int is_finite = largest_bits < 0x7F800000, is_zero = !is_finite || largest < 0x1p-100f;
    *scale = !is_finite ? NAN : is_zero ? 0.0f : largest / 127.0f;
    if (is_zero) {
        memset(integers, 0, groups * GROUP);
        memset(corrections, 0, groups * sizeof *corrections);
        return;
    }
    float factor = 127.0f / largest;
    for (long g = 0; g < groups; g++, block += GROUP, integers += GROUP) {
        int32_t sum = 0;
        for (int i = 0; i < GROUP; i++) integers[i] = (int8_t)(bits_of(block[i] * factor + ROUNDER) - ROUNDER_BITS);
        for (int i = 0; i < GROUP; i++) sum += integers[i];
        corrections[g] = -128 * sum;
    }
}

static void quantize_blocks(const float *x, long rows, long n, int format, const struct quantized *out) {
    long groups = (n + GROUP - 1) / GROUP;
    for (long row = 0; row < rows; row++, x += n)
        for (long g = 0; g < groups; g += BLOCK_GROUPS) {
            float block[BLOCK] = {0};
            memcpy(block, x + g * GROUP, min(n - g * GROUP, BLOCK) * sizeof(float));
            long at = row * groups + g, count = min(BLOCK_GROUPS, groups - g);
            if (takes_pairs(format))
                quantize_wide(block, count, (int16_t *)out->integers + at * GROUP, out->scales + at, out->corrections + at);
            else quantize_bytes(block, count, out->integers + at * GROUP, out->scales + at, out->corrections + at);
        }
}
