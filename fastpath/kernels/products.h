/* Matrix products: 16 outputs in lanes, a few rows at a time, every output summed in the one order of the contract.
 *
 * linear            y[m,n] = sum over k of x[m,k] w[n,k]: in order inside blocks of 256, then block after block (N3)
 * linear_quantized  y[m,n] = sum over groups g of float(dot of 32 int8) * (s_x[m,g] * s_w[n,g]), summed alike (N4)
 *
 * A tile is some rows by some packs; its block sums stay in registers and are added to y once a block. How many it
 * has changes which weights are at hand and no sum. The level sets WIDE_PACKS (for one row), TILE_PACKS, TILE_ROWS.
 */
#define MOST_VECTORS (VECTORS * (WIDE_PACKS > TILE_PACKS ? WIDE_PACKS : TILE_PACKS))

/* Add a tile's block sums to the totals in y; the last pack may be only partly there. */
INLINE void add_block(vec sums[][MOST_VECTORS], const struct matrix *w, float *y, long pack, const int rows,
                      const int packs) {
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int p = 0; p < packs; p++) {
            long first = (pack + p) * PACK;
            float *total = y + r * w->outputs + first;
            if (first + PACK <= w->outputs) {
                UNROLL for (int v = 0; v < VECTORS; v++)
                    store(total + v * WIDTH, load(total + v * WIDTH) + sums[r][p * VECTORS + v]);
            } else {
                float lanes[PACK];
                memcpy(lanes, &sums[r][p * VECTORS], sizeof lanes);
                for (long i = 0; first + i < w->outputs; i++) total[i] += lanes[i];
            }
        }
    }
}

/* N3: inputs start to stop - 1 of some packs, for some rows of x. */
INLINE void float_tile(const struct matrix *w, const float *x, float *y, long pack, long start, long stop,
                       const int kind, const int rows, const int packs) {
    vec sums[TILE_ROWS][MOST_VECTORS];
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < packs * VECTORS; v++) sums[r][v] = (vec){0};
    for (long k = start; k < stop; k++) {
        vec column[MOST_VECTORS];
        UNROLL for (int v = 0; v < packs * VECTORS; v++)
            column[v] = widen(w->weights, ((pack + v / VECTORS) * w->inputs + k) * PACK + v % VECTORS * WIDTH, kind);
        UNROLL for (int r = 0; r < rows; r++) {
            vec value = splat(x[r * w->inputs + k]);
            UNROLL for (int v = 0; v < packs * VECTORS; v++) sums[r][v] += value * column[v];
        }
    }
    add_block(sums, w, y, pack, rows, packs);
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

INLINE vec group_scales(const struct matrix *w, long pack, long groups, long g, int v) {
    halfvec bits;
    memcpy(&bits, w->scales + ((pack + v / VECTORS) * groups + g) * PACK + v % VECTORS * WIDTH, sizeof bits);
    return widen_half(bits);
}

INLINE int32_t four_bytes(const int8_t *address) {
    int32_t bytes;
    memcpy(&bytes, address, sizeof bytes);
    return bytes;
}

/* Four inputs' products for all rows and packs of a tile; from one row of x to the next it is `step` bytes. */
INLINE void add_dots(ivec dots[][MOST_VECTORS], const ivec *weights, const int8_t *x, long step, const int kind,
                     const int rows, const int packs) {
    UNROLL for (int r = 0; r < rows; r++) {
        int32_t factors = four_bytes(x + r * step);
        UNROLL for (int v = 0; v < packs * VECTORS; v++) dots[r][v] = add_dot(dots[r][v], weights[v], factors, kind);
    }
}

/* N4: groups start to stop - 1 of some packs, for some rows of x. */
INLINE void quantized_tile(const struct matrix *w, const struct quantized *x, float *y, long pack, long start,
                           long stop, const int kind, const int rows, const int packs) {
    const long groups = (w->inputs + GROUP - 1) / GROUP;
    const int quads = kind == W4A8 ? GROUP / 8 : GROUP / 4; /* fours of bytes, an output's share of a group */
    vec sums[TILE_ROWS][MOST_VECTORS];
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < packs * VECTORS; v++) sums[r][v] = (vec){0};
    for (long g = start; g < stop; g++) {
        ivec dots[TILE_ROWS][MOST_VECTORS];
        UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int v = 0; v < packs * VECTORS; v++) dots[r][v] = first_dot(x->corrections[r * groups + g], kind);
        for (int quad = 0; quad < quads; quad++) {
            const int8_t *integers = x->integers + g * GROUP + quad * 4;
            ivec weights[MOST_VECTORS];
            UNROLL for (int v = 0; v < packs * VECTORS; v++) {
                long at = (((pack + v / VECTORS) * groups + g) * quads + quad) * PACK * 4;
                memcpy(&weights[v], (const uint8_t *)w->weights + at + v % VECTORS * sizeof(ivec), sizeof(ivec));
            }
            if (kind == W4A8) {
                ivec low[MOST_VECTORS];
                UNROLL for (int v = 0; v < packs * VECTORS; v++) {
                    low[v] = weights[v] & 0x0F0F0F0F;
                    weights[v] = weights[v] >> 4 & 0x0F0F0F0F;
                }
                add_dots(dots, low, integers, groups * GROUP, kind, rows, packs);
                integers += GROUP / 2;
            }
            add_dots(dots, weights, integers, groups * GROUP, kind, rows, packs);
        }
        UNROLL for (int v = 0; v < packs * VECTORS; v++) {
            vec scale = group_scales(w, pack, groups, g, v);
            UNROLL for (int r = 0; r < rows; r++)
                sums[r][v] += __builtin_convertvector(dots[r][v], vec) * (splat(x->scales[r * groups + g]) * scale);
        }
    }
    add_block(sums, w, y, pack, rows, packs);
}

