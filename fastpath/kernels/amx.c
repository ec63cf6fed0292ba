/* AMX (Sapphire Rapids and later): tiles of 16 rows by 16 outputs for products with integers in blocks of 256 (N4b).
 *
 * The table is that of AVX-512 but for what this file computes: a tile is worth it from AMX_ROWS rows on. Integers of 16
 * bits are 256 h + l with two signed bytes; sums of bytes are exact, and their sum 65536 hh + 256 (hl + lh) + ll is that
 * of the other levels, modulo 2^32. The kernel must permit tiles; where it does not, the level is not there.
 */
#include "kernels.h"

#if defined __x86_64__ && defined __linux__ && (defined __clang__ || __GNUC__ >= 11)
#include <sys/syscall.h>
#include <unistd.h>
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512bw,avx512vl,avx512dq,avx512vnni,amx-tile,amx-int8"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512bw,avx512vl,avx512dq,avx512vnni,amx-tile,amx-int8,prefer-vector-width=512")
#endif
#include <cpuid.h>
#include <immintrin.h>
#define LEVEL_AVX512
#define WIDTH 16
#pragma GCC diagnostic ignored "-Wunused-function"
#include "vector.h"
#include "elementwise.h"
#include "tiles.h"
#include "blocks.h"
#ifdef EMULATED_TILES /* by a test, on machines without tiles */
#include EMULATED_TILES
#endif

enum { AMX_ROWS = 16, TILE = 16, TILE_BYTES = 64, PLANE_BYTES = BLOCK * STRIP, PERMIT = 0x1023, TILE_DATA = 18 };

struct tile_config {
    uint8_t palette, start, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* Two tiles of rows: 0 to 3 are sums (rows, then outputs), 4 and 5 x, 6 and 7 weights. */
static void configure(int first, int second) {
    struct tile_config config = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) config.row_bytes[tile] = TILE_BYTES, config.rows[tile] = TILE;
    config.rows[0] = config.rows[1] = config.rows[4] = (uint8_t)first;
    config.rows[2] = config.rows[3] = config.rows[5] = (uint8_t)(second ? second : 1);
    _tile_loadconfig(&config);
}

/* One row tile or two of x: bytes (rows, row_bytes), from a block's start on. */
struct rows_of_tiles {
    const int8_t *x;
    long row_bytes;
    int first, second;
};

/* Add the products of a plane of x and one of weights, `steps` times 64 inputs, for 32 outputs. */
INLINE void add_plane(const struct rows_of_tiles *rows, long plane, const uint8_t *weights, long steps,
                      const int is_unsigned) {
    const int8_t *x = rows->x + plane, *below = x + TILE * rows->row_bytes;
    for (long step = 0; step < steps; step++, x += TILE_BYTES, below += TILE_BYTES, weights += TILE * STRIP * 4) {
        _tile_loadd(4, x, rows->row_bytes);
        _tile_loadd(6, weights, STRIP * 4);
        _tile_loadd(7, weights + TILE_BYTES, STRIP * 4);
        if (is_unsigned) {
            _tile_dpbsud(0, 4, 6);
            _tile_dpbsud(1, 4, 7);
        } else {
            _tile_dpbssd(0, 4, 6);
            _tile_dpbssd(1, 4, 7);
        }
        if (!rows->second) continue;
        _tile_loadd(5, below, rows->row_bytes);
        if (is_unsigned) {
            _tile_dpbsud(2, 5, 6);
            _tile_dpbsud(3, 5, 7);
        } else {
            _tile_dpbssd(2, 5, 6);
            _tile_dpbssd(3, 5, 7);
        }
    }
}

typedef int32_t sums_of_tiles[2 * TILE][2 * TILE];

