/* Attention: the 64 keys of a block in vector lanes, a few queries that share a key-value head at a time (N8).
 *
 * A row is one query head of one token. For each block of 64 absolute positions: scores summed in order over head_dim,
 * the largest visible score rounded up to m, weights 2^(s - m), their lane_sum, values added in order of position; then
 * the merge. A row attends to the sinks and to its window, up to its own position; no other value is added. Positions
 * after the tile's last row, and blocks to which no row attends, are never read. Up to SHARED_ROWS rows share the loop
 * over blocks, so that 16-bit keys and values are widened once for all of them.
 */
enum { QUERY_ROWS = 4, SCORE_VECTORS = 2, VALUE_VECTORS = 2, SHARED_ROWS = 64 };

struct row {
    const float *query;
    float *total; /* (padded value_dim,) */
    float peak, weight;
    long begin, end; /* the window: the row attends to these positions */
    long sinks;      /* number of attention sinks before the window, 0 where the window includes them */
    float scores[KEY_BLOCK];
    long from, to;    /* keys of the current block that it attends to, none if to <= from, */
    long gap, gap_to; /* except these */
    int has_past;     /* it attended to a key of an earlier block */
    float keep, take; /* the merge's two powers of two, for the totals */
};

INLINE void score(const struct block *block, struct row *rows, long head_dim, const int count) {
    for (long lane = 0; lane < block->count; lane += SCORE_VECTORS * WIDTH) {
        // clang-format off
        vec sums[QUERY_ROWS][SCORE_VECTORS];
        UNROLL for (int r = 0; r < count; r++) UNROLL for (int v = 0; v < SCORE_VECTORS; v++) sums[r][v] = (vec){0};
        // clang-format on
        const float *keys[SCORE_VECTORS];
        UNROLL for (int v = 0; v < SCORE_VECTORS; v++) {
            long at = lane + v * WIDTH < block->count ? lane + v * WIDTH : lane; /* past the end: any valid address */
            keys[v] = block->keys[at / PACK] + at % PACK;
        }
        for (long start = 0; start < head_dim; start += PACK) {
            prefetch_some(block->queue);
            for (long d = start; d < min(start + PACK, head_dim); d++)
                UNROLL for (int r = 0; r < count; r++) {
                    vec value = splat(rows[r].query[d]);
                    UNROLL for (int v = 0; v < SCORE_VECTORS; v++) sums[r][v] += value * load(keys[v] + d * PACK);
                }
        }
        UNROLL for (int r = 0; r < count; r++)
            UNROLL for (int v = 0; v < SCORE_VECTORS; v++) store(rows[r].scores + lane + v * WIDTH, sums[r][v]);
    }
}

INLINE float max(float a, float b) { return a > b ? a : b; }

/* Turn scores into weights and merge the block's peak and sum of weights into the row's. */
static void weigh_row(struct row *row) {
    float highest[PACK], lanes[LANES];
    for (long j = row->gap; j < row->gap_to; j++) row->scores[j] = -INFINITY;
    for (long j = 0; j < row->from; j++) row->scores[j] = -INFINITY;
    for (long j = row->to; j < KEY_BLOCK; j++) row->scores[j] = -INFINITY;
    for (int j = 0; j < PACK; j++) highest[j] = row->scores[j];
    for (int i = PACK; i < KEY_BLOCK; i += PACK)
        for (int j = 0; j < PACK; j++) highest[j] = max(row->scores[i + j], highest[j]);
    for (int half = PACK / 2; half; half /= 2)
        for (int j = 0; j < half; j++) highest[j] = max(highest[j + half], highest[j]);
    float block_peak = ceilf(highest[0]);
    for (int j = 0; j < KEY_BLOCK; j++) row->scores[j] = exp2_of(row->scores[j] - block_peak);
    for (int j = 0; j < LANES; j++) lanes[j] = row->scores[j] + row->scores[j + LANES];
    float block_weight = fold(lanes);
    float peak = !row->has_past || block_peak > row->peak ? block_peak : row->peak;
    row->keep = row->has_past ? exp2_of(row->peak - peak) : 0.0f;
    row->take = exp2_of(block_peak - peak);
    row->weight = row->has_past ? row->weight * row->keep + block_weight * row->take : block_weight;
    row->peak = peak;
}

/* Add the values of keys `from` to `to` - 1 for one row, where it attends to them. */
INLINE void add_visible(const struct block *block, const struct row *row, long padded, long d, long from, long to,
                     vec *sums, const int vectors) {
    for (long j = from; j < min(to, row->to); j++)
        if (j < row->gap || j >= row->gap_to)
            UNROLL for (int v = 0; v < vectors; v++)
                sums[v] += splat(row->scores[j]) * load(block->values[j / PACK] + j % PACK * padded + d + v * WIDTH);
}

