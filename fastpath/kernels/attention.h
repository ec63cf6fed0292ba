/* Attention: 64 keys of one block in lanes, a few queries that share a key-value head at a time (N8).
 *
 * A row is one query head of one token. For each block of 64 absolute positions: scores in order over head_dim,
 * the whole number above the largest visible one, weights 2^(s - m), their lane_sum, values added in order of
 * position; then the merge. A row takes no value past its own position; what no row of the tile sees is never read.
 */
enum { QUERY_ROWS = 4, SCORE_VECTORS = 2 };

struct block {
    const float *keys[KEY_BLOCK / PACK];   /* of each page: (head_dim, 16) */
    const float *values[KEY_BLOCK / PACK]; /* of each page: (16, padded head_dim) */
    long count, shared;                    /* keys that some row of the tile sees, and those that all see */
};

struct row {
    const float *query;
    float *total; /* (padded head_dim,) */
    float peak, weight;
    long visible; /* keys at positions below this are seen */
    long seen;    /* how many of the block at hand; less than one if it lies ahead */
    float scores[KEY_BLOCK];
    float keep, take; /* the merge's two powers of two, for the totals */
};

INLINE void score(const struct block *block, struct row *rows, long head_dim, const int count) {
    for (long lane = 0; lane < block->count; lane += SCORE_VECTORS * WIDTH) {
        vec sums[QUERY_ROWS][SCORE_VECTORS];
        UNROLL for (int r = 0; r < count; r++) UNROLL for (int v = 0; v < SCORE_VECTORS; v++) sums[r][v] = (vec){0};
        const float *keys[SCORE_VECTORS];
        UNROLL for (int v = 0; v < SCORE_VECTORS; v++) {
            long at = lane + v * WIDTH < block->count ? lane + v * WIDTH : lane; /* past the end: any that exists */
            keys[v] = block->keys[at / PACK] + at % PACK;
        }
        for (long d = 0; d < head_dim; d++)
            UNROLL for (int r = 0; r < count; r++) {
                vec value = splat(rows[r].query[d]);
                UNROLL for (int v = 0; v < SCORE_VECTORS; v++) sums[r][v] += value * load(keys[v] + d * PACK);
            }
        UNROLL for (int r = 0; r < count; r++)
            UNROLL for (int v = 0; v < SCORE_VECTORS; v++) store(rows[r].scores + lane + v * WIDTH, sums[r][v]);
    }
}

/* Scores to weights, and the block's peak and sum of weights merged into the row's. */
static void weigh_row(struct row *row, int is_first) {
    float highest = row->scores[0];
    for (long j = 1; j < row->seen; j++) highest = row->scores[j] > highest ? row->scores[j] : highest;
    float block_peak = ceilf(highest), lanes[LANES];
    for (long j = row->seen; j < KEY_BLOCK; j++) row->scores[j] = -INFINITY;
    for (int j = 0; j < KEY_BLOCK; j++) row->scores[j] = exp2_of(row->scores[j] - block_peak);
    for (int j = 0; j < LANES; j++) lanes[j] = row->scores[j] + row->scores[j + LANES];
    float block_weight = fold(lanes);
    float peak = is_first || block_peak > row->peak ? block_peak : row->peak;
    row->keep = is_first ? 0.0f : exp2_of(row->peak - peak);
    row->take = exp2_of(block_peak - peak);
    row->weight = is_first ? block_weight : row->weight * row->keep + block_weight * row->take;
    row->peak = peak;
}

INLINE void add_values(const struct block *block, struct row *rows, long padded, int is_first, const int count) {
    for (long d = 0; d < padded; d += WIDTH) {
        vec sums[QUERY_ROWS];
        UNROLL for (int r = 0; r < count; r++) sums[r] = (vec){0};
        for (long j = 0; j < block->shared; j++) {
            vec value = load(block->values[j / PACK] + j % PACK * padded + d);
            UNROLL for (int r = 0; r < count; r++) sums[r] += splat(rows[r].scores[j]) * value;
        }
        for (int r = 0; r < count; r++)
            for (long j = block->shared; j < rows[r].seen; j++)
                sums[r] += splat(rows[r].scores[j]) * load(block->values[j / PACK] + j % PACK * padded + d);
        UNROLL for (int r = 0; r < count; r++) {
            float *total = rows[r].total + d;
            if (is_first) store(total, sums[r]);
            else if (rows[r].seen > 0)
                store(total, load(total) * splat(rows[r].keep) + sums[r] * splat(rows[r].take));
        }
    }
}

