// Shared by all products of integers: the tensor core's fragments, the shape of tiles, and groups of packed weights.
#pragma once
#include "rows.cuh"

enum { GROUPS_A_BLOCK = BLOCK / GROUP };
enum { WARP_ROWS = 16, EIGHTS = 4, CTA_ROWS = 64, TILE_GROUPS = 4, PADDED = TILE_GROUPS * 2 + 1 };

#ifdef CUDA_EMU
// d (16, 8) += a (16, 16) b (8, 16)ᵀ in the tensor core's fragments, by shuffles.
DEVICE void add_fragments(int d[4], uint32_t a_low, uint32_t a_high, uint32_t b) {
    const int lane = threadIdx.x % WARP, r = lane / 4, t = lane % 4;
    for (int word = 0; word < 4; word++)
        for (int i = 0; i < 4; i++) {
            const uint32_t left = __shfl_sync(EVERY_LANE, i / 2 ? a_high : a_low, r * 4 + word);
            const uint32_t right = __shfl_sync(EVERY_LANE, b, (t * 2 + i % 2) * 4 + word);
            d[i] = __dp4a((int)left, (int)right, d[i]);
        }
}
#endif

// d (16, 8) = a (16, 32) b (8, 32)ᵀ on the int8 tensor core, in its layout of fragments: lane 4 r + t holds of `a` the
// bytes 4 t .. 4 t + 3 of rows r and r + 8, then the same 16 bytes on; of `b` those of row r; of `d` columns 2 t and 2
// t + 1 of rows r and r + 8.
DEVICE void multiply_fragments(int d[4], const uint32_t a[4], const uint32_t b[2]) {
#ifdef CUDA_EMU
    for (int i = 0; i < 4; i++) d[i] = 0;
    for (int part = 0; part < 2; part++) add_fragments(d, a[part * 2], a[part * 2 + 1], b[part]);
#else
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"
        : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(0));
#endif
}

// The same of half a group, to which start[0] is added in row r and start[1] in row r + 8: d = start + a (16, 16) b (8,
// 16)ᵀ.
DEVICE void multiply_half(int d[4], uint32_t a_low, uint32_t a_high, uint32_t b, int start_low, int start_high) {
#ifdef CUDA_EMU
    d[0] = d[1] = start_low, d[2] = d[3] = start_high;
    add_fragments(d, a_low, a_high, b);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%7,%8,%8};"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(a_low), "r"(a_high), "r"(b), "r"(start_low), "r"(start_high));
#endif
}

// A group of 32 inputs of a tile of 32 outputs. 8 bits: the two halves of a group. 4 bits: input i in the low, i + 16 in
// the high half of byte i. 6 bits: the four low bits of each alike, then the two high bits: word p of `tops` has those
// of words 2 p and 2 p + 1, of each the low half of the group first.
template <int BITS>
struct group_words {
    quad quads[BITS / 4][WARP];
};
struct alignas(8) top_words { uint32_t at[2]; };
template <>
struct group_words<6> {
    quad quads[1][WARP];
    top_words tops[WARP];
};

// Integers and scales of a tile's rows of x in groups `begin` and on; zeros past the last row and group.
template <class part>
DEVICE void copy_rows(part *to, const int8_t *q, const float *scales, int first, int rows, int begin, int groups) {
    for (int i = threadIdx.x; i < CTA_ROWS * TILE_GROUPS * 2; i += blockDim.x) {
        const int row = i / (TILE_GROUPS * 2), at = i % (TILE_GROUPS * 2);
        copy_async<16>(&to->x[row][at], (const quad *)q + ((size_t)(first + row) * groups + begin) * 2 + at,
                       first + row < rows && begin + at / 2 < groups);
    }
    for (int i = threadIdx.x; i < CTA_ROWS * TILE_GROUPS; i += blockDim.x) {
        const int row = i / TILE_GROUPS, g = i % TILE_GROUPS;
        copy_async<4>(&to->x_scales[row][g], scales + (size_t)(first + row) * groups + begin + g,
                      first + row < rows && begin + g < groups);
    }
}

template <int BITS>
DEVICE void copy_group(group_words<BITS> *to, const group_words<BITS> *from, int lane, bool is_there) {
    for (int v = 0; v < (BITS == 8 ? 2 : 1); v++) copy_async<16>(&to->quads[v][lane], &from->quads[v][lane], is_there);
    if constexpr (BITS == 6) copy_async<8>(&to->tops[lane], &from->tops[lane], is_there);
}

// How a format's integers become weights (N4g): factors for each group or, with two parts, for each half of one; a
// minimum or none; what is to be subtracted from an integer as it is stored; whether four bits stand for integers of a
// table: 1 those of IQ4_XS, 2 those of MXFP4.
struct number_shape { int parts, has_minimum, offset, table; };

// Sixteen integers of 8 bits, for formats whose four bits stand for them; word i of a group then has the places of inputs 4
// i .. 4 i + 3 in its low half, from the lowest bits up, and those of 16 inputs on in its high half.
struct integer_table {
    uint32_t at[4];
    bool is_used;
};

DEVICE integer_table table_of(number_shape shape) {
    if (shape.table == 1) return {{0xBFAD9881u, 0xF6EADDCFu, 0x26190D01u, 0x71594535u}, true};
    return {{0x03020100u, 0x0C080604u, 0xFDFEFF00u, 0xF4F8FAFCu}, shape.table == 2};
}

DEVICE uint32_t integers_at(const integer_table &table, uint32_t places) {
    const uint32_t lower = __byte_perm(table.at[0], table.at[1], places & 0x7777u);
    const uint32_t upper = __byte_perm(table.at[2], table.at[3], places & 0x7777u);
    return __byte_perm(lower, upper, (places & 0x8888u) >> 1 | 0x3210u);
}

// Four integers of an output, inputs 4 i .. 4 i + 3, and four from 16 + 4 i on, as bytes; of 4 bits without a table and of
// 6 bits without a sign.
template <int BITS>
DEVICE void unpack_word(const group_words<BITS> &group, const integer_table &table, int output, int i, uint32_t *low,
                        uint32_t *high) {
    const uint32_t word = group.quads[0][output].at[i];
    if constexpr (BITS == 8) {
        *low = word, *high = group.quads[1][output].at[i];
        return;
    }
    if (BITS == 4 && table.is_used) {
        *low = integers_at(table, word), *high = integers_at(table, word >> 16);
        return;
    }
    *low = word & 0x0F0F0F0Fu, *high = word >> 4 & 0x0F0F0F0Fu;
    if constexpr (BITS == 6) {
        const uint32_t top = group.tops[output].at[i / 2];
        *low |= (i % 2 ? top : top << 4) & 0x30303030u;
        *high |= (i % 2 ? top >> 2 : top << 2) & 0x30303030u;
    }
}

// The words of a block's factors, minimum factors, and its two float16 numbers, for each output.
DEVICE int words_of_block(number_shape shape) { return 2 * shape.parts * (1 + shape.has_minimum) + 1; }

// Factor number `at` of an output, of words (n, 32) of four each.
DEVICE int factor_of(const uint32_t *words, int output, int at) {
    return ((const int8_t *)words)[(at / 4 * WARP + output) * 4 + at % 4];
}

DEVICE float low_half(uint32_t word) { return widen(half_bits{(uint16_t)word}); }
DEVICE float high_half(uint32_t word) { return widen(half_bits{(uint16_t)(word >> 16)}); }
