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
#else
enum { TAKES_BYTES = 0 };

#ifdef LEVEL_AVX2
INLINE ivec add_dot(ivec dots, ivec weights, int32_t x, const int format) {
    __m256i factors = _mm256_set1_epi32(x), pairs;
    if (format == W8A8) { /* a pair is at most 2 * 128 * 127, which fits 16 bits; x has no -128, whose sign would stay */
        __m256i integers = (__m256i)(weights ^ (int32_t)0x80808080);
        pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(integers), _mm256_sign_epi8(factors, integers));
    } else {
        pairs = _mm256_maddubs_epi16((__m256i)weights, factors);
    }
    return dots + (ivec)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#else
INLINE ivec add_dot(ivec dots, ivec weights, int32_t x, const int format) {
    wordvec integers = (wordvec)(format == W8A8 ? weights ^ (int32_t)0x80808080 : weights);
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
    const long bytes = step_bytes(format), distance = (PREFETCH_DISTANCE + bytes / 2) / bytes * bytes; /* whole groups */
    const long groups = (w->inputs + GROUP - 1) / GROUP;
    const int is_alone = fetch.next == NULL;
    const uint8_t *group = (const uint8_t *)w->weights + (first / STRIP * groups + start) * bytes;
    const uint8_t *weights = group + first % STRIP * 4, *scales = group + quads * STRIP * 4 + first % STRIP * 2;
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
            if (v < vectors) scale##v = widen(scales + v * WIDTH * 2, FLOAT16, 0);
#define ADD_SCALED(r, v) \
            if (v < vectors) sum##r##v += __builtin_convertvector(dots##r##v, vec) * (factor * scale##v);
#define ADD_GROUP(r) \
            if (r < rows) { \
                vec factor = splat(factors[r * groups]); \
                EACH_VECTOR(ADD_SCALED, r) \
            }
            EACH_ROW(NAME_DOTS)
            ROLLED for (int quad = 0; quad < quads; quad++) {
                if (is_alone) prefetch_weights(weights + distance + quad * STRIP * 4, vectors * WIDTH * 4);
                EACH_VECTOR(WEIGHTS, )
                EACH_ROW(ADD_DOTS)
            }
            EACH_VECTOR(SCALE, )
            EACH_ROW(ADD_GROUP)
            if (is_alone) prefetch_weights(scales + distance, vectors * WIDTH * 2);
            else prefetch_next(&fetch);
            weights += bytes, scales += bytes, integers += GROUP, factors++, corrections++;
        }
        EACH_ROW(ADD_ROW)
    }
}

/* One function for each number of rows: small enough to keep sums in registers and to compile quickly. */
#define EACH_COUNT(DO, ...) DO(1, __VA_ARGS__) DO(2, __VA_ARGS__) DO(3, __VA_ARGS__) DO(4, __VA_ARGS__) \
    DO(5, __VA_ARGS__) DO(6, __VA_ARGS__) DO(7, __VA_ARGS__) DO(8, __VA_ARGS__)
#define FLOAT_TILE(count, format) \
    static NOINLINE void tile_##format##_##count(const struct matrix *w, const void *x, float *y, long first, \
                                               long start, long stop, struct prefetch fetch) { \
        (void)fetch; \
        if (count <= FLOAT_ROWS) float_tile(w, x, y, first, start, stop, format, count, FLOAT_VECTORS); \
    }
#define INTEGER_TILE(count, format) \
    static NOINLINE void tile_##format##_##count(const struct matrix *w, const void *x, float *y, long first, \
                                               long start, long stop, struct prefetch fetch) { \
        if (count <= INTEGER_ROWS) integer_tile(w, x, y, first, start, stop, fetch, format, count, INTEGER_VECTORS); \
    }
EACH_COUNT(FLOAT_TILE, FLOAT32)
EACH_COUNT(FLOAT_TILE, BFLOAT16)
EACH_COUNT(FLOAT_TILE, FLOAT16)
EACH_COUNT(INTEGER_TILE, W8A8)
EACH_COUNT(INTEGER_TILE, W4A8)

#define TILE_NAME(count, format) tile_##format##_##count,
static void (*const tiles[][8])(const struct matrix *w, const void *x, float *y, long first, long start, long stop,
                                 struct prefetch fetch) = {
    [FLOAT32] = {EACH_COUNT(TILE_NAME, FLOAT32)}, [BFLOAT16] = {EACH_COUNT(TILE_NAME, BFLOAT16)},
    [FLOAT16] = {EACH_COUNT(TILE_NAME, FLOAT16)}, [W8A8] = {EACH_COUNT(TILE_NAME, W8A8)},
    [W4A8] = {EACH_COUNT(TILE_NAME, W4A8)},
};

