/* Matrix products: outputs in lanes, a few rows at a time, every output summed in the one order of the contract.
 *
 * linear            y[m,n] = sum over k of x[m,k] w[n,k]: in order inside blocks of 256, then block after block (N3)
 * linear_quantized  y[m,n] = sum over groups g of float(dot of 32 int8) * (s_x[m,g] * s_w[n,g]), summed alike (N4)
 *
 * A tile is some rows by some vectors of outputs; its block sums stay in registers, or close by, and go to y once a block. Rows
 * come in panels that fit the second cache, beside which weights are read from memory once. How many rows and outputs a
 * tile has changes which numbers are at hand and no sum; the level sets FLOAT_ROWS, FLOAT_VECTORS and INTEGER_ROWS, as
 * many as its registers hold. (Integers take a few sums more: each is wanted once a group only.)
 */
enum { PANEL_BYTES = 384 * 1024, INTEGER_VECTORS = 4, BLOCK_GROUPS = BLOCK / GROUP };

/* Bytes ahead that weights are asked for where the first cache is large enough to take them, and else into the second. (Zen 5
 * with 48 KB reads 1.2 to 1.5 times as fast by it; Zen 4 with 32 KB was slower than without: docs/log.md.) */
enum { AHEAD = 8192, LARGE_FIRST_CACHE = 48 * 1024 };

enum { FEW_TILES = 4, SHORT_STRETCH = 18 * 1024, LONG_STRETCH = 72 * 1024 }; /* bytes of a strip, at most: whole blocks of it */

INLINE int takes_ahead(void) { return first_cache_bytes >= LARGE_FIRST_CACHE; }

/* Compilers keep names in registers, and arrays only sometimes: a tile of at most 8 rows by 4 vectors has its sums
 * named by row and vector. `rows` and `vectors` are constants where these stand, so what is not there costs nothing. */
