// Results from raw logits (N10): the likeliest token of each row, and log-probabilities; reference/sampling/rules.py.
//
// `find_peaks`: the largest logit of a part of a row, ties to the lowest id, and whether all are finite: grid (parts,
// rows). `join_peaks`: the same for each row from its parts, a warp a row.
// `score_rows`: log-probabilities of tokens and of the best few, from the raw logits, one block a row. Weights are 64-bit
// integers, so that their sum is exact and its order free.
// Ladder (a device has measured none): 1. a block a row for peaks, too: one multiprocessor reads 128,000 logits in 5 us
// at best (64 bytes a cycle). 2. this: as many blocks as there are multiprocessors, and a second launch.
#include "block.cuh"

struct part_peak {
    peak best;
    int is_wrong;
};

// found (rows, parts)
KERNEL find_peaks(const float *logits, part_peak *found, int vocab) {
    in_turn();
    __shared__ peak shared[MAX_WARPS];
    logits += (size_t)blockIdx.y * vocab;
    peak mine = lowest();
    int is_wrong = 0;
#pragma unroll 4
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < vocab; i += gridDim.x * blockDim.x) {
        const peak other = {logits[i], i};
        is_wrong |= !is_finite(other.value);
        if (is_better(other, mine)) mine = other;
    }
    is_wrong = __syncthreads_or(is_wrong);
    mine = best_of_block(mine, shared);
    if (threadIdx.x == 0) found[blockIdx.y * gridDim.x + blockIdx.x] = {mine, is_wrong};
}
EXPORT_KERNEL(find_peaks)

// result (rows, 2): the id, and 1 if every logit is finite.
KERNEL join_peaks(const part_peak *found, int *result, int parts) {
    in_turn();
    __shared__ peak shared[MAX_WARPS];
    found += blockIdx.x * parts;
    peak mine = lowest();
    int is_wrong = 0;
    for (int i = threadIdx.x; i < parts; i += WARP) {
        is_wrong |= found[i].is_wrong;
        if (is_better(found[i].best, mine)) mine = found[i].best;
    }
    is_wrong = __syncthreads_or(is_wrong);
    mine = best_of_block(mine, shared);
    if (threadIdx.x == 0) result[blockIdx.x * 2] = mine.id, result[blockIdx.x * 2 + 1] = !is_wrong;
}
EXPORT_KERNEL(join_peaks)

// rows (2, scores): the index of the logits row, and that of the scored token in `tokens`. ids (scores, 1 + num_top): the
// token, or -1 where a logit is not finite, then the best; logprobs likewise.
// (l - max) - ln 2 * log2(float(total) * 2^-40), total = sum of floor(2^40 exp2((l - max) log2 e)).
KERNEL __launch_bounds__(1024) score_rows(const float *logits, const int *rows, const int *tokens, int *ids,
                                          float *logprobs, int vocab, int num_top) {
    in_turn();
    __shared__ peak peaks[MAX_WARPS];
    __shared__ uint64_t shared[MAX_WARPS];
    logits += (size_t)rows[blockIdx.x] * vocab;
    ids += blockIdx.x * (1 + num_top);
    logprobs += blockIdx.x * (1 + num_top);
    const int token = tokens[rows[gridDim.x + blockIdx.x]];
    peak best = lowest();
    int is_wrong = 0;
    for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
        const peak other = {logits[i], i};
        is_wrong |= !is_finite(other.value);
        if (is_better(other, best)) best = other;
    }
    is_wrong = __syncthreads_or(is_wrong || token < 0);  // a negative token was not sampled
    if (is_wrong) {
        if (threadIdx.x == 0) ids[0] = -1;
        return;
    }
    best = best_of_block(best, peaks);
    const float highest = best.value;
    uint64_t sum = 0, total;
    for (int i = threadIdx.x; i < vocab; i += blockDim.x)
        sum += (uint64_t)mul(exp2_of(mul(sub(logits[i], highest), LOG2E)), 1099511627776.0f);
    sum_before(sum, shared, &total);
    const float log_total = mul(log2_of(mul(__ull2float_rn(total), 9.094947017729282e-13f)), LN2);
    if (threadIdx.x == 0) {
        ids[0] = token;
        logprobs[0] = sub(sub(logits[token], highest), log_total);
    }
    for (int rank = 0; rank < num_top && rank < vocab; rank++) {
        if (threadIdx.x == 0) {
            ids[1 + rank] = best.id;
            logprobs[1 + rank] = sub(sub(best.value, highest), log_total);
        }
        const peak last = best;
        best = lowest();
        for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
            const peak other = {logits[i], i};
            if (is_better(last, other) && is_better(other, best)) best = other;
        }
        best = best_of_block(best, peaks);
    }
}
EXPORT_KERNEL(score_rows)
