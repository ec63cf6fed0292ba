// linear with the weights of GGUF's and other tools' formats (N4g); reference, `linear_superblocks`, `linear_quantized`.
//
// blocks4, blocks6: K in blocks of 256, integers of 4 or 6 bits. A group's sum is an exact integer: A = sum
// over its parts of c * dot. a = sum of float(A) * s_x over the block's groups in order from +0; b = sum of t * float(e)
// over groups and their parts in order from +0, t = float(S) * s_x, S the sum of the part's integers of x. A block's
// total is D * a, or D * a - E * b: each step rounded.
// groups4, groups8: groups of 32 with a float32 scale and perhaps a minimum: from +0 in order over the 8 groups of a block
// float(d) * (s_x * s_w), then t * m. In both the blocks' totals are added in order from +0.
// q and s_x as in linear_integers.cu. Weights (ceil(N/32), groups), each `group_words` (integers.cuh). Numbers are words
// of 32 bits, for 32 outputs side by side: of a block (ceil(N/32), blocks, words, 32), 2 * parts words of factors, of
// which byte b belongs to group b / parts and part b % parts; as many of minimum factors where there are minimums; D and
// E as float16 in one word. groups4 and groups8: (ceil(N/32), groups, 1 or 2, 32) floats, scale and minimum.
// linear_rows and linear_tile: grids as in linear_integers.cu. Where a format needs them, the sums of x are made once
// for all lanes, a lane a group of a row. A stored integer may have an offset: dots start from -offset * S.
// Ladder (a device has measured none): 1. this; parts, minimums and offsets are arguments and not templates, since a
// branch that all threads take alike costs little beside memory, and fifteen kernels less are to be compiled.
#include "integers.cuh"

// The sums of a row's group as the products need them: what a part's dot starts from, and t.
struct alignas(16) group_sums {
    int start[2];
    float scaled[2];
};

// The sum of each half of a group of x.
DEVICE void sum_halves(const quad x[2], int sums[2]) {
    for (int half = 0; half < 2; half++) {
        sums[half] = 0;
        for (int i = 0; i < 4; i++) sums[half] = __dp4a((int)x[half].at[i], 0x01010101, sums[half]);
    }
}

DEVICE group_sums scale_sums(int low, int high, float scale, number_shape shape) {
    group_sums sums = {{-shape.offset * low, -shape.offset * high}, {}};
    sums.scaled[0] = mul((float)(shape.parts == 2 ? low : low + high), scale);
    sums.scaled[1] = mul((float)high, scale);
    return sums;
}

// Numbers of a stage of groups: for blocks factors, minimum factors, then D and E; else scales, then minimums.
template <int GROUPS, bool IS_BLOCKS>
struct number_words {
    enum { COUNT = IS_BLOCKS ? GROUPS + 1 : 2 * GROUPS, MINIMUMS = IS_BLOCKS ? GROUPS / 2 : GROUPS };
    uint32_t at[COUNT][WARP];
};

// Copy every `step`th word from number `first` on of the groups from `begin` on; `from` is the tile's, at this lane.
template <int GROUPS, bool IS_BLOCKS>
DEVICE void copy_numbers(number_words<GROUPS, IS_BLOCKS> *to, const uint32_t *from, number_shape shape, int begin,
                         int groups, int first, int step) {
    typedef number_words<GROUPS, IS_BLOCKS> words;
    const int lane = threadIdx.x % WARP, each = 1 + shape.has_minimum;
    for (int slot = first; slot < words::COUNT; slot += step) {
        const int is_minimum = slot >= words::MINIMUMS, at = slot % words::MINIMUMS;
        if constexpr (IS_BLOCKS) {
            const int count = GROUPS / 4 * shape.parts, start = begin % GROUPS_A_BLOCK / 4 * shape.parts;
            int word = is_minimum * 2 * shape.parts + start + at;
            if (slot == GROUPS) word = words_of_block(shape) - 1;
            else if (at >= count || is_minimum > shape.has_minimum) continue;
            const size_t block = begin / GROUPS_A_BLOCK;
            copy_async<4>(&to->at[slot][lane], from + (block * words_of_block(shape) + word) * WARP, begin < groups);
        } else if (is_minimum <= shape.has_minimum)
            copy_async<4>(&to->at[slot][lane], from + ((size_t)(begin + at) * each + is_minimum) * WARP,
                          begin + at < groups);
    }
}