/* Add features d to d + vectors * WIDTH - 1 of the weighted values to the totals of `count` rows. */
INLINE void add_features(const struct block *block, struct row *rows, long padded, long d, const int count,
                         const int vectors) {
    vec sums[QUERY_ROWS][VALUE_VECTORS];
    UNROLL for (int r = 0; r < count; r++) UNROLL for (int v = 0; v < vectors; v++) sums[r][v] = (vec){0};
    for (int r = 0; r < count; r++)
        add_visible(block, &rows[r], padded, d, rows[r].from, block->shared_from, sums[r], vectors);
    for (long j = block->shared_from; j < block->shared_to;) {
        const float *values = block->values[j / PACK] + j % PACK * padded + d;
        prefetch_some(block->queue);
        for (long stop = min(block->shared_to, (j / PACK + 1) * PACK); j < stop; j++, values += padded)
            UNROLL for (int r = 0; r < count; r++) {
                vec weight = splat(rows[r].scores[j]);
                UNROLL for (int v = 0; v < vectors; v++) sums[r][v] += weight * load(values + v * WIDTH);
            }
    }
    for (int r = 0; r < count; r++)
        add_visible(block, &rows[r], padded, d, block->shared_to, rows[r].to, sums[r], vectors);
    UNROLL for (int r = 0; r < count; r++) {
        if (rows[r].to <= rows[r].from) continue;
        vec keep = splat(rows[r].keep), take = splat(rows[r].take);
        UNROLL for (int v = 0; v < vectors; v++) {
            float *total = rows[r].total + d + v * WIDTH;
            store(total, rows[r].has_past ? load(total) * keep + sums[r][v] * take : sums[r][v]);
        }
    }
}

INLINE void add_values(const struct block *block, struct row *rows, long padded, const int count) {
    long d = 0;
    for (; d + VALUE_VECTORS * WIDTH <= padded; d += VALUE_VECTORS * WIDTH)
        add_features(block, rows, padded, d, count, VALUE_VECTORS);
    for (; d < padded; d += WIDTH) add_features(block, rows, padded, d, count, 1);
}

/* Set a row's keys in the block that begins at `first`: sinks, window, or both with a gap between. */
INLINE void set_block_range(struct row *row, long first) {
    long sinks = min(row->sinks - first, KEY_BLOCK);
    row->from = row->begin > first ? row->begin - first : 0, row->to = min(row->end - first, KEY_BLOCK);
    row->gap = row->gap_to = 0;
    if (sinks <= 0) return;
    if (row->from < row->to) row->gap = sinks, row->gap_to = row->from;
    else row->to = sinks;
    row->from = 0;
}

INLINE void attend_block(const struct heads *shape, struct block *block, struct row *rows, long first,
                         long padded, const int count) {
    score(block, rows, shape->head_dim, count);
    block->shared_from = 0, block->shared_to = block->count;
    for (int r = 0; r < count; r++) {
        struct row *row = &rows[r];
        set_block_range(row, first);
        if (row->gap_to) block->shared_to = 0;
        block->shared_from = row->from > block->shared_from ? row->from : block->shared_from;
        block->shared_to = min(block->shared_to, row->to);
        if (row->to <= row->from) continue;
        if (shape->cap != 0) softcap_all(row->scores, block->count, shape->cap, shape->cap_factor);
        weigh_row(row);
    }
    if (block->shared_to <= block->shared_from) /* no shared keys: each row adds its own */
        block->shared_from = block->shared_to = KEY_BLOCK;
    add_values(block, rows, padded, count);
    for (int r = 0; r < count; r++) rows[r].has_past |= rows[r].to > rows[r].from;
}

/* Rows that are computed together, and the union of the positions that they attend to. */
struct tile {
    struct row *rows;
    int count;
    long begin, end, sinks;
};

INLINE struct tile tile_of(struct row *rows, int count) {
    struct tile tile = {.rows = rows, .count = count, .begin = rows[0].begin};
    for (int r = 0; r < count; r++) {
        tile.begin = min(tile.begin, rows[r].begin);
        tile.end = rows[r].end > tile.end ? rows[r].end : tile.end;
        tile.sinks = rows[r].sinks > tile.sinks ? rows[r].sinks : tile.sinks;
    }
    return tile;
}

INLINE int attends_to_block(const struct tile *tile, long first) {
    return first < tile->end && (first < tile->sinks || first + KEY_BLOCK > tile->begin);
}

INLINE long first_block(const struct tile *tile) { return tile->sinks ? 0 : tile->begin / KEY_BLOCK * KEY_BLOCK; }

INLINE long next_block(const struct tile *tile, long first) {
    do first += KEY_BLOCK;
    while (first < tile->end && !attends_to_block(tile, first));
    return first;
}