/* A compiler keeps sums in registers only for counts that it knows: one copy of the tile for each count of rows. */
#define AT_MOST_TILE_ROWS(count) ((count) < TILE_ROWS ? (count) : TILE_ROWS)
#define WITH_ROWS(rows, packs, tile, ...) \
    switch (rows) { \
        case 1: tile(__VA_ARGS__, 1, packs); break; \
        case 2: tile(__VA_ARGS__, AT_MOST_TILE_ROWS(2), packs); break; \
        case 3: tile(__VA_ARGS__, AT_MOST_TILE_ROWS(3), packs); break; \
        default: tile(__VA_ARGS__, TILE_ROWS, packs); \
    }

INLINE void linear_of(const struct matrix *w, const float *x, long rows, float *y, const int kind, const int packs) {
    long num_packs = (w->outputs + PACK - 1) / PACK, step;
    memset(y, 0, sizeof(float) * rows * w->outputs);
    for (long pack = 0; pack < num_packs; pack += step) {
        step = pack + packs <= num_packs ? packs : 1;
        for (long start = 0; start < w->inputs; start += BLOCK) {
            long stop = smaller(start + BLOCK, w->inputs);
            for (long row = 0; row < rows; row += TILE_ROWS) {
                const float *tile_x = x + row * w->inputs;
                float *tile_y = y + row * w->outputs;
                if (step == packs) WITH_ROWS(rows - row, packs, float_tile, w, tile_x, tile_y, pack, start, stop, kind)
                else WITH_ROWS(rows - row, 1, float_tile, w, tile_x, tile_y, pack, start, stop, kind)
            }
        }
    }
}

/* One row needs many packs to keep the adders busy, several rows have enough to do with few. */
INLINE void linear_kind(const struct matrix *w, const float *x, long rows, float *y, const int kind) {
    if (rows == 1) linear_of(w, x, 1, y, kind, WIDE_PACKS);
    else linear_of(w, x, rows, y, kind, TILE_PACKS);
}

static void linear(const struct matrix *w, const float *x, long rows, float *y) {
    switch (w->kind) {
        case FLOAT32: linear_kind(w, x, rows, y, FLOAT32); break;
        case BFLOAT16: linear_kind(w, x, rows, y, BFLOAT16); break;
        default: linear_kind(w, x, rows, y, FLOAT16);
    }
}

INLINE void linear_integers(const struct matrix *w, const struct quantized *x, long rows, float *y, const int kind) {
    enum { PACKS = TILE_PACKS > 2 ? 2 : TILE_PACKS, BLOCK_GROUPS = BLOCK / GROUP };
    long num_packs = (w->outputs + PACK - 1) / PACK, groups = (w->inputs + GROUP - 1) / GROUP, step;
    memset(y, 0, sizeof(float) * rows * w->outputs);
    for (long pack = 0; pack < num_packs; pack += step) {
        step = pack + PACKS <= num_packs ? PACKS : 1;
        for (long start = 0; start < groups; start += BLOCK_GROUPS) {
            long stop = smaller(start + BLOCK_GROUPS, groups);
            for (long row = 0; row < rows; row += TILE_ROWS) {
                long at = row * groups;
                struct quantized tile_x = {x->integers + at * GROUP, x->scales + at, x->corrections + at};
                float *tile_y = y + row * w->outputs;
                if (step == PACKS)
                    WITH_ROWS(rows - row, PACKS, quantized_tile, w, &tile_x, tile_y, pack, start, stop, kind)
                else WITH_ROWS(rows - row, 1, quantized_tile, w, &tile_x, tile_y, pack, start, stop, kind)
            }
        }
    }
}

static void linear_quantized(const struct matrix *w, const struct quantized *x, long rows, float *y) {
    if (w->kind == W4A8) linear_integers(w, x, rows, y, W4A8);
    else linear_integers(w, x, rows, y, W8A8);
}