// Words of numbers of a tile of 32 outputs.
template <bool IS_BLOCKS>
DEVICE size_t numbers_of_tile(number_shape shape, int groups) {
    const int words = IS_BLOCKS ? groups / GROUPS_A_BLOCK * words_of_block(shape) : groups * (1 + shape.has_minimum);
    return (size_t)words * WARP;
}

// A stage of a warp: GROUPS groups of its tile and of M rows, with their numbers.
template <int BITS, int M, bool IS_BLOCKS>
struct blocks_stage {
    enum { GROUPS = BITS == 4 ? 8 : 4, A_BLOCK = GROUPS_A_BLOCK / GROUPS };
    group_words<BITS> weights[GROUPS];
    quad x[M][GROUPS][2];
    number_words<GROUPS, IS_BLOCKS> numbers;
    float x_scales[M][GROUPS];
};

template <int BITS, bool IS_BLOCKS, int M>
DEVICE void blocks_rows(const int8_t *q, const float *x_scales, const group_words<BITS> *w, const uint32_t *numbers,
                        float *y, int groups, number_shape shape, product p) {
    typedef blocks_stage<BITS, M, IS_BLOCKS> stage;
    begin(p);
    constexpr int STAGES = ring<M>::STAGES, GROUPS = stage::GROUPS;
    DYNAMIC_SHARED(stage, stages);  // (warps, STAGES), then sums (warps, M, GROUPS), then totals (blocks of K, M, 32)
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, num_warps = blockDim.x / WARP;
    group_sums *sums = (group_sums *)(stages + num_warps * STAGES);
    float *totals = (float *)(sums + num_warps * M * GROUPS);
    const int first = blockIdx.y * M;
    const bool needs_sums = shape.has_minimum || shape.offset;
    const integer_table table = table_of(shape);
    stages += warp * STAGES, sums += warp * M * GROUPS;
    for (int i = lane; i < M * GROUPS; i += WARP) sums[i] = {};
    w += tile_of(p, first) * groups;
    numbers += tile_of(p, first) * numbers_of_tile<IS_BLOCKS>(shape, groups) + lane;
    float sum[M], below[M];
    const auto block_of = [&](int s) { return warp + s / stage::A_BLOCK * num_warps; };
    const auto begin_of = [&](int s) { return block_of(s) * GROUPS_A_BLOCK + s % stage::A_BLOCK * GROUPS; };
    const auto fetch_weights = [&](int s) {
        stage *to = stages + s % STAGES;
        const int begin = begin_of(s);
        for (int g = 0; g < GROUPS; g++) copy_group(&to->weights[g], w + begin + g, lane, begin + g < groups);
        copy_numbers(&to->numbers, numbers, shape, begin, groups, 0, 1);
    };
    const auto fetch_rows = [&](int s) {
        stage *to = stages + s % STAGES;
        const int begin = begin_of(s);
        for (int m = 0; m < M; m++) {
            const size_t at = (size_t)operand_of(p, first + m) * groups + begin;
            const bool is_row = first + m < p.rows;
            if (lane < GROUPS * 2)
                copy_async<16>(to->x[m][0] + lane, (const quad *)(q + at * GROUP) + lane,
                               is_row && begin + lane / 2 < groups);
            if (lane < GROUPS)
                copy_async<4>(to->x_scales[m] + lane, x_scales + at + lane, is_row && begin + lane < groups);
        }
    };
    const auto use = [&](int s) {
        const stage *from = stages + s % STAGES;
        const auto &numbers = from->numbers;
        if (needs_sums) {
            for (int i = lane; i < M * GROUPS; i += WARP) {
                const int m = i / GROUPS, g = i % GROUPS;
                int halves[2];
                sum_halves(from->x[m][g], halves);
                sums[i] = scale_sums(halves[0], halves[1], from->x_scales[m][g], shape);
            }
            __syncwarp();
        }
        if (s % stage::A_BLOCK == 0)
            for (int m = 0; m < M; m++) sum[m] = below[m] = 0.0f;
#pragma unroll
        for (int g = 0; g < GROUPS; g++) {  // past the last group: zeros, by zeros
            uint32_t words[8];
            for (int i = 0; i < 4; i++) unpack_word(from->weights[g], table, lane, i, words + i, words + 4 + i);
            int factors[2] = {};
            float minimums[2] = {}, scale = 0.0f;
            if constexpr (IS_BLOCKS) {
                factors[0] = factors[1] = factor_of(numbers.at[0], lane, g * shape.parts);
                if (shape.parts == 2) factors[1] = factor_of(numbers.at[0], lane, g * shape.parts + 1);
                const uint32_t *below_words = numbers.at[numbers.MINIMUMS];
                if (shape.has_minimum) minimums[0] = (float)factor_of(below_words, lane, g * shape.parts);
                if (shape.has_minimum && shape.parts == 2) minimums[1] = (float)factor_of(below_words, lane, g * 2 + 1);
            } else {
                scale = __uint_as_float(numbers.at[g][lane]);
                if (shape.has_minimum) minimums[0] = __uint_as_float(numbers.at[numbers.MINIMUMS + g][lane]);
            }
#pragma unroll
            for (int m = 0; m < M; m++) {
                const quad low = from->x[m][g][0], high = from->x[m][g][1];
                const group_sums of_row = sums[m * GROUPS + g];
                const float x_scale = from->x_scales[m][g];
                int dots[2] = {of_row.start[0], of_row.start[1]};
                for (int i = 0; i < 4; i++) {
                    dots[0] = __dp4a((int)words[i], (int)low.at[i], dots[0]);
                    dots[1] = __dp4a((int)words[4 + i], (int)high.at[i], dots[1]);
                }
                if constexpr (IS_BLOCKS) {
                    const int exact = dots[0] * factors[0] + dots[1] * factors[1];
                    sum[m] = add(sum[m], mul((float)exact, x_scale));
                    if (shape.has_minimum) below[m] = add(below[m], mul(of_row.scaled[0], minimums[0]));
                    if (shape.has_minimum && shape.parts == 2)
                        below[m] = add(below[m], mul(of_row.scaled[1], minimums[1]));
                } else {
                    sum[m] = add(sum[m], mul((float)(dots[0] + dots[1]), mul(x_scale, scale)));
                    if (shape.has_minimum) sum[m] = add(sum[m], mul(of_row.scaled[0], minimums[0]));
                }
            }
        }
        if (s % stage::A_BLOCK != stage::A_BLOCK - 1) return;
        for (int m = 0; m < M; m++) {
            float total = sum[m];
            if constexpr (IS_BLOCKS) {
                const uint32_t both = numbers.at[GROUPS][lane];
                total = mul(low_half(both), total);
                if (shape.has_minimum) total = sub(total, mul(high_half(both), below[m]));
            }
            totals[(block_of(s) * M + m) * WARP + lane] = total;
        }
    };
    stream<STAGES>(blocks_of_warp(p) * stage::A_BLOCK, fetch_weights, fetch_rows, use);
    add_blocks<M>(p, totals, y, first);
}