/* The number of rows of the next tile: the rows that are left, divided evenly among the fewest tiles. */
INLINE long share_of(long left, long most) {
    long count = (left + most - 1) / most;
    return (left + count - 1) / count;
}

/* The number of rows, in whole tiles, whose `row_bytes` of x fit the L2 cache. */
INLINE long panel_of(long row_bytes, long most) {
    long count = PANEL_BYTES / (row_bytes * most + 1);
    return most * (count ? count : 1);
}

/* What a single, memory-bound tile prefetches: its own weights, at a distance or just the next group's. */
INLINE struct prefetch prefetch_own(const char *next, long lines, long groups) {
    return prefetches_to_first_cache() ? (struct prefetch){NULL, 0} : (struct prefetch){next - (groups - 1) * lines * 64, lines};
}

/* What one of several tiles over a stretch of groups prefetches: its share of the next stretch, which has `lines` cache
 * lines from `next` on. (All of them at once would stall a tile.) */
INLINE struct prefetch prefetch_share(const char *next, long lines, long groups, long tile, long num_tiles) {
    long each = (lines + num_tiles * groups - 1) / (num_tiles * groups), from = tile * groups * each;
    return (struct prefetch){next + from * 64, from < lines ? each : 0};
}

/* Prefetch the lines of y that the first sums of the next tile are stored to. */
INLINE void prefetch_sums(const struct matrix *w, float *y, long rows, long first) {
    for (long row = 0; row < rows; row++)
        for (long lane = 0; lane < STRIP; lane += PACK) __builtin_prefetch(y + row * w->outputs + first + lane, 1, 3);
}

/* A strip's block of weights stays in the L1 cache for all rows of the panel. */
static void linear(const struct matrix *w, const float *x, long rows, long from, long to, float *y) {
    long panel = panel_of(w->inputs * sizeof(float), FLOAT_ROWS), count;
    for (long top = 0; top < rows; top += panel)
        for (long strip = from; strip < to; strip++)
            for (long start = 0; start < w->inputs; start += BLOCK)
                for (long row = top, end = min(top + panel, rows); row < end; row += count) {
                    count = share_of(end - row, FLOAT_ROWS);
                    for (long first = strip * STRIP; first < (strip + 1) * STRIP; first += FLOAT_VECTORS * WIDTH)
                        tiles[w->format][count - 1](w, x + row * w->inputs, y + row * w->outputs, first, start,
                                                  min(start + BLOCK, w->inputs), (struct prefetch){NULL, 0});
                }
}

/* A stretch of a strip's weights stays in the L2 cache for all rows of the panel, or in L1 for a few rows. */
static void linear_quantized(const struct matrix *w, const struct quantized *x, long rows, long from, long to, float *y) {
    long groups = (w->inputs + GROUP - 1) / GROUP, panel = panel_of(groups * GROUP, INTEGER_ROWS), count, end, stop;
    long bytes = step_bytes(w->format);
    for (long top = 0; top < rows; top = end) {
        end = min(top + panel, rows);
        long num_tiles = (end - top + INTEGER_ROWS - 1) / INTEGER_ROWS;
        long stretch = num_tiles > 1 && num_tiles <= FEW_TILES ? SHORT_STRETCH : LONG_STRETCH; /* of bytes, then of groups */
        stretch = stretch / bytes / BLOCK_GROUPS * BLOCK_GROUPS;
        for (long strip = from; strip < to; strip++)
            for (long start = 0; start < groups; start = stop) {
                stop = min(start + stretch, groups);
                const char *next = (const char *)w->weights + (strip * groups + stop) * bytes;
                long then = min(stretch, stop < groups ? groups - stop : groups); /* groups of the next stretch */
                for (long row = top, tile = 0; row < end; row += count, tile++) {
                    count = share_of(end - row, INTEGER_ROWS);
                    struct quantized part = rows_of(x, row, groups);
                    struct prefetch fetch = num_tiles == 1 ? prefetch_own(next, bytes / 64, stop - start)
                                         : prefetch_share(next, then * bytes / 64, stop - start, tile, num_tiles);
                    long others = min(count, end - row - count);
                    if (start == 0) prefetch_sums(w, y + (row + count) * w->outputs, others, strip * STRIP);
                    for (long first = strip * STRIP; first < (strip + 1) * STRIP; first += INTEGER_VECTORS * WIDTH)
                        tiles[w->format][count - 1](w, &part, y + row * w->outputs, first, start, stop, fetch);
                }
            }
    }
}
