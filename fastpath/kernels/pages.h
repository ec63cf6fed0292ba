/* Blocks of keys and values in the pages of a KV cache (N8), and their prefetch.
 *
 * A page is too short for the hardware prefetcher to predict the next address. While one block is computed, software
 * prefetches the next one, a few cache lines at a time: most of many simultaneous prefetches are dropped.
 */
enum { PREFETCH_LINES = 48 };

/* Memory to prefetch: keys and values of the next block's pages. */
struct prefetch_queue {
    const char *parts[2 * KEY_BLOCK / PACK]; /* a stack: keys or values of a page and head, the next one last */
    int count, lines;                        /* parts on the stack; cache lines for each call of prefetch_some */
    long part_bytes;
    const char *at, *end;
};

static void prefetch_some(struct prefetch_queue *queue) {
    for (int i = 0; i < queue->lines; i++, queue->at += LINE) {
        if (queue->at >= queue->end) {
            if (queue->count == 0) return;
            queue->at = queue->parts[--queue->count], queue->end = queue->at + queue->part_bytes;
        }
        __builtin_prefetch(queue->at);
    }
}

struct block {
    struct prefetch_queue *queue;
    const float *keys[KEY_BLOCK / PACK];   /* of each page: (head_dim, 16) */
    const float *values[KEY_BLOCK / PACK]; /* of each page: (16, padded value_dim) */
    long count;                            /* keys up to the last that a row of the tile attends to */
    long shared_from, shared_to;           /* keys that all its rows attend to */
};

/* The stored keys and values of a page and key-value head; `values` is NULL where keys hold them. */
struct stored {
    const char *keys, *values;
    long num_keys, num_values;
};

INLINE long size_of(int dtype) { return dtype == FLOAT32 ? 4 : 2; }

INLINE long padded_values(const struct heads *shape) { return (shape->value_dim + PACK - 1) / PACK * PACK; }

INLINE struct stored page_at(const struct heads *shape, const struct work_item *item, long position) {
    long size = size_of(shape->stored), at = item->pages[position / PACK] * shape->num_kv_heads + item->kv_head;
    long num_keys = shape->head_dim * PACK, num_values = padded_values(shape) * PACK;
    const char *values = shape->values ? (const char *)shape->values + at * num_values * size : NULL;
    return (struct stored){(const char *)shape->keys + at * num_keys * size, values, num_keys, num_values};
}

/* A page's elements as float32: in place, or widened into `buffer` (N1). */
INLINE const float *as_floats(const void *stored, long count, int dtype, float *buffer) {
    if (dtype == FLOAT32) return stored;
    widen_all(stored, count, dtype, buffer);
    return buffer;
}

/* Elements of the buffer of a block's pages: for what is widened, and for values that are made of keys. */
INLINE long block_elements(const struct heads *shape) {
    long keys = shape->stored == FLOAT32 ? 0 : KEY_BLOCK * shape->head_dim;
    long values = shape->stored == FLOAT32 && shape->values ? 0 : KEY_BLOCK * padded_values(shape);
    return keys + values + 1;
}

/* Load the pages of the block that begins at `first`, up to `end`. */
static void load_block(const struct heads *shape, const struct work_item *item, long first, long end, float *buffer,
                       struct block *block) {
    long padded = padded_values(shape), rotated = shape->head_dim - shape->value_dim;
    for (long p = 0; p < KEY_BLOCK / PACK && first + p * PACK < end; p++) {
        struct stored page = page_at(shape, item, first + p * PACK);
        block->keys[p] = as_floats(page.keys, page.num_keys, shape->stored, buffer);
        if (shape->stored != FLOAT32) buffer += page.num_keys;
        if (page.values) block->values[p] = as_floats(page.values, page.num_values, shape->stored, buffer);
        else block->values[p] = transpose_page(block->keys[p] + rotated * PACK, shape->value_dim, padded, buffer);
        if (shape->stored != FLOAT32 || !page.values) buffer += page.num_values;
    }
}

/* Queue the same pages for prefetch: keys first, in the order of use. */
static void prefetch_block(const struct heads *shape, const struct work_item *item, long first, long end,
                           struct prefetch_queue *queue) {
    long pages = min(KEY_BLOCK / PACK, (end - first + PACK - 1) / PACK), count = shape->values ? 2 * pages : pages;
    for (long p = 0; p < pages; p++) {
        struct stored page = page_at(shape, item, first + p * PACK);
        queue->parts[count - 1 - p] = page.keys;
        if (page.values) queue->parts[pages - 1 - p] = page.values;
        queue->part_bytes = (page.values ? page.num_values : page.num_keys) * size_of(shape->stored);
    }
    queue->count = (int)count;
}
