/* Matrix products: outputs in lanes, a few rows at a time, every output summed in the one order of the contract.
 *
 * linear            y[m,n] = sum over k of x[m,k] w[n,k]: in order inside blocks of 256, then block after block (N3)
 * linear_quantized  y[m,n] = sum over groups g of float(dot of 32 int8) * (s_x[m,g] * s_w[n,g]), summed alike (N4)
 *
 * A tile is some rows by some vectors of outputs; its block sums stay in registers, or in the L1 cache, and go to y once
 * a block. Rows come in panels that fit the L2 cache; weights are read from memory once a panel. The size of a tile
 * changes locality and no sum; the level sets FLOAT_ROWS, FLOAT_VECTORS and INTEGER_ROWS to what its registers hold.
 * (Integer tiles have a few sums more: each is used once a group only.)
 */
enum { PANEL_BYTES = 384 * 1024, INTEGER_VECTORS = 4, BLOCK_GROUPS = BLOCK / GROUP };

/* Weights are prefetched into the L1 cache where it is large enough, else into L2. (With L1, Zen 5 with 48 KB reads 1.2
 * to 1.5 times as fast; Zen 4 with 32 KB was slower than without: docs/log.md.) */
enum { PREFETCH_DISTANCE = 8192, LARGE_FIRST_CACHE = 48 * 1024 };

/* A stretch is at most so many bytes of a strip: whole blocks. */
enum { FEW_TILES = 4, SHORT_STRETCH = 18 * 1024, LONG_STRETCH = 72 * 1024 };

INLINE int prefetches_to_first_cache(void) { return first_cache_bytes >= LARGE_FIRST_CACHE; }

/* Compilers keep scalars in registers, and arrays only sometimes: a tile of at most 8 rows by 4 vectors has a variable
 * for the sum of each row and vector. `rows` and `vectors` are compile-time constants, so unused sums cost nothing. */
