/* Blocks of keys and values in the pages of a cache (N8), and asking memory for them ahead of their use.
 *
 * A page is too short for a processor to foresee what comes next. While one block is looked at, lines of the next are
 * asked for; a few at a time, since of many at once most are not heard.
 */
enum { ASKED_LINES = 48 };

/* What will be wanted soon: keys and values of pages, the first to be asked for last. */
struct ahead {
    const char *parts[2 * KEY_BLOCK / PACK]; /* keys or values of a page and head, the first one last */
    int count, each;
    long part_bytes;
    const char *at, *end;
};

static void ask_for_some(struct ahead *ahead) {
    for (int i = 0; i < ahead->each; i++, ahead->at += LINE) {
        if (ahead->at >= ahead->end) {
            if (ahead->count == 0) return;
            ahead->at = ahead->parts[--ahead->count], ahead->end = ahead->at + ahead->part_bytes;
        }
        __builtin_prefetch(ahead->at);
    }
}

struct block {
    struct ahead *ahead;
    const float *keys[KEY_BLOCK / PACK];   /* of each page: (head_dim, 16) */
    const float *values[KEY_BLOCK / PACK]; /* of each page: (16, padded head_dim) */
    long count;                            /* keys up to the last that some row of the tile sees */
    long shared_from, shared_to;           /* those that all its rows see */
};

/* Keys and values as they are stored, of a page and key-value head. */
struct stored {
    const char *keys, *values;
    long num_keys, num_values;
};

INLINE long size_of(int kind) { return kind == FLOAT32 ? 4 : 2; }

INLINE struct stored stored_in(const struct heads *shape, const struct look *look,
                               long position) {
    long size = size_of(shape->stored), at = look->pages[position / PACK] * shape->num_kv_heads + look->kv_head;
    long num_keys = shape->head_dim * PACK, num_values = (shape->head_dim + PACK - 1) / PACK * PACK * PACK;
    return (struct stored){(const char *)shape->keys + at * num_keys * size, (const char *)shape->values + at * num_values * size,
                           num_keys, num_values};
}

/* Numbers of a page as float32: where they lie, or widened into `room` (N1). */
INLINE const float *as_floats(const void *stored, long count, int kind, float *room) {
    if (kind == FLOAT32) return stored;
    widen_all(stored, count, kind, room);
    return room;
}

/* The pages of the block that begins at `first`, those before `end`. */
static void open_block(const struct heads *shape, const struct look *look,
                       long first, long end, float *room, struct block *block) {
    for (long p = 0; p < KEY_BLOCK / PACK && first + p * PACK < end; p++) {
        struct stored one = stored_in(shape, look, first + p * PACK);
        block->keys[p] = as_floats(one.keys, one.num_keys, shape->stored, room);
        block->values[p] = as_floats(one.values, one.num_values, shape->stored, room + one.num_keys);
        room += one.num_keys + one.num_values;
    }
}

/* The same pages, to be asked for: keys first, as they are wanted. */
static void look_ahead(const struct heads *shape, const struct look *look,
                       long first, long end, struct ahead *ahead) {
    long pages = smaller(KEY_BLOCK / PACK, (end - first + PACK - 1) / PACK);
    for (long p = 0; p < pages; p++) {
        struct stored one = stored_in(shape, look, first + p * PACK);
        ahead->parts[2 * pages - 1 - p] = one.keys, ahead->parts[pages - 1 - p] = one.values;
        ahead->part_bytes = one.num_values * size_of(shape->stored);
    }
    ahead->count = (int)(2 * pages);
}
