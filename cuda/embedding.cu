// Embedding rows, widened (N1) or dequantised (N4g): x[r, :] = scale * table[ids[r], :]; reference/model/decoder.py,
// `_run`.
//
// Shapes: ids (rows,), table (vocab, hidden) as stored, or packed as a head is, which may be the same memory
// (linear_integers.cu, linear_blocks.cu); x float32 (rows, hidden). One block a row. No sum.
// Ladder (a device has measured none): 1. this.
#include "integers.cuh"

template <class T>
DEVICE void embed_row(const int *ids, const T *table, float *x, int hidden, float scale) {
    const int row = blockIdx.x;
    const T *from = table + (size_t)ids[row] * hidden;
    for (int i = threadIdx.x; i < hidden; i += blockDim.x) x[(size_t)row * hidden + i] = mul(widen(from[i]), scale);
}

#define EMBED(NAME, T)                                                               \
    KERNEL NAME(const int *ids, const T *table, float *x, int hidden, float scale) { \
        in_turn();                                                                   \
        embed_row<T>(ids, table, x, hidden, scale);                                  \
    }                                                                                \
    EXPORT_KERNEL(NAME)
EMBED(embed_float32, float)
EMBED(embed_float16, half_bits)
EMBED(embed_bfloat16, bfloat_bits)

// A weight as the file's tool gives it: s * q, s * q + m, or (D * c) * q - E * e, each step rounded.
enum number_type { HALVES, GROUPS_OF_32, BLOCKS_OF_256 };
template <number_type TYPE>
DEVICE float dequantize(const void *numbers, number_shape shape, size_t tile, int groups, int g, int part, int output,
                        float integer) {
    if constexpr (TYPE == HALVES) {
        const int blocks = (groups + GROUPS_A_BLOCK - 1) / GROUPS_A_BLOCK;
        const half_bits *scales = (const half_bits *)numbers +
                                  (tile * blocks + g / GROUPS_A_BLOCK) * WARP * GROUPS_A_BLOCK;
        return mul(widen(scales[output * GROUPS_A_BLOCK + g % GROUPS_A_BLOCK]), integer);
    } else if constexpr (TYPE == GROUPS_OF_32) {
        const float *both = (const float *)numbers + (tile * groups + g) * (1 + shape.has_minimum) * WARP + output;
        const float weight = mul(both[0], integer);
        return shape.has_minimum ? add(weight, both[WARP]) : weight;
    } else {
        const size_t block = tile * (groups / GROUPS_A_BLOCK) + g / GROUPS_A_BLOCK;
        const uint32_t *words = (const uint32_t *)numbers + block * words_of_block(shape) * WARP;
        const uint32_t both = words[(words_of_block(shape) - 1) * WARP + output];
        const int at = g % GROUPS_A_BLOCK * shape.parts + (shape.parts == 2 ? part : 0);
        const float weight = mul(mul(low_half(both), (float)factor_of(words, output, at)), integer);
        if (!shape.has_minimum) return weight;
        const int factor = factor_of(words + 2 * shape.parts * WARP, output, at);
        return sub(weight, mul(high_half(both), (float)factor));
    }
}

#define EMBED_INTEGERS(FORMAT, BITS, TYPE)                                                                             \
    KERNEL embed_##FORMAT(const int *ids, const group_words<BITS> *weights, const void *numbers, float *x, int hidden, \
                          float scale, int parts, int has_minimum, int offset, int table) {                            \
        in_turn();                                                                                                     \
        const int row = blockIdx.x, groups = (hidden + GROUP - 1) / GROUP, output = ids[row] % WARP;                   \
        const size_t tile = ids[row] / WARP;                                                                           \
        for (int i = threadIdx.x; i < hidden; i += blockDim.x) {                                                       \
            const int g = i / GROUP, part = i % GROUP / 16;                                                            \
            uint32_t words[2];                                                                                         \
            unpack_word(weights[tile * groups + g], table_of({parts, has_minimum, offset, table}), output, i % 16 / 4, \
                        words, words + 1);                                                                             \
            const int integer = (int8_t)((part ? words[1] : words[0]) >> i % 4 * 8) - offset;                          \
            const float weight = dequantize<TYPE>(numbers, {parts, has_minimum, offset, table}, tile, groups, g, part, \
                                                  output, (float)integer);                                             \
            x[(size_t)row * hidden + i] = mul(weight, scale);                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    EXPORT_KERNEL(embed_##FORMAT)
EMBED_INTEGERS(w8a8, 8, HALVES)
EMBED_INTEGERS(w4a8, 4, HALVES)
EMBED_INTEGERS(blocks4, 4, BLOCKS_OF_256)
EMBED_INTEGERS(blocks6, 6, BLOCKS_OF_256)
EMBED_INTEGERS(groups4, 4, GROUPS_OF_32)
EMBED_INTEGERS(groups8, 8, GROUPS_OF_32)

// Concatenate rows: y[r] = a[r] then b[r], the input of an eagle head's fusion. One block a row.
KERNEL join_rows(const float *a, const float *b, float *y, int hidden) {
    in_turn();
    const size_t row = blockIdx.x;
    for (int i = threadIdx.x; i < 2 * hidden; i += blockDim.x)
        y[row * 2 * hidden + i] = i < hidden ? a[row * hidden + i] : b[row * hidden + i - hidden];
}
EXPORT_KERNEL(join_rows)