#define EACH_ROW(DO, ...) DO(0, ##__VA_ARGS__) DO(1, ##__VA_ARGS__) DO(2, ##__VA_ARGS__) DO(3, ##__VA_ARGS__) \
    DO(4, ##__VA_ARGS__) DO(5, ##__VA_ARGS__) DO(6, ##__VA_ARGS__) DO(7, ##__VA_ARGS__)
#define EACH_VECTOR(DO, r) DO(r, 0) DO(r, 1) DO(r, 2) DO(r, 3)
#define NAME_SUM(r, v) vec sum##r##v = {0};
#define NAME_SUMS(r) EACH_VECTOR(NAME_SUM, r)
#define ADD_ROW(r) \
    if (r < rows) { \
        vec sums[] = {sum##r##0, sum##r##1, sum##r##2, sum##r##3}; \
        add_block(sums, w->outputs, first, y + r * w->outputs, start == 0, vectors); \
    }

/* One row's block sums, added to the totals in y, or the first of them; some lanes may lie past the last output. A sum
 * from +0 is never -0, so that the first needs no zero to be added to. */
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
                       const int kind, const int rows, const int vectors) {
    const long size = kind == FLOAT32 ? 4 : 2, in_turn = kind == BFLOAT16 ? 2 : 1; /* inputs of an output side by side */
    const char *weights = (const char *)w->weights + first / STRIP * strip_bytes(w) + first % STRIP * in_turn * size;
    const int near = takes_ahead();
    EACH_ROW(NAME_SUMS)
    for (long k = start; k < stop; k += in_turn) {
        const char *at = weights + k * STRIP * size;
        for (long byte = 0; byte < vectors * WIDTH * size * in_turn; byte += LINE) {
            if (near) __builtin_prefetch(at + AHEAD + byte, 0, 3);
            else if (rows > 1) __builtin_prefetch(at + AHEAD + byte, 0, 2); /* for one, memory looks ahead by itself */
        }
#define COLUMN(turn, v) \
        vec column##v = {0}; \
        if (v < vectors) column##v = widen(at + v * WIDTH * size * in_turn, kind, turn);
#define ADD_PRODUCT(r, v) if (v < vectors) sum##r##v += value * column##v;
#define ADD_PRODUCTS(r, turn) \
        if (r < rows) { \
            vec value = splat(x[r * w->inputs + k + turn]); \
            EACH_VECTOR(ADD_PRODUCT, r) \
        }
        { EACH_VECTOR(COLUMN, 0) EACH_ROW(ADD_PRODUCTS, 0) }
        if (in_turn == 2 && k + 1 < stop) { EACH_VECTOR(COLUMN, 1) EACH_ROW(ADD_PRODUCTS, 1) }
    }
    EACH_ROW(ADD_ROW)
}

/* Four products of bytes added to each lane of 32 bits: weights are unsigned (the integer plus 128 or 8), x is signed.
 * What was added is taken off the sum at its start, or, where bytes above 127 would not do, off the weights. */
#ifdef LEVEL_AVX512
enum { TAKES_BYTES = 1 };

INLINE ivec add_dot(ivec dots, ivec weights, int32_t x, const int kind) {
    return (void)kind, (ivec)_mm512_dpbusd_epi32((__m512i)dots, (__m512i)weights, _mm512_set1_epi32(x));
}
#else
enum { TAKES_BYTES = 0 };

#ifdef LEVEL_AVX2
INLINE ivec add_dot(ivec dots, ivec weights, int32_t x, const int kind) {
    __m256i factors = _mm256_set1_epi32(x), pairs;
    if (kind == W8A8) { /* a pair is at most 2 * 127 * 127, which fits 16 bits */
        __m256i integers = (__m256i)(weights ^ (int32_t)0x80808080);
        pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(factors), _mm256_sign_epi8(integers, factors));
    } else {
        pairs = _mm256_maddubs_epi16((__m256i)weights, factors);
    }
    return dots + (ivec)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#else
INLINE ivec add_dot(ivec dots, ivec weights, int32_t x, const int kind) {
    wordvec integers = (wordvec)(kind == W8A8 ? weights ^ (int32_t)0x80808080 : weights);
    wordvec factors = (wordvec)splat_integer(x);
    wordvec pairs = (integers << 8 >> 8) * (factors << 8 >> 8) + (integers >> 8) * (factors >> 8); /* as above */
    return dots + ((ivec)pairs << 16 >> 16) + ((ivec)pairs >> 16);
}
#endif
#endif

/* `correction` is -128 times the sum of x's integers. */
INLINE ivec first_dot(int32_t correction, const int kind) {
    return splat_integer(kind == W4A8 ? correction / 16 : TAKES_BYTES ? correction : 0);
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

/* What a tile asks memory for while it computes a group: so many cache lines from `next` on, into the second cache; or,
 * where that is nothing, what it will read itself AHEAD, into the first. (Each load has its own request beside it, in a loop of
 * few instructions: many requests at once, or many loads in a row, and memory is read a tenth slower: docs/log.md.) */
struct fetch { const char *next; long lines; };

INLINE void ask(struct fetch *fetch) {
    for (long line = 0; line < fetch->lines; line++) __builtin_prefetch(fetch->next + line * LINE, 0, 2);
    fetch->next += fetch->lines * LINE;
}

INLINE void ask_ahead(const uint8_t *address, const int bytes) {
    for (int byte = 0; byte < bytes; byte += LINE) __builtin_prefetch(address + byte, 0, 3);
}

/* N4: groups start to stop - 1, whole blocks or up to the last, of the outputs from `first` on, for some rows of x. */
INLINE void integer_tile(const struct matrix *w, const struct quantized *x, float *y, long first, long start, long stop,
                         struct fetch fetch, const int kind, const int rows, const int vectors) {
    const int quads = kind == W4A8 ? GROUP / 8 : GROUP / 4; /* fours of bytes, an output's share of a group */
    const long bytes = step_bytes(kind), ahead = (AHEAD + bytes / 2) / bytes * bytes; /* whole groups */
    const long groups = (w->inputs + GROUP - 1) / GROUP;
    const int is_alone = fetch.next == NULL;
    const uint8_t *group = (const uint8_t *)w->weights + (first / STRIP * groups + start) * bytes;
    const uint8_t *weights = group + first % STRIP * 4, *scales = group + quads * STRIP * 4 + first % STRIP * 2;
    const int8_t *integers = x->integers + start * GROUP;
    const float *factors = x->scales + start;
    const int32_t *corrections = x->corrections + start;
    for (long end; start < stop; start = end) {
        EACH_ROW(NAME_SUMS)
        for (end = start; end < smaller(start / BLOCK_GROUPS * BLOCK_GROUPS + BLOCK_GROUPS, stop); end++) {
#define NAME_DOTS(r) \
            ivec from##r = {0}, dots##r##0, dots##r##1, dots##r##2, dots##r##3; \
            if (r < rows) from##r = first_dot(corrections[r * groups], kind); \
            dots##r##0 = dots##r##1 = dots##r##2 = dots##r##3 = from##r;
#define WEIGHTS(r, v) \
            ivec weights##v = {0}, high##v = {0}; \
            if (v < vectors) weights##v = load_integers(weights + (quad * STRIP + v * WIDTH) * 4); \
            if (kind == W4A8) high##v = weights##v >> 4 & 0x0F0F0F0F, weights##v &= 0x0F0F0F0F;
#define ADD_LOW(r, v) if (v < vectors) dots##r##v = add_dot(dots##r##v, weights##v, four, kind);
#define ADD_HIGH(r, v) if (v < vectors) dots##r##v = add_dot(dots##r##v, high##v, four, kind);
#define ADD_DOTS(r) \
            if (r < rows) { \
                int32_t four = four_bytes(integers + r * groups * GROUP + quad * 4); \
                EACH_VECTOR(ADD_LOW, r) \
                if (kind == W4A8) { \
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
                if (is_alone) ask_ahead(weights + ahead + quad * STRIP * 4, vectors * WIDTH * 4);
                EACH_VECTOR(WEIGHTS, )
                EACH_ROW(ADD_DOTS)
            }
            EACH_VECTOR(SCALE, )
            EACH_ROW(ADD_GROUP)
            if (is_alone) ask_ahead(scales + ahead, vectors * WIDTH * 2);
            else ask(&fetch);
            weights += bytes, scales += bytes, integers += GROUP, factors++, corrections++;
        }
        EACH_ROW(ADD_ROW)
    }
}

/* One function for each count of rows, which a compiler can keep in registers and does not take all day over. */
#define EACH_COUNT(DO, ...) DO(1, __VA_ARGS__) DO(2, __VA_ARGS__) DO(3, __VA_ARGS__) DO(4, __VA_ARGS__) \
    DO(5, __VA_ARGS__) DO(6, __VA_ARGS__) DO(7, __VA_ARGS__) DO(8, __VA_ARGS__)
#define FLOAT_TILE(count, kind) \
    static NOINLINE void tile_##kind##_##count(const struct matrix *w, const void *x, float *y, long first, \
                                               long start, long stop, struct fetch fetch) { \
        (void)fetch; \
        if (count <= FLOAT_ROWS) float_tile(w, x, y, first, start, stop, kind, count, FLOAT_VECTORS); \
    }
#define INTEGER_TILE(count, kind) \
    static NOINLINE void tile_##kind##_##count(const struct matrix *w, const void *x, float *y, long first, \
                                               long start, long stop, struct fetch fetch) { \
        if (count <= INTEGER_ROWS) integer_tile(w, x, y, first, start, stop, fetch, kind, count, INTEGER_VECTORS); \
    }
EACH_COUNT(FLOAT_TILE, FLOAT32)
EACH_COUNT(FLOAT_TILE, BFLOAT16)
EACH_COUNT(FLOAT_TILE, FLOAT16)
EACH_COUNT(INTEGER_TILE, W8A8)
EACH_COUNT(INTEGER_TILE, W4A8)

#define TILE_NAME(count, kind) tile_##kind##_##count,
static void (*const tiles[][8])(const struct matrix *w, const void *x, float *y, long first, long start, long stop,
                                 struct fetch fetch) = {
    [FLOAT32] = {EACH_COUNT(TILE_NAME, FLOAT32)}, [BFLOAT16] = {EACH_COUNT(TILE_NAME, BFLOAT16)},
    [FLOAT16] = {EACH_COUNT(TILE_NAME, FLOAT16)}, [W8A8] = {EACH_COUNT(TILE_NAME, W8A8)},
    [W4A8] = {EACH_COUNT(TILE_NAME, W4A8)},
};

/* How many of the rows that are left the next tile takes: as even a share as full tiles allow. */
INLINE long share_of(long left, long most) {
    long count = (left + most - 1) / most;
    return (left + count - 1) / count;
}

/* Rows whose `row_bytes` of x stay in the second cache, in whole tiles. */
INLINE long panel_of(long row_bytes, long most) {
    long count = PANEL_BYTES / (row_bytes * most + 1);
    return most * (count ? count : 1);
}

/* What a single tile, which waits for memory only, asks for: its own weights, ahead or just the next group's. */
INLINE struct fetch fetch_alone(const char *next, long lines, long groups) {
    return takes_ahead() ? (struct fetch){NULL, 0} : (struct fetch){next - (groups - 1) * lines * 64, lines};
}

/* What one of several tiles over a stretch of groups asks for: its share of the next stretch, `lines` of memory from `next`
 * on, which come while they compute. (All at once stops a tile.) */
INLINE struct fetch fetch_of(const char *next, long lines, long groups, long tile, long num_tiles) {
    long each = (lines + num_tiles * groups - 1) / (num_tiles * groups), from = tile * groups * each;
    return (struct fetch){next + from * 64, from < lines ? each : 0};
}

/* Where some rows' first sums will go, which else a tile has to wait for. */
INLINE void ask_for_sums(const struct matrix *w, float *y, long rows, long first) {
    for (long row = 0; row < rows; row++)
        for (long lane = 0; lane < STRIP; lane += PACK) __builtin_prefetch(y + row * w->outputs + first + lane, 1, 3);
}

/* A strip's block of weights stays in the first cache for all rows of the panel. */
static void linear(const struct matrix *w, const float *x, long rows, long from, long to, float *y) {
    long panel = panel_of(w->inputs * sizeof(float), FLOAT_ROWS), count;
    for (long top = 0; top < rows; top += panel)
        for (long strip = from; strip < to; strip++)
            for (long start = 0; start < w->inputs; start += BLOCK)
                for (long row = top, end = smaller(top + panel, rows); row < end; row += count) {
                    count = share_of(end - row, FLOAT_ROWS);
                    for (long first = strip * STRIP; first < (strip + 1) * STRIP; first += FLOAT_VECTORS * WIDTH)
                        tiles[w->kind][count - 1](w, x + row * w->inputs, y + row * w->outputs, first, start,
                                                  smaller(start + BLOCK, w->inputs), (struct fetch){NULL, 0});
                }
}

/* A stretch of a strip's weights stays in the second cache for all rows of the panel, or in the first for a few. */
static void linear_quantized(const struct matrix *w, const struct quantized *x, long rows, long from, long to, float *y) {
    long groups = (w->inputs + GROUP - 1) / GROUP, panel = panel_of(groups * GROUP, INTEGER_ROWS), count, end, stop;
    long bytes = step_bytes(w->kind);
    for (long top = 0; top < rows; top = end) {
        end = smaller(top + panel, rows);
        long num_tiles = (end - top + INTEGER_ROWS - 1) / INTEGER_ROWS;
        long stretch = num_tiles > 1 && num_tiles <= FEW_TILES ? SHORT_STRETCH : LONG_STRETCH; /* of bytes, then of groups */
        stretch = stretch / bytes / BLOCK_GROUPS * BLOCK_GROUPS;
        for (long strip = from; strip < to; strip++)
            for (long start = 0; start < groups; start = stop) {
                stop = smaller(start + stretch, groups);
                const char *next = (const char *)w->weights + (strip * groups + stop) * bytes;
                long then = smaller(stretch, stop < groups ? groups - stop : groups); /* groups of the next stretch */
                for (long row = top, tile = 0; row < end; row += count, tile++) {
                    count = share_of(end - row, INTEGER_ROWS);
                    struct quantized part = rows_of(x, row, groups);
                    struct fetch fetch = num_tiles == 1 ? fetch_alone(next, bytes / 64, stop - start)
                                         : fetch_of(next, then * bytes / 64, stop - start, tile, num_tiles);
                    long others = smaller(count, end - row - count);
                    if (start == 0) ask_for_sums(w, y + (row + count) * w->outputs, others, strip * STRIP);
                    for (long first = strip * STRIP; first < (strip + 1) * STRIP; first += INTEGER_VECTORS * WIDTH)
                        tiles[w->kind][count - 1](w, &part, y + row * w->outputs, first, start, stop, fetch);
                }
            }
    }
}
