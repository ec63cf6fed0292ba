// From logits to a token (N10): weights are 64-bit integers, so every sum below is exact and its order free;
// reference/sampling.py and rng.py.
//
// `find_peaks`: the largest logit of each row, ties to the lowest id, and whether all are finite. One block a row.
// `sample_rows`: steps 1 to 4 for all rows that are drawn, one block a row. Logits edited by bias and penalties,
// excluded ones at -inf; the largest; w = floor(2^40 exp2(min(0, (l - max) c))); top_k and top_p find by eight bits at
// a time the weight at which the tokens kept end, and how many of that weight stay (the lowest ids); min_p; the draw.
// Threads own runs of ids side by side, so that "the first in id order" is a scan over threads and then a walk. Only
// tokens and flags leave the device.
// `score_rows`: log-probabilities of tokens and of the best few, from the raw logits, one block a row.
// Ladder (a device has measured none): 1. a launch and a wait for every row. 2. this: one launch for all rows, with
// their settings in an array, one for all log-probabilities, one wait for both; a thread adds up equal digits before it
// touches a counter that all threads share, where nearly all weights of a large vocabulary begin with the same digit;
// 64 registers on sm_90a. Next: several blocks a row, for a batch of one.
#include "common.cuh"

enum { DIGITS = 256, MAX_WARPS = 32, AT_ONCE = 8 };

struct peak { float value; int id; };

DEVICE bool is_better(peak a, peak b) { return a.value > b.value || (a.value == b.value && a.id < b.id); }
DEVICE bool is_finite(float x) { return (__float_as_uint(x) & 0x7f800000u) != 0x7f800000u; }

// The best over all threads; everyone gets it.
DEVICE peak best_of_block(peak mine, peak *shared) {
    for (int half = 16; half; half >>= 1) {
        const peak other = {__shfl_xor_sync(EVERY_LANE, mine.value, half), __shfl_xor_sync(EVERY_LANE, mine.id, half)};
        if (is_better(other, mine)) mine = other;
    }
    __syncthreads();
    if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = mine;
    __syncthreads();
    for (unsigned i = 0; i < blockDim.x / WARP; i++)
        if (is_better(shared[i], mine)) mine = shared[i];
    return mine;
}

DEVICE peak lowest() { return {-__int_as_float(0x7f800000), 0x7fffffff}; }

// result (rows, 2): the id, and 1 if every logit is finite.
KERNEL find_peaks(const float *logits, int *result, int vocab) {
    in_turn();
    __shared__ peak shared[MAX_WARPS];
    logits += (size_t)blockIdx.x * vocab;
    peak mine = lowest();
    int is_wrong = 0;
#pragma unroll 8
    for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
        const peak other = {logits[i], i};
        is_wrong |= !is_finite(other.value);
        if (is_better(other, mine)) mine = other;
    }
    is_wrong = __syncthreads_or(is_wrong);
    mine = best_of_block(mine, shared);
    if (threadIdx.x == 0) result[blockIdx.x * 2] = mine.id, result[blockIdx.x * 2 + 1] = !is_wrong;
}
EXPORT_KERNEL(find_peaks)

// Philox4x32-10: the first two words of the block with that counter, R of N10.
DEVICE uint64_t random_bits(uint64_t seed, uint32_t position, uint32_t choice) {
    uint32_t c0 = position, c1 = choice, c2 = 0, c3 = 0, k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)c0 * 0xD2511F53u, b = (uint64_t)c2 * 0xCD9E8D57u;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0, c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1, c3 = (uint32_t)a;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return c0 | (uint64_t)c1 << 32;
}

// (a * b) >> 32 of 128 bits, for a product whose shifted value fits.
DEVICE uint64_t product_high(uint64_t a, uint64_t b) { return __umul64hi(a, b) << 32 | a * b >> 32; }

// Sum of a number over the threads before this one; `total` is over all. shared: a place for each thread.
DEVICE uint64_t sum_before(uint64_t mine, uint64_t *shared, uint64_t *total) {
    const int thread = threadIdx.x, count = blockDim.x;
    __syncthreads();
    shared[thread] = mine;
    __syncthreads();
    for (int step = 1; step < count; step *= 2) {
        const uint64_t other = thread >= step ? shared[thread - step] : 0;
        __syncthreads();
        shared[thread] += other;
        __syncthreads();
    }
    *total = shared[count - 1];
    return shared[thread] - mine;
}