/* Store the sums of 32 rows by 32 outputs, and begin anew. */
INLINE void take_sums(const struct rows_of_tiles *rows, sums_of_tiles sums) {
    _tile_stored(0, sums[0], sizeof sums[0]);
    _tile_stored(1, sums[0] + TILE, sizeof sums[0]);
    if (rows->second) {
        _tile_stored(2, sums[TILE], sizeof sums[0]);
        _tile_stored(3, sums[TILE] + TILE, sizeof sums[0]);
    }
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

/* A block's weights as bytes in the layout of W8A16 or W8A8_256, and of W16A16 the low bytes behind the high ones. */
static const uint8_t *planes_of(const uint8_t *weights, long groups, int format, uint8_t *planes) {
    const long padded = (groups + 1) / 2 * 2; /* a tile has the inputs of two groups */
    if (format == W4A16 || format == W4A8_256) {
        expand(weights, groups, format, planes);
    } else if (format == W16A16) {
        for (long word = 0; word < groups * GROUP / 4; word++)
            for (int v = 0; v < STRIP; v += WIDTH) {
                wordvec even = (wordvec)load_integers(weights + (word * 2 * STRIP + v) * 4);
                wordvec odd = (wordvec)load_integers(weights + ((word * 2 + 1) * STRIP + v) * 4);
                wordvec high = ((even + 128) >> 8 & 0xFF) | (odd + 128) >> 8 << 8, low = (even & 0xFF) | odd << 8;
                memcpy(planes + (word * STRIP + v) * 4, &high, sizeof high);
                memcpy(planes + PLANE_BYTES + (word * STRIP + v) * 4, &low, sizeof low);
            }
        memset(planes + PLANE_BYTES + groups * GROUP * STRIP, 0, (padded - groups) * GROUP * STRIP);
    } else if (padded == groups) {
        return weights;
    } else {
        memcpy(planes, weights, groups * GROUP * STRIP);
    }
    memset(planes + groups * GROUP * STRIP, 0, (padded - groups) * GROUP * STRIP);
    return planes;
}

/* The exact sums of 32 outputs, from those of the planes. */
INLINE ivec whole_sum(sums_of_tiles *sums, int row, int v, int32_t correction, const int format) {
    ivec first = load_integers((const uint8_t *)&sums[0][row][v]);
    if (!takes_pairs(format)) return first + splat_integer(correction);
    ivec second = load_integers((const uint8_t *)&sums[1][row][v]);
    if (format != W16A16) return (ivec)((uvec)first << 8) + second;
    ivec third = load_integers((const uint8_t *)&sums[2][row][v]);
    return (ivec)(((uvec)first << 16) + ((uvec)second << 8) + (uvec)third);
}

/* A block of a strip for up to 32 rows. */
INLINE void multiply_rows(const struct stretch *at, const struct rows_of_tiles *rows, long low_plane,
                          const uint8_t *planes, const int format) {
    sums_of_tiles sums[3];
    const long steps = (at->groups + 1) / 2;
    for (long first = 0; first < STRIP && first < at->left; first += 2 * TILE) {
        const uint8_t *high = planes + first * 4, *low = high + PLANE_BYTES;
        add_plane(rows, 0, high, steps, !takes_pairs(format));
        take_sums(rows, sums[0]);
        if (takes_pairs(format)) {
            add_plane(rows, low_plane, high, steps, 0);
            if (format == W16A16) add_plane(rows, 0, low, steps, 0);
            take_sums(rows, sums[1]);
        }
        if (format == W16A16) {
            add_plane(rows, low_plane, low, steps, 0);
            take_sums(rows, sums[2]);
        }
        vec scales[2] = {load(at->scales + first), load(at->scales + first + WIDTH)};
        for (int row = 0; row < rows->first + rows->second; row++) {
            int32_t correction = takes_pairs(format) ? 0 : sum_of(at->corrections + row * at->x_groups, at->groups);
            ivec totals[2] = {whole_sum(sums, row, 0, correction, format),
                              whole_sum(sums, row, WIDTH, correction, format)};
            add_scaled(totals, scales, at->x_scales[row * at->x_groups], at, at->y + row * at->outputs, first,
                       at->is_first, 2);
        }
    }
}

/* Rows of a short last block, copied with zeros behind them, where a tile would read past them. */
static void pad_rows(struct rows_of_tiles *rows, long planes, long step, long bytes, int8_t *padded) {
    for (int row = 0; row < rows->first + rows->second; row++)
        for (long plane = 0; plane < planes; plane++) {
            int8_t *to = padded + (row * 2 + plane) * BLOCK;
            memcpy(to, rows->x + row * rows->row_bytes + plane * step, bytes);
            memset(to + bytes, 0, BLOCK - bytes);
        }
    rows->x = padded, rows->row_bytes = 2 * BLOCK;
}

static void multiply_block(struct stretch *at, const struct quantized *x, long rows, long start, const uint8_t *planes,
                           float *y, int format) {
    const int is_wide = takes_pairs(format);
    int8_t padded[2 * TILE * 2 * BLOCK] __attribute__((aligned(LINE)));
    for (long row = 0; row < rows; row += 2 * TILE) {
        long count = min(2 * TILE, rows - row), from = row * at->x_groups + start, low_plane = at->x_groups * GROUP;
        struct rows_of_tiles tiles = {.row_bytes = at->x_groups * GROUP * (is_wide ? 2 : 1),
                                      .first = (int)min(TILE, count),
                                      .second = (int)(count - min(TILE, count))};
        tiles.x = (is_wide ? x->slices + row * tiles.row_bytes : x->integers + row * tiles.row_bytes) + start * GROUP;
        if (at->groups % 2) pad_rows(&tiles, is_wide ? 2 : 1, low_plane, at->groups * GROUP, padded), low_plane = BLOCK;
        at->x_scales = x->scales + from, at->corrections = x->corrections + from, at->y = y + row * at->outputs;
        configure(tiles.first, tiles.second);
        if (format == W16A16) multiply_rows(at, &tiles, low_plane, planes, W16A16);
        else if (is_wide) multiply_rows(at, &tiles, low_plane, planes, W8A16);
        else multiply_rows(at, &tiles, low_plane, planes, W8A8_256);
    }
}

static void linear_in_tiles(const struct matrix *w, const struct quantized *x, long rows, long from, long to,
                            float *y) {
    if (!is_blocked(w->format) || rows < AMX_ROWS) {
        avx512_kernels.linear_quantized(w, x, rows, from, to, y);
        return;
    }
    uint8_t planes[2 * PLANE_BYTES] __attribute__((aligned(LINE)));
    const long groups = (w->inputs + GROUP - 1) / GROUP, bytes = step_bytes(w->format);
    for (long strip = from; strip < to; strip++) {
        const uint8_t *weights = (const uint8_t *)w->weights + strip * strip_bytes(w);
        const float *scales = (const float *)(weights + groups * bytes);
        for (long start = 0; start < groups; start += BLOCK_GROUPS) {
            struct stretch at = {.scales = scales + start / BLOCK_GROUPS * STRIP,
                                 .groups = min(BLOCK_GROUPS, groups - start),
                                 .x_groups = groups,
                                 .outputs = w->outputs,
                                 .left = w->outputs - strip * STRIP,
                                 .is_first = start == 0};
            const uint8_t *own = planes_of(weights + start * bytes, at.groups, w->format, planes);
            multiply_block(&at, x, rows, start, own, y + strip * STRIP, w->format);
        }
    }
    _tile_release();
}

/* As AVX-512 does, and integers of 16 bits as bytes, too: all high ones of a row, then all low ones. */
static void quantize_in_slices(const float *x, long rows, long n, int format, const struct quantized *out) {
    static const int place[] = {0, 2, 1, 3};
    avx512_kernels.quantize(x, rows, n, format, out);
    if (!takes_pairs(format)) return;
    const long padded = (n + GROUP - 1) / GROUP * GROUP;
    const int16_t *integers = (const int16_t *)out->integers;
    for (long row = 0; row < rows; row++, integers += padded)
        for (long i = 0; i < padded; i++) {
            int integer = integers[i / 4 * 4 + place[i % 4]];
            out->slices[row * padded * 2 + i] = (int8_t)((integer + 128) >> 8);
            out->slices[row * padded * 2 + padded + i] = (int8_t)(integer & 0xFF);
        }
}

static int has_tiles(void) {
#ifdef EMULATED_TILES
    return 1;
#else
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d >> 24 & 3) != 3) return 0; /* tiles, products of bytes */
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low >> 17 & 3) == 3 && syscall(SYS_arch_prctl, PERMIT, TILE_DATA) == 0;
#endif
}

const struct kernels *amx_kernels(void) {
    static struct kernels table;
    if (!has_tiles()) return NULL;
    table = avx512_kernels;
    table.name = "amx", table.quantize = quantize_in_slices, table.linear_quantized = linear_in_tiles;
    return &table;
}
#ifdef __clang__
#pragma clang attribute pop
#endif
#else
#include <stddef.h>
const struct kernels *amx_kernels(void) { return NULL; }
#endif
