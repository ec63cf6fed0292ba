/* Products with integers in blocks of 256 (N4b): a strip at a time, a stretch of its weights for all rows. */
enum { MULTIPLIED_ROWS = FLOAT_ROWS / 2, STRAIGHT_ROWS = 64, STRETCH_BYTES = 32 * 1024, EXPANDED_BLOCKS = 4 };

/* Few rows take all outputs of a strip at once, so that it is read in one stream. */
#define VECTORS_OF(count) (count <= FLOAT_ROWS * FLOAT_VECTORS / 4 ? 4 : FLOAT_VECTORS)
#define BLOCK_TILE(count, format)                                                         \
    static NOINLINE void block_##format##_##count(const struct stretch *at, long first) { \
        if (count <= FLOAT_ROWS) block_tile(at, first, format, count, VECTORS_OF(count)); \
    }
#define MULTIPLIED_TILE(count, format)                                                             \
    static NOINLINE void block_##format##_##count(const struct stretch *at, long first) {          \
        if (count <= MULTIPLIED_ROWS) block_tile(at, first, format, count, VECTORS_OF(2 * count)); \
    }
EACH_COUNT(BLOCK_TILE, W16A16)
EACH_COUNT(BLOCK_TILE, W8A16)
EACH_COUNT(BLOCK_TILE, W8A8_256)
EACH_COUNT(MULTIPLIED_TILE, W4A16)
EACH_COUNT(MULTIPLIED_TILE, W4A8_256)

#define BLOCK_TILE_NAME(count, format) block_##format##_##count,
static void (*const block_tiles[][8])(const struct stretch *at, long first) = {
    [W16A16 - W16A16] = {EACH_COUNT(BLOCK_TILE_NAME, W16A16)},
    [W8A16 - W16A16] = {EACH_COUNT(BLOCK_TILE_NAME, W8A16)},
    [W4A16 - W16A16] = {EACH_COUNT(BLOCK_TILE_NAME, W4A16)},
    [W8A8_256 - W16A16] = {EACH_COUNT(BLOCK_TILE_NAME, W8A8_256)},
    [W4A8_256 - W16A16] = {EACH_COUNT(BLOCK_TILE_NAME, W4A8_256)},
};

/* All rows times a stretch of a strip. */
static void multiply_stretch(struct stretch *at, const struct quantized *x, long rows, float *y, long start,
                             int format) {
    const int is_multiplied = format == W4A16 || format == W4A8_256; /* twice the sums: of groups and of the block */
    const long most = is_multiplied ? MULTIPLIED_ROWS : FLOAT_ROWS;
    for (long row = 0, count; row < rows; row += count) {
        count = share_of(rows - row, most);
        long from = row * at->x_groups + start;
        at->x = x->integers + from * GROUP * x->width, at->x_scales = x->scales + from;
        at->corrections = x->corrections + from, at->y = y + row * at->outputs;
        const long vectors = VECTORS_OF((is_multiplied ? 2 * count : count));
        for (long first = 0; first < STRIP; first += vectors * WIDTH)
            block_tiles[format - W16A16][count - 1](at, first);
    }
}

static void linear_blocked(const struct matrix *w, const struct quantized *x, long rows, long from, long to, float *y) {
    const long groups = (w->inputs + GROUP - 1) / GROUP, bytes = step_bytes(w->format);
    const int is_expanded = (w->format == W4A16 || w->format == W4A8_256) && rows > STRAIGHT_ROWS;
    const int format = !is_expanded ? w->format : w->format == W4A16 ? W8A16 : W8A8_256;
    uint8_t expanded[EXPANDED_BLOCKS * BLOCK * STRIP] __attribute__((aligned(LINE)));
    long stretch = STRETCH_BYTES / step_bytes(format) / BLOCK_GROUPS * BLOCK_GROUPS;
    stretch = stretch > EXPANDED_BLOCKS * BLOCK_GROUPS ? EXPANDED_BLOCKS * BLOCK_GROUPS : stretch;
    if (rows <= FLOAT_ROWS && !is_expanded && VECTORS_OF(rows) == 4) stretch = groups; /* one tile: one stream */
    for (long strip = from; strip < to; strip++) {
        const uint8_t *weights = (const uint8_t *)w->weights + strip * strip_bytes(w);
        const float *scales = (const float *)(weights + groups * bytes);
        for (long start = 0; start < groups; start += stretch) {
            struct stretch at = {.weights = weights + start * bytes,
                                 .scales = scales + start / BLOCK_GROUPS * STRIP,
                                 .groups = min(stretch, groups - start),
                                 .x_groups = groups,
                                 .outputs = w->outputs,
                                 .left = w->outputs - strip * STRIP,
                                 .is_first = start == 0};
            if (is_expanded) {
                expand(at.weights, at.groups, w->format, expanded);
                at.weights = expanded;
            }
            multiply_stretch(&at, x, rows, y + strip * STRIP, start, format);
        }
    }
}

static void linear_quantized(const struct matrix *w, const struct quantized *x, long rows, long from, long to,
                             float *y) {
    if (is_blocked(w->format)) linear_blocked(w, x, rows, from, to, y);
    else linear_grouped(w, x, rows, from, to, y);
}

static void quantize(const float *x, long rows, long n, int format, const struct quantized *out) {
    if (is_blocked(format)) quantize_blocks(x, rows, n, format, out);
    else quantize_groups(x, rows, n, out);
}