struct place { uint64_t weight, kept; };  // tokens above `weight` stay, and `kept` of those that weigh as much

// The weight at which the heaviest tokens reach `needed`, counted (by_count) or summed; digit by digit from the
// highest.
DEVICE place find_end(const uint64_t *w, int vocab, uint64_t needed, bool by_count, uint64_t *digits, place *found) {
    if (threadIdx.x == 0) *found = {0, needed};
    for (int shift = 40; shift >= 0; shift -= 8) {
        __syncthreads();
        for (int i = threadIdx.x; i < DIGITS; i += blockDim.x) digits[i] = 0;
        __syncthreads();
        const uint64_t prefix = found->weight;
        uint64_t sum = 0;
        int last = 0;  // nearly all weights begin with the same digit: a thread adds up what it has of one before it tells
        for (int first = threadIdx.x; first < vocab; first += AT_ONCE * blockDim.x) {
            uint64_t some[AT_ONCE];
#pragma unroll
            for (int n = 0; n < AT_ONCE; n++) some[n] = w[min(first + n * (int)blockDim.x, vocab - 1)];
#pragma unroll
            for (int n = 0; n < AT_ONCE; n++) {
                if (first + n * (int)blockDim.x >= vocab || some[n] >> (shift + 8) != prefix >> (shift + 8)) continue;
                const int digit = some[n] >> shift & 255;
                if (digit != last && sum) atomicAdd(&digits[last], sum), sum = 0;
                last = digit;
                sum += by_count ? 1 : some[n];
            }
        }
        if (sum) atomicAdd(&digits[last], sum);
        __syncthreads();
        if (threadIdx.x == 0) {
            int digit = DIGITS - 1;
            uint64_t left = found->kept;
            while (digit > 0 && digits[digit] < left) left -= digits[digit--];
            *found = {prefix | (uint64_t)digit << shift, left};
        }
    }
    __syncthreads();
    place end = *found;
    __syncthreads();
    if (!by_count && end.weight) end.kept = (end.kept + end.weight - 1) / end.weight;
    return end;
}

// Ids of one thread: a run, so that runs lie in id order.
struct run { int from, to; };
DEVICE run my_run(int vocab) {
    const int size = (vocab + blockDim.x - 1) / blockDim.x, from = min((int)threadIdx.x * size, vocab);
    return {from, min(from + size, vocab)};
}

// Drop what lies behind that end: lighter tokens, and of those that weigh as much all but the lowest ids.
DEVICE void cut_behind(uint64_t *w, int vocab, place end, uint64_t *shared) {
    const run mine = my_run(vocab);
    uint64_t same = 0, total;
    for (int i = mine.from; i < mine.to; i++) same += w[i] == end.weight;
    uint64_t rank = sum_before(same, shared, &total);
    for (int i = mine.from; i < mine.to; i++)
        if (w[i] < end.weight || (w[i] == end.weight && rank++ >= end.kept)) w[i] = 0;
}

DEVICE uint64_t sum_of_run(const uint64_t *w, run mine) {
    uint64_t sum = 0;
#pragma unroll 8
    for (int i = mine.from; i < mine.to; i++) sum += w[i];
    return sum;
}

// What one draw depends on but its logits; requests.py fills it in. Edits begin at lists + edits, three numbers a
// token: id, in the prompt or answer (1 or 0), times in the answer; behind them their biases; behind those the excluded
// ids. Numbers that are not asked for: top_k 0, top_p 2^32, min_p 0.
struct draw {
    uint64_t top_p, min_p, seed;
    uint32_t position, choice;
    int row, place, edits, num_edits, num_excluded, top_k;
    float repetition, frequency, presence, factor;
};