INLINE void attend_block(struct block *block, struct row *rows, long first, long head_dim, long padded,
                         const int count) {
    score(block, rows, head_dim, count);
    block->shared = block->count;
    for (int r = 0; r < count; r++) {
        rows[r].seen = smaller(rows[r].visible - first, KEY_BLOCK);
        block->shared = smaller(block->shared, rows[r].seen > 0 ? rows[r].seen : 0);
        if (rows[r].seen > 0) weigh_row(&rows[r], first == 0);
    }
    add_values(block, rows, padded, first == 0, count);
}

/* Some rows of one key-value head, over all blocks that they see. */
static void attend_rows(const struct heads *shape, long kv_head, const float *keys, const float *values,
                        const int32_t *pages, struct row *rows, int count) {
    long head_dim = shape->head_dim, padded = (head_dim + PACK - 1) / PACK * PACK, visible = 0;
    for (int r = 0; r < count; r++) visible = rows[r].visible > visible ? rows[r].visible : visible;
    for (long first = 0; first < visible; first += KEY_BLOCK) {
        struct block block = {.count = smaller(KEY_BLOCK, visible - first)};
        for (long p = 0; p * PACK < block.count; p++) {
            long page = pages[first / PACK + p] * shape->num_kv_heads + kv_head;
            block.keys[p] = keys + page * head_dim * PACK;
            block.values[p] = values + page * padded * PACK;
        }
        switch (count) { /* a copy for each count, so that sums stay in registers */
            case 1: attend_block(&block, rows, first, head_dim, padded, 1); break;
            case 2: attend_block(&block, rows, first, head_dim, padded, 2); break;
            case 3: attend_block(&block, rows, first, head_dim, padded, 3); break;
            default: attend_block(&block, rows, first, head_dim, padded, QUERY_ROWS);
        }
    }
}

static void finish_row(const struct row *row, long head_dim, float *out) {
    for (long d = 0; d < head_dim; d++) out[d] = row->total[d] / row->weight;
}

/* N8: the tokens of one sequence; queries and out are (tokens, heads, head_dim). */
static void attend(const struct heads *shape, float *queries, const float *keys, const float *values,
                   const int32_t *pages, const int32_t *positions, long tokens, float *out) {
    long head_dim = shape->head_dim, width = shape->num_heads * head_dim;
    long shared_by = shape->num_heads / shape->num_kv_heads;
    long padded = (head_dim + PACK - 1) / PACK * PACK;
    float scale = (float)(1.4426950408889634 / sqrt((double)head_dim));
    float totals[QUERY_ROWS * padded];
    struct row rows[QUERY_ROWS];
    for (long i = 0; i < tokens * width; i++) queries[i] *= scale;
    for (long kv_head = 0; kv_head < shape->num_kv_heads; kv_head++)
        for (long start = 0; start < tokens * shared_by; start += QUERY_ROWS) {
            int count = (int)smaller(QUERY_ROWS, tokens * shared_by - start);
            long at[QUERY_ROWS];
            for (int r = 0; r < count; r++) {
                long token = (start + r) / shared_by, head = kv_head * shared_by + (start + r) % shared_by;
                at[r] = token * width + head * head_dim;
                rows[r].query = queries + at[r];
                rows[r].total = totals + r * padded;
                rows[r].visible = positions[token] + 1;
            }
            attend_rows(shape, kv_head, keys, values, pages, rows, count);
            for (int r = 0; r < count; r++) finish_row(&rows[r], head_dim, out + at[r]);
        }
}