/* Set the positions to which the rows of a token attend. */
INLINE void set_window(const struct heads *shape, long position, struct row *row) {
    row->end = position + 1;
    row->begin = shape->window && row->end > shape->window ? row->end - shape->window : 0;
    if (shape->chunk) row->begin = position / shape->chunk * shape->chunk;
    row->sinks = row->begin > shape->sinks ? shape->sinks : 0;
    if (!row->sinks && row->begin <= shape->sinks) row->begin = 0;
}

/* Queue the first block of a work item for prefetch. */
static void prefetch_item(const struct heads *shape, const struct work_item *next, struct prefetch_queue *queue) {
    struct row row;
    set_window(shape, next->positions[next->from / (shape->num_heads / shape->num_kv_heads)], &row);
    struct tile tile = tile_of(&row, 1);
    prefetch_block(shape, next, first_block(&tile), tile.end, queue);
}

/* Rows of one key-value head, over all blocks to which they attend: a block is loaded once for all of them. */
static void attend_rows(const struct heads *shape, const struct work_item *item,
                        const struct work_item *next, struct row *rows, int count) {
    long padded = padded_values(shape);
    float buffer[block_elements(shape)] __attribute__((aligned(64)));
    struct tile all = tile_of(rows, count), tiles[SHARED_ROWS / QUERY_ROWS];
    int num_tiles = (count + QUERY_ROWS - 1) / QUERY_ROWS;
    for (int r = 0; r < count; r += QUERY_ROWS) tiles[r / QUERY_ROWS] = tile_of(rows + r, (int)min(QUERY_ROWS, count - r));
    for (long first = first_block(&all), following; first < all.end; first = following) {
        struct prefetch_queue queue = {.lines = (PREFETCH_LINES + num_tiles - 1) / num_tiles};
        struct block block = {.queue = &queue};
        load_block(shape, item, first, all.end, buffer, &block);
        following = next_block(&all, first);
        if (following < all.end) prefetch_block(shape, item, following, all.end, &queue);
        else if (next) prefetch_item(shape, next, &queue);
        for (const struct tile *tile = tiles; tile < tiles + num_tiles; tile++) {
            if (!attends_to_block(tile, first)) continue;
            block.count = min(KEY_BLOCK, tile->end - first);
            switch (tile->count) { /* a constant count keeps the sums in registers */
                case 1: attend_block(shape, &block, tile->rows, first, padded, 1); break;
                case 2: attend_block(shape, &block, tile->rows, first, padded, 2); break;
                case 3: attend_block(shape, &block, tile->rows, first, padded, 3); break;
                default: attend_block(shape, &block, tile->rows, first, padded, QUERY_ROWS);
            }
        }
    }
}

/* Divide by the sum of weights. A head's sink score is merged before, as the last block, which has no value. */
static void finish_row(const struct row *row, long value_dim, const float *sink_score, float *out) {
    if (!sink_score) {
        for (long d = 0; d < value_dim; d++) out[d] = row->total[d] / row->weight;
        return;
    }
    float score = *sink_score * LOG2E, block_peak = ceilf(score), peak = max(block_peak, row->peak);
    float keep = exp2_of(row->peak - peak), take = exp2_of(block_peak - peak);
    float weight = row->weight * keep + exp2_of(score - block_peak) * take;
    for (long d = 0; d < value_dim; d++) out[d] = row->total[d] * keep / weight;
}

/* N8 */
static void attend(const struct heads *shape, const struct work_item *item,
                   const struct work_item *next) {
    long head_dim = shape->head_dim, value_dim = shape->value_dim, padded = padded_values(shape);
    long shared_by = shape->num_heads / shape->num_kv_heads;
    float totals[SHARED_ROWS * padded], scaled[SHARED_ROWS * head_dim];
    struct row rows[SHARED_ROWS];
    for (long start = item->from; start < item->to; start += SHARED_ROWS) {
        int count = (int)min(SHARED_ROWS, item->to - start);
        long at[SHARED_ROWS];
        const float *sink_scores[SHARED_ROWS];
        for (int r = 0; r < count; r++) {
            long token = (start + r) / shared_by, head = item->kv_head * shared_by + (start + r) % shared_by;
            at[r] = token * shape->num_heads + head;
            sink_scores[r] = shape->sink_scores ? shape->sink_scores + head : NULL;
            const float *query = item->queries + at[r] * head_dim;
            for (long d = 0; d < head_dim; d++) scaled[r * head_dim + d] = query[d] * shape->scale;
            rows[r].query = scaled + r * head_dim;
            rows[r].total = totals + r * padded;
            rows[r].has_past = 0;
            set_window(shape, item->positions[token], &rows[r]);
        }
        attend_rows(shape, item, start + SHARED_ROWS < item->to ? NULL : next, rows, count);
        for (int r = 0; r < count; r++) finish_row(&rows[r], value_dim, sink_scores[r], item->out + at[r] * value_dim);
    }
}
