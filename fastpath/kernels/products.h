/* Matrix products: panels of rows and stretches of weights, so that weights are read from memory once a panel. */

/* One function for each number of rows: small enough to keep sums in registers and to compile quickly. */
#define EACH_COUNT(DO, ...) \
    DO(1, __VA_ARGS__)      \
    DO(2, __VA_ARGS__)      \
    DO(3, __VA_ARGS__) DO(4, __VA_ARGS__) DO(5, __VA_ARGS__) DO(6, __VA_ARGS__) DO(7, __VA_ARGS__) DO(8, __VA_ARGS__)
#define FLOAT_TILE(count, format)                                                                             \
    static NOINLINE void tile_##format##_##count(const struct matrix *w, const void *x, float *y, long first, \
                                                 long start, long stop, struct prefetch fetch) {              \
        (void)fetch;                                                                                          \
        if (count <= FLOAT_ROWS) float_tile(w, x, y, first, start, stop, format, count, FLOAT_VECTORS);       \
    }
#define INTEGER_TILE(count, format)                                                                                  \
    static NOINLINE void tile_##format##_##count(const struct matrix *w, const void *x, float *y, long first,        \
                                                 long start, long stop, struct prefetch fetch) {                     \
        if (count <= INTEGER_ROWS) integer_tile(w, x, y, first, start, stop, fetch, format, count, INTEGER_VECTORS); \
    }
#define SUPERBLOCK_TILE(count, format)                                                                        \
    static NOINLINE void tile_##format##_##count(const struct matrix *w, const void *x, float *y, long first, \
                                                 long start, long stop, struct prefetch fetch) {              \
        if (count <= INTEGER_ROWS)                                                                            \
            superblock_tile(w, x, y, first, start, stop, fetch, format, count, INTEGER_VECTORS);              \
    }
EACH_COUNT(FLOAT_TILE, FLOAT32)
EACH_COUNT(FLOAT_TILE, BFLOAT16)
EACH_COUNT(FLOAT_TILE, FLOAT16)
EACH_COUNT(INTEGER_TILE, W8A8)
EACH_COUNT(INTEGER_TILE, W4A8)
EACH_COUNT(INTEGER_TILE, W8A8_SCALE)
EACH_COUNT(INTEGER_TILE, W8A8_MINIMUM)
EACH_COUNT(SUPERBLOCK_TILE, Q2_K)
EACH_COUNT(SUPERBLOCK_TILE, Q3_K)
EACH_COUNT(SUPERBLOCK_TILE, Q4_K)
EACH_COUNT(SUPERBLOCK_TILE, Q5_K)
EACH_COUNT(SUPERBLOCK_TILE, Q6_K)
EACH_COUNT(SUPERBLOCK_TILE, IQ4_XS)