// results[place]: the token of each draw, or -1 for a raw and -2 for an edited logit that is not finite. edited and w
// are room for (draws, vocab).
KERNEL __launch_bounds__(1024, 1)
    sample_rows(const float *logits, const draw *draws, const int *lists, float *edited, uint64_t *w, int *results,
                int vocab) {
    in_turn();
    __shared__ peak peaks[MAX_WARPS];
    __shared__ uint64_t shared[1024], digits[DIGITS];
    __shared__ place found;
    const draw how = draws[blockIdx.x];
    int *result = results + how.place, is_wrong = 0;
    const int *edits = lists + how.edits, *excluded = edits + 4 * how.num_edits;
    const float *biases = (const float *)(edits + 3 * how.num_edits);
    logits += (size_t)how.row * vocab;
    edited += (size_t)blockIdx.x * vocab;
    w += (size_t)blockIdx.x * vocab;
#pragma unroll 8
    for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
        edited[i] = logits[i];
        is_wrong |= !is_finite(logits[i]);
    }
    is_wrong = __syncthreads_or(is_wrong);
    if (is_wrong) {
        if (threadIdx.x == 0) *result = -1;
        return;
    }
    for (int e = threadIdx.x; e < how.num_edits; e += blockDim.x) {
        const int id = edits[e * 3], is_seen = edits[e * 3 + 1], count = edits[e * 3 + 2];
        float x = add(edited[id], biases[e]);
        if (is_seen && how.repetition != 1.0f) x = x < 0.0f ? mul(x, how.repetition) : divide(x, how.repetition);
        if (count) x = sub(sub(x, mul((float)count, how.frequency)), how.presence);
        is_wrong |= !is_finite(x);
        edited[id] = x;
    }
    is_wrong = __syncthreads_or(is_wrong);
    if (is_wrong) {
        if (threadIdx.x == 0) *result = -2;
        return;
    }
    for (int e = threadIdx.x; e < how.num_excluded; e += blockDim.x) edited[excluded[e]] = lowest().value;
    __syncthreads();
    peak best = lowest();
#pragma unroll 8
    for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
        const peak other = {edited[i], i};
        if (is_better(other, best)) best = other;
    }
    best = best_of_block(best, peaks);
    if (how.factor == 0.0f) {  // temperature 0
        if (threadIdx.x == 0) *result = best.id;
        return;
    }
    for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
        const float exponent = mul(sub(edited[i], best.value), how.factor);
        w[i] = (uint64_t)mul(exp2_of(exponent < 0.0f ? exponent : 0.0f), 1099511627776.0f);
    }
    __syncthreads();
    const run mine = my_run(vocab);
    uint64_t total;
    if (how.top_k && how.top_k < vocab) cut_behind(w, vocab, find_end(w, vocab, how.top_k, true, digits, &found), shared);
    if (how.top_p < 1ull << 32) {
        __syncthreads();
        sum_before(sum_of_run(w, mine), shared, &total);
        const uint64_t needed = product_high(how.top_p, total);
        cut_behind(w, vocab, find_end(w, vocab, needed ? needed : 1, false, digits, &found), shared);
    }
    __syncthreads();
    if (how.min_p) {  // the heaviest token weighs 2^40 and is never cut
        const uint64_t needed = product_high(how.min_p, 1ull << 40);
        for (int i = mine.from; i < mine.to; i++)
            if (w[i] < needed) w[i] = 0;
    }
    const uint64_t own = sum_of_run(w, mine), before = sum_before(own, shared, &total);
    const uint64_t threshold = __umul64hi(random_bits(how.seed, how.position, how.choice), total);
    if (before > threshold || before + own <= threshold) return;
    uint64_t running = before;
    for (int i = mine.from; i < mine.to; i++)
        if ((running += w[i]) > threshold) {
            *result = i;
            return;
        }
}
EXPORT_KERNEL(sample_rows)

// rows (2, scores): which row, and which of `tokens` it is that is scored. ids (scores, 1 + num_top): the token, or -1
// where a logit is not finite, then the best; logprobs beside them.
// (l - max) - ln 2 * log2(float(total) * 2^-40), total = sum of floor(2^40 exp2((l - max) log2 e)).
KERNEL __launch_bounds__(1024)
    score_rows(const float *logits, const int *rows, const int *tokens, int *ids, float *logprobs, int vocab, int num_top) {
    in_turn();
    __shared__ peak peaks[MAX_WARPS];
    __shared__ uint64_t shared[1024];
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
    is_wrong = __syncthreads_or(is_wrong || token < 0);  // a token that could not be drawn has no probability
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