// Four groups of 64 rows and 32 outputs, as in linear_integers.cu.
template <int BITS, bool IS_BLOCKS>
struct blocks_part {
    quad x[CTA_ROWS][PADDED];
    group_words<BITS> weights[TILE_GROUPS];
    number_words<TILE_GROUPS, IS_BLOCKS> numbers;
    float x_scales[CTA_ROWS][TILE_GROUPS];
};
struct half_sums { short at[2]; };

template <int BITS, bool IS_BLOCKS>
DEVICE void blocks_tile(const int8_t *q, const float *x_scales, const group_words<BITS> *w, const uint32_t *numbers,
                        float *y, int rows, int N, int groups, int width, epilogue after, number_shape shape,
                        const float *gates, int stride) {
    typedef blocks_part<BITS, IS_BLOCKS> part;
    __shared__ part parts[SLOTS];
    __shared__ half_sums sums[CTA_ROWS][TILE_GROUPS];
    const int lane = threadIdx.x % WARP, r = lane / 4, t = lane % 4;
    const int first = blockIdx.y * CTA_ROWS, warp = threadIdx.x / WARP, mine = warp * WARP_ROWS + r;
    const integer_table table = table_of(shape);
    w += (size_t)blockIdx.x * groups;
    numbers += blockIdx.x * numbers_of_tile<IS_BLOCKS>(shape, groups) + lane;
    const auto fetch = [&](int begin) {  // zeros past the last row and group
        part *to = parts + begin / TILE_GROUPS % SLOTS;
        copy_rows(to, q, x_scales, first, rows, begin, groups);
        copy_group(&to->weights[warp], w + begin + warp, lane, begin + warp < groups);  // as many warps as groups
        copy_numbers(&to->numbers, numbers, shape, begin, groups, warp, blockDim.x / WARP);
    };
    float total[EIGHTS][4] = {}, sum[EIGHTS][4] = {}, below[EIGHTS][4] = {};
    const auto use = [&](int begin) {
        const part *from = parts + begin / TILE_GROUPS % SLOTS;
        const auto &numbers = from->numbers;
        for (int i = threadIdx.x; i < CTA_ROWS * TILE_GROUPS; i += blockDim.x) {
            const int row = i / TILE_GROUPS, g = i % TILE_GROUPS;
            int halves[2];
            sum_halves(from->x[row] + g * 2, halves);
            sums[row][g] = {{(short)halves[0], (short)halves[1]}};
        }
        __syncthreads();
#pragma unroll
        for (int g = 0; g < TILE_GROUPS; g++) {
            const quad *x_low = from->x[mine] + g * 2, *x_high = from->x[mine + 8] + g * 2;
            const uint32_t a[4] = {x_low[0].at[t], x_high[0].at[t], x_low[1].at[t], x_high[1].at[t]};
            const float scales[2] = {from->x_scales[mine][g], from->x_scales[mine + 8][g]};
            group_sums of_row[2];
            for (int i = 0; i < 2; i++) {
                const half_sums halves = sums[mine + i * 8][g];
                of_row[i] = scale_sums(halves.at[0], halves.at[1], scales[i], shape);
            }
#pragma unroll
            for (int e = 0; e < EIGHTS; e++) {
                uint32_t b[2];
                unpack_word(from->weights[g], table, e * 8 + r, t, b, b + 1);
                int low[4], high[4];
                multiply_half(low, a[0], a[1], b[0], of_row[0].start[0], of_row[1].start[0]);
                multiply_half(high, a[2], a[3], b[1], of_row[0].start[1], of_row[1].start[1]);
                for (int i = 0; i < 4; i++) {
                    const int n = e * 8 + t * 2 + i % 2, at = g * shape.parts;
                    const group_sums &row = of_row[i / 2];
                    if constexpr (IS_BLOCKS) {
                        const int factor = factor_of(numbers.at[0], n, at);
                        const int other = shape.parts == 2 ? factor_of(numbers.at[0], n, at + 1) : factor;
                        sum[e][i] = add(sum[e][i], mul((float)(low[i] * factor + high[i] * other), scales[i / 2]));
                        const uint32_t *below_words = numbers.at[numbers.MINIMUMS];
                        if (shape.has_minimum)
                            below[e][i] = add(below[e][i], mul(row.scaled[0], (float)factor_of(below_words, n, at)));
                        if (shape.has_minimum && shape.parts == 2)
                            below[e][i] = add(below[e][i],
                                              mul(row.scaled[1], (float)factor_of(below_words, n, at + 1)));
                    } else {
                        const float scale = mul(scales[i / 2], __uint_as_float(numbers.at[g][n]));
                        sum[e][i] = add(sum[e][i], mul((float)(low[i] + high[i]), scale));
                        if (shape.has_minimum) {
                            const float minimum = __uint_as_float(numbers.at[numbers.MINIMUMS + g][n]);
                            sum[e][i] = add(sum[e][i], mul(row.scaled[0], minimum));
                        }
                    }
                }
            }
        }
        if ((begin + TILE_GROUPS) % GROUPS_A_BLOCK && begin + TILE_GROUPS < groups) return;
        for (int e = 0; e < EIGHTS; e++)
            for (int i = 0; i < 4; i++) {
                if constexpr (IS_BLOCKS) {
                    const uint32_t both = numbers.at[TILE_GROUPS][e * 8 + t * 2 + i % 2];
                    sum[e][i] = mul(low_half(both), sum[e][i]);
                    if (shape.has_minimum) sum[e][i] = sub(sum[e][i], mul(high_half(both), below[e][i]));
                }
                total[e][i] = add(total[e][i], sum[e][i]), sum[e][i] = below[e][i] = 0.0f;
            }
    };
    stream_tile<TILE_GROUPS>(groups, fetch, use);
    for (int e = 0; e < EIGHTS; e++)
        for (int i = 0; i < 4; i++) {
            const int row = first + mine + i / 2 * 8, n = blockIdx.x * WARP + e * 8 + t * 2 + i % 2;
            if (row >= rows || n >= N || !is_wanted(gates, stride, row)) continue;
            const size_t at = (size_t)row * width + n;
            y[at] = finish(after, total[e][i], n, at);
        }
}