#define TILE_NAME(count, format) tile_##format##_##count,
static void (*const tiles[][8])(const struct matrix *w, const void *x, float *y, long first, long start, long stop,
                                struct prefetch fetch) = {
    [FLOAT32] = {EACH_COUNT(TILE_NAME, FLOAT32)},
    [BFLOAT16] = {EACH_COUNT(TILE_NAME, BFLOAT16)},
    [FLOAT16] = {EACH_COUNT(TILE_NAME, FLOAT16)},
    [W8A8] = {EACH_COUNT(TILE_NAME, W8A8)},
    [W4A8] = {EACH_COUNT(TILE_NAME, W4A8)},
    [W8A8_SCALE] = {EACH_COUNT(TILE_NAME, W8A8_SCALE)},
    [W8A8_MINIMUM] = {EACH_COUNT(TILE_NAME, W8A8_MINIMUM)},
    [Q2_K] = {EACH_COUNT(TILE_NAME, Q2_K)},
    [Q3_K] = {EACH_COUNT(TILE_NAME, Q3_K)},
    [Q4_K] = {EACH_COUNT(TILE_NAME, Q4_K)},
    [Q5_K] = {EACH_COUNT(TILE_NAME, Q5_K)},
    [Q6_K] = {EACH_COUNT(TILE_NAME, Q6_K)},
    [IQ4_XS] = {EACH_COUNT(TILE_NAME, IQ4_XS)},
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

/* What a single, memory-bound tile prefetches: its own weights, at a distance, a block ahead or just the next group's.
 * (The hardware's prefetcher follows one row of integers with plain scales by itself; the formats of N4g, and a few rows,
 * read up to twice as fast with a block's lead: docs/log.md.) */
INLINE struct prefetch prefetch_own(const char *next, long lines, long groups, long rows, int format) {
    if (prefetches_to_first_cache()) return (struct prefetch){NULL, 0};
    long ahead = rows > 1 || format >= Q2_K ? BLOCK_GROUPS : 0;
    return (struct prefetch){next - (groups - 1 - ahead) * lines * 64, lines};
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

enum { APART_ROWS = 32 };

static void linear_apart(const struct matrix *w, const float *x, long x_step, long rows, float *y, long y_step) {
    long strips = (w->outputs + STRIP - 1) / STRIP, count;
    if (rows == 1) {
        linear(w, x, 1, 0, strips, y);
        return;
    }
    float near_x[APART_ROWS * w->inputs], near_y[APART_ROWS * w->outputs];
    for (long start = 0; start < rows; start += count) {
        count = min(rows - start, APART_ROWS);
        for (long row = 0; row < count; row++)
            memcpy(near_x + row * w->inputs, x + (start + row) * x_step, w->inputs * sizeof(float));
        linear(w, near_x, count, 0, strips, near_y);
        for (long row = 0; row < count; row++)
            memcpy(y + (start + row) * y_step, near_y + row * w->outputs, w->outputs * sizeof(float));
    }
}

/* A stretch of a strip's weights stays in the L2 cache for all rows of the panel, or in L1 for a few rows. */
static void linear_grouped(const struct matrix *w, const struct quantized *x, long rows, long from, long to, float *y) {
    long groups = (w->inputs + GROUP - 1) / GROUP, panel = panel_of(groups * GROUP, INTEGER_ROWS), count, end, stop;
    long bytes = step_bytes(w->format);
    for (long top = 0; top < rows; top = end) {
        end = min(top + panel, rows);
        long num_tiles = (end - top + INTEGER_ROWS - 1) / INTEGER_ROWS;
        long stretch = num_tiles > 1 && num_tiles <= FEW_TILES ? SHORT_STRETCH
                                                               : LONG_STRETCH; /* of bytes, then of groups */
        stretch = stretch / bytes / BLOCK_GROUPS * BLOCK_GROUPS;
        stretch = stretch ? stretch : BLOCK_GROUPS;
        for (long strip = from; strip < to; strip++)
            for (long start = 0; start < groups; start = stop) {
                stop = min(start + stretch, groups);
                const char *next = (const char *)w->weights + (strip * groups + stop) * bytes;
                long then = min(stretch, stop < groups ? groups - stop : groups); /* groups of the next stretch */
                for (long row = top, tile = 0; row < end; row += count, tile++) {
                    count = share_of(end - row, INTEGER_ROWS);
                    struct quantized part = rows_of(x, row, groups);
                    struct prefetch fetch = num_tiles == 1
                                                ? prefetch_own(next, bytes / 64, stop - start, count, w->format)
                                                : prefetch_share(next, then * bytes / 64, stop - start, tile,
                                                                 num_tiles);
                    long others = min(count, end - row - count);
                    if (start == 0) prefetch_sums(w, y + (row + count) * w->outputs, others, strip * STRIP);
                    for (long first = strip * STRIP; first < (strip + 1) * STRIP; first += INTEGER_VECTORS * WIDTH)
                        tiles[w->format][count - 1](w, &part, y + row * w->outputs, first, start, stop, fetch);
                }
            }
    }
}