// clang-format off
#define EACH_ROW(DO, ...) DO(0, ##__VA_ARGS__) DO(1, ##__VA_ARGS__) DO(2, ##__VA_ARGS__) DO(3, ##__VA_ARGS__) \
    DO(4, ##__VA_ARGS__) DO(5, ##__VA_ARGS__) DO(6, ##__VA_ARGS__) DO(7, ##__VA_ARGS__)
// clang-format on
#define EACH_VECTOR(DO, r) DO(r, 0) DO(r, 1) DO(r, 2) DO(r, 3)
#define NAME_SUM(r, v) vec sum##r##v = {0};
#define NAME_SUMS(r) EACH_VECTOR(NAME_SUM, r)
#define ADD_ROW(r)                                                                   \
    if (r < rows) {                                                                  \
        vec sums[] = {sum##r##0, sum##r##1, sum##r##2, sum##r##3};                   \
        add_block(sums, w->outputs, first, y + r * w->outputs, start == 0, vectors); \
    }

/* Add one row's block sums to the totals in y; the first block's are stored. Some lanes may lie past the last output. A
 * sum from +0 is never -0, so adding the first block's to zero would change nothing. */
INLINE void add_block(const vec *sums, long outputs, long first, float *y, int is_first, const int vectors) {
    UNROLL for (int v = 0; v < vectors; v++, first += WIDTH) {
        if (first + WIDTH <= outputs) {
            store(y + first, is_first ? sums[v] : load(y + first) + sums[v]);
        } else {
            float lanes[WIDTH];
            memcpy(lanes, &sums[v], sizeof lanes);
            for (long i = 0; first + i < outputs; i++) y[first + i] = is_first ? lanes[i] : y[first + i] + lanes[i];
        }
    }
}

/* N3: inputs start to stop - 1 of the outputs from `first` on, for some rows of x. */
INLINE void float_tile(const struct matrix *w, const float *x, float *y, long first, long start, long stop,
                       const int format, const int rows, const int vectors) {
    const long size = format == FLOAT32 ? 4 : 2, packed = format == BFLOAT16 ? 2 : 1; /* inputs packed side by side */
    const char *weights = (const char *)w->weights + first / STRIP * strip_bytes(w) + first % STRIP * packed * size;
    const int near = prefetches_to_first_cache();
    EACH_ROW(NAME_SUMS)
    for (long k = start; k < stop; k += packed) {
        const char *at = weights + k * STRIP * size;
        for (long byte = 0; byte < vectors * WIDTH * size * packed; byte += LINE) {
            if (near) __builtin_prefetch(at + PREFETCH_DISTANCE + byte, 0, 3);
            else if (rows > 1) __builtin_prefetch(at + PREFETCH_DISTANCE + byte, 0, 2); /* one row: the hardware prefetcher suffices */
        }
#define COLUMN(input, v) \
        vec column##v = {0}; \
        if (v < vectors) column##v = widen(at + v * WIDTH * size * packed, format, input);
#define ADD_PRODUCT(r, v) if (v < vectors) sum##r##v += value * column##v;
#define ADD_PRODUCTS(r, input) \
        if (r < rows) { \
            vec value = splat(x[r * w->inputs + k + input]); \
            EACH_VECTOR(ADD_PRODUCT, r) \
        }
        { EACH_VECTOR(COLUMN, 0) EACH_ROW(ADD_PRODUCTS, 0) }
        if (packed == 2 && k + 1 < stop) { EACH_VECTOR(COLUMN, 1) EACH_ROW(ADD_PRODUCTS, 1) }
    }
    EACH_ROW(ADD_ROW)
}

/* Add four products of bytes to each 32-bit lane: weights are unsigned (the integer plus 128 or 8), x is signed. The
 * offset is subtracted from the sum's initial value, or from the weights where instructions need bytes below 128. */
#ifdef LEVEL_AVX512
enum { TAKES_BYTES = 1 };

INLINE ivec add_dot(ivec dots, ivec weights, int32_t x, const int format) {
    return (void)format, (ivec)_mm512_dpbusd_epi32((__m512i)dots, (__m512i)weights, _mm512_set1_epi32(x));
}
#elif defined ADD_BYTE_PRODUCTS /* of AVX-VNNI */
enum { TAKES_BYTES = 1 };

INLINE ivec add_dot(ivec dots, ivec weights, int32_t x, const int format) {
    return (void)format, (ivec)ADD_BYTE_PRODUCTS((__m256i)dots, (__m256i)weights, _mm256_set1_epi32(x));
}
#else
enum { TAKES_BYTES = 0 };

#ifdef LEVEL_AVX2
INLINE ivec add_dot(ivec dots, ivec weights, int32_t x, const int format) {
    __m256i factors = _mm256_set1_epi32(x), pairs;
    if (format != W4A8) { /* a pair is at most 2 * 128 * 127, which fits 16 bits; x has no -128, whose sign would stay */
        __m256i integers = (__m256i)(weights ^ (int32_t)0x80808080);
        pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(integers), _mm256_sign_epi8(factors, integers));
    } else {
        pairs = _mm256_maddubs_epi16((__m256i)weights, factors);
    }
    return dots + (ivec)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#else
INLINE ivec add_dot(ivec dots, ivec weights, int32_t x, const int format) {
    wordvec integers = (wordvec)(format != W4A8 ? weights ^ (int32_t)0x80808080 : weights);
    wordvec factors = (wordvec)splat_integer(x);
    wordvec pairs = (integers << 8 >> 8) * (factors << 8 >> 8) + (integers >> 8) * (factors >> 8); /* as above */
    return dots + ((ivec)pairs << 16 >> 16) + ((ivec)pairs >> 16);
}
#endif
#endif

/* `correction` is -128 times the sum of x's integers. */
INLINE ivec first_dot(int32_t correction, const int format) {
    return splat_integer(format == W4A8 ? correction / 16 : TAKES_BYTES ? correction : 0);
}

INLINE ivec load_integers(const uint8_t *address) {
    ivec integers;
    memcpy(&integers, address, sizeof integers);
    return integers;
}

INLINE int32_t four_bytes(const int8_t *address) {
    int32_t bytes;
    memcpy(&bytes, address, sizeof bytes);
    return bytes;
}

/* What a tile prefetches while it computes a group: `lines` cache lines from `next` on, into L2; or, where `next` is NULL,
 * its own weights PREFETCH_DISTANCE bytes ahead, into L1. (Each load has its prefetch beside it in a short loop: many
 * prefetches at once, or many loads in a row, make memory a tenth slower: docs/log.md.) */
struct prefetch { const char *next; long lines; };

INLINE void prefetch_next(struct prefetch *fetch) {
    for (long line = 0; line < fetch->lines; line++) __builtin_prefetch(fetch->next + line * LINE, 0, 2);
    fetch->next += fetch->lines * LINE;
}

INLINE void prefetch_weights(const uint8_t *address, const int bytes) {
    for (int byte = 0; byte < bytes; byte += LINE) __builtin_prefetch(address + byte, 0, 3);
}

/* N4: groups start to stop - 1, whole blocks or up to the last, of the outputs from `first` on, for some rows of x. */
INLINE void integer_tile(const struct matrix *w, const struct quantized *x, float *y, long first, long start, long stop,
                         struct prefetch fetch, const int format, const int rows, const int vectors) {
    const int quads = format == W4A8 ? GROUP / 8 : GROUP / 4; /* 4-byte words of a group and output */
    const int scale_bytes = format >= W8A8_SCALE ? 4 : 2;
    const long bytes = step_bytes(format), distance = (PREFETCH_DISTANCE + bytes / 2) / bytes * bytes; /* whole groups */
    const long groups = (w->inputs + GROUP - 1) / GROUP;
    const int is_alone = fetch.next == NULL;
    const uint8_t *group = (const uint8_t *)w->weights + (first / STRIP * groups + start) * bytes;
    const uint8_t *weights = group + first % STRIP * 4, *scales = group + quads * STRIP * 4 + first % STRIP * scale_bytes;
    const int8_t *integers = x->integers + start * GROUP;
    const float *factors = x->scales + start;
    const int32_t *corrections = x->corrections + start;
    for (long end; start < stop; start = end) {
        EACH_ROW(NAME_SUMS)
        for (end = start; end < min(start / BLOCK_GROUPS * BLOCK_GROUPS + BLOCK_GROUPS, stop); end++) {
#define NAME_DOTS(r) \
            ivec from##r = {0}, dots##r##0, dots##r##1, dots##r##2, dots##r##3; \
            if (r < rows) from##r = first_dot(corrections[r * groups], format); \
            dots##r##0 = dots##r##1 = dots##r##2 = dots##r##3 = from##r;
#define WEIGHTS(r, v) \
            ivec weights##v = {0}, high##v = {0}; \
            if (v < vectors) weights##v = load_integers(weights + (quad * STRIP + v * WIDTH) * 4); \
            if (format == W4A8) high##v = weights##v >> 4 & 0x0F0F0F0F, weights##v &= 0x0F0F0F0F;
#define ADD_LOW(r, v) if (v < vectors) dots##r##v = add_dot(dots##r##v, weights##v, four, format);
#define ADD_HIGH(r, v) if (v < vectors) dots##r##v = add_dot(dots##r##v, high##v, four, format);
#define ADD_DOTS(r) \
            if (r < rows) { \
                int32_t four = four_bytes(integers + r * groups * GROUP + quad * 4); \
                EACH_VECTOR(ADD_LOW, r) \
                if (format == W4A8) { \
                    four = four_bytes(integers + r * groups * GROUP + quad * 4 + GROUP / 2); \
                    EACH_VECTOR(ADD_HIGH, r) \
                } \
            }
#define SCALE(r, v) \
            vec scale##v = {0}; \
            if (v < vectors) scale##v = widen(scales + v * WIDTH * scale_bytes, format >= W8A8_SCALE ? FLOAT32 : FLOAT16, 0);
#define ADD_SCALED(r, v) \
            if (v < vectors) sum##r##v += __builtin_convertvector(dots##r##v, vec) * (factor * scale##v);
#define ADD_GROUP(r) \
            if (r < rows) { \
                vec factor = splat(factors[r * groups]); \
                EACH_VECTOR(ADD_SCALED, r) \
                if (format == W8A8_MINIMUM) { \
                    factor = splat((float)(corrections[r * groups] / -128)) * factor; \
                    EACH_VECTOR(ADD_MINIMUM, r) \
                } \
            }
#define ADD_MINIMUM(r, v) \
            if (v < vectors) sum##r##v += factor * widen(scales + (STRIP + v * WIDTH) * 4, FLOAT32, 0);
            EACH_ROW(NAME_DOTS)
            ROLLED for (int quad = 0; quad < quads; quad++) {
                if (is_alone) prefetch_weights(weights + distance + quad * STRIP * 4, vectors * WIDTH * 4);
                EACH_VECTOR(WEIGHTS, )
                EACH_ROW(ADD_DOTS)
            }
            EACH_VECTOR(SCALE, )
            EACH_ROW(ADD_GROUP)
            if (is_alone) prefetch_weights(scales + distance, vectors * WIDTH * scale_bytes);
            else prefetch_next(&fetch);
            weights += bytes, scales += bytes, integers += GROUP, factors++, corrections++;
        }
        EACH_ROW(ADD_ROW)
    }
}

