/* The tile instructions of AMX that fastpath/kernels/amx.c uses, in C: what their documentation says, one thread each.
 *
 * Intel's manual, volume 2: LDTILECFG, TILELOADD, TILESTORED, TILEZERO, TDPBSSD, TDPBSUD. Loading a configuration clears
 * all tiles. A program that uses a tile without a configuration, or shapes that do not fit, aborts.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local uint8_t emulated_tile[8][16][64];
static _Thread_local struct {
    uint16_t row_bytes[16];
    uint8_t rows[16], palette;
} emulated_shape;

static void emulated_configure(const void *config) {
    const uint8_t *bytes = config;
    emulated_shape.palette = bytes[0];
    memcpy(emulated_shape.row_bytes, bytes + 16, 32), memcpy(emulated_shape.rows, bytes + 48, 16);
    memset(emulated_tile, 0, sizeof emulated_tile);
}

static void emulated_release(void) { memset(&emulated_shape, 0, sizeof emulated_shape); }

static void emulated_check(int tile) {
    int rows = emulated_shape.rows[tile], row_bytes = emulated_shape.row_bytes[tile];
    if (emulated_shape.palette != 1 || rows < 1 || rows > 16 || row_bytes < 4 || row_bytes > 64) abort();
}

static void emulated_zero(int tile) {
    emulated_check(tile);
    memset(emulated_tile[tile], 0, sizeof emulated_tile[tile]);
}

static void emulated_load(int tile, const void *from, long step) {
    emulated_zero(tile);
    for (int row = 0; row < emulated_shape.rows[tile]; row++)
        memcpy(emulated_tile[tile][row], (const char *)from + row * step, emulated_shape.row_bytes[tile]);
}

static void emulated_store(int tile, void *to, long step) {
    emulated_check(tile);
    for (int row = 0; row < emulated_shape.rows[tile]; row++)
        memcpy((char *)to + row * step, emulated_tile[tile][row], emulated_shape.row_bytes[tile]);
}

static void emulated_product(int sums, int a, int b, int is_unsigned) {
    emulated_check(sums), emulated_check(a), emulated_check(b);
    int rows = emulated_shape.rows[sums], columns = emulated_shape.row_bytes[sums] / 4,
        quads = emulated_shape.row_bytes[a] / 4;
    if (emulated_shape.rows[a] != rows || emulated_shape.row_bytes[b] != columns * 4 || emulated_shape.rows[b] != quads)
        abort();
    for (int m = 0; m < rows; m++)
        for (int n = 0; n < columns; n++) {
            int32_t sum;
            memcpy(&sum, &emulated_tile[sums][m][n * 4], 4);
            for (int k = 0; k < quads * 4; k++) {
                uint8_t weight = emulated_tile[b][k / 4][n * 4 + k % 4];
                sum += (int8_t)emulated_tile[a][m][k] * (is_unsigned ? weight : (int8_t)weight);
            }
            memcpy(&emulated_tile[sums][m][n * 4], &sum, 4);
        }
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbssd
#undef _tile_dpbsud
#define _tile_loadconfig(config) emulated_configure(config)
#define _tile_release() emulated_release()
#define _tile_zero(tile) emulated_zero(tile)
#define _tile_loadd(tile, from, step) emulated_load(tile, from, step)
#define _tile_stored(tile, to, step) emulated_store(tile, to, step)
#define _tile_dpbssd(sums, a, b) emulated_product(sums, a, b, 0)
#define _tile_dpbsud(sums, a, b) emulated_product(sums, a, b, 1)