#define BLOCKS_OPERANDS(BITS)                                                                                        \
    const int8_t *q, const float *x_scales, const group_words<BITS> *w, const uint32_t *numbers, float *y, int rows, \
        int N, int groups, int width, const float *bias, const float *residual, float scale, int parts,              \
        int has_minimum, int offset, int table
#define BLOCKS_ROWS(NAME, BITS, IS_BLOCKS, M)                                                                    \
    KERNEL __launch_bounds__(128, 2) NAME(BLOCKS_OPERANDS(BITS), const int *chosen, int share) {                 \
        const int num_blocks = (groups + GROUPS_A_BLOCK - 1) / GROUPS_A_BLOCK;                                   \
        blocks_rows<BITS, IS_BLOCKS, M>(q, x_scales, w, numbers, y, groups, {parts, has_minimum, offset, table}, \
                                        {rows, N, num_blocks, width, {bias, residual, scale}, chosen, share});   \
    }                                                                                                            \
    EXPORT_KERNEL(NAME)
#define BLOCKS(FORMAT, BITS, IS_BLOCKS)                                                                           \
    BLOCKS_ROWS(linear_rows1_##FORMAT, BITS, IS_BLOCKS, 1)                                                        \
    BLOCKS_ROWS(linear_rows2_##FORMAT, BITS, IS_BLOCKS, 2)                                                        \
    BLOCKS_ROWS(linear_rows4_##FORMAT, BITS, IS_BLOCKS, 4)                                                        \
    BLOCKS_ROWS(linear_rows8_##FORMAT, BITS, IS_BLOCKS, 8)                                                        \
    KERNEL __launch_bounds__(128) linear_tile_##FORMAT(BLOCKS_OPERANDS(BITS), const float *gates, int stride) {   \
        in_turn();                                                                                                \
        blocks_tile<BITS, IS_BLOCKS>(q, x_scales, w, numbers, y, rows, N, groups, width, {bias, residual, scale}, \
                                     {parts, has_minimum, offset, table}, gates, stride);                         \
    }                                                                                                             \
    EXPORT_KERNEL(linear_tile_##FORMAT)
BLOCKS(blocks4, 4, true)
BLOCKS(blocks6, 6, true)
BLOCKS(groups4, 4, false)
BLOCKS(groups8, 8, false)
