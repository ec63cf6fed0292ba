// Sample a token from each row (N10), all rows of a step in one launch; reference/sampling/rules.py and rng.py.
//
// Steps 1 to 4: logits with bias and penalties, excluded ones at -inf; the largest; w = floor(2^40 exp2(min(0, (l - max)
// c))); top_k and top_p find, eight bits at a time, the weight of the last token kept, and how many tokens of that weight
// are kept (the lowest ids); min_p; the draw. Weights are 64-bit integers: every sum is exact and its order free.
// Grid (parts, draws), 1,024 threads. With several parts, as many blocks share a row's vocabulary; they exchange results
// at two barriers (common.cuh, `group_barrier`), and at seven or eight more for top_k or top_p: a cooperative launch.
// Each thread has a contiguous run of ids, so that "the first in id order" is a scan over parts and threads, then a loop.
// Ladder (a device has measured none): 1. a launch and a wait for every row. 2. one launch for all rows, with their
// parameters in an array; a thread adds up equal digits before it touches a shared counter, since nearly all weights of a
// large vocabulary begin with the same digit. 3. this: several blocks a row, since one multiprocessor reads 128,000 logits
// in 5 us at best (64 bytes a cycle), and a draw with top_p reads them thirteen times; scans by shuffles with two barriers
// instead of twenty; all threads search for a digit, where one thread tested 256. 64 registers on sm_90a, nothing spills.
#include "block.cuh"

enum { DIGITS = 256, ROUNDS = 6, AT_ONCE = 8, MAX_PARTS = 32 };

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

// A draw's parameters; requests.py writes them. Edits begin at lists + edits, three integers a token: id, in the prompt or
// answer (1 or 0), times in the answer; then their biases; then the excluded ids. Without effect: top_k 0, top_p 2^32,
// min_p 0.
struct draw {
    uint64_t top_p, min_p, seed;
    uint32_t position, choice;
    int row, place, edits, num_edits, num_excluded, top_k;
    float repetition, frequency, presence, factor;
};

enum sum_slot { SAME_AS_TOP_K, FOR_TOP_P, SAME_AS_TOP_P, FOR_DRAW, SUMS };
enum wrong { NOTHING_WRONG, RAW, EDITED };  // which logits are not finite

// Results that the parts of a row exchange; zeros before the launch.
struct row_state {
    uint64_t digits[2][ROUNDS][DIGITS], sums[SUMS][MAX_PARTS];
    peak peaks[MAX_PARTS];
    int wrongs[MAX_PARTS];
    uint32_t arrived;
};
static_assert(sizeof(row_state) == 25992, "operations.py has its size");

// A block's number among the blocks of its row, and its ids.
struct part {
    row_state *all;
    int number, count, from, to;
};
DEVICE part my_part(row_state *all, int vocab) {
    const int count = gridDim.x, size = (vocab + count - 1) / count, from = min((int)blockIdx.x * size, vocab);
    return {all, (int)blockIdx.x, count, from, min(from + size, vocab)};
}

// A thread's contiguous run of ids.
struct run { int from, to; };
DEVICE run my_run(part own) {
    const int size = (own.to - own.from + blockDim.x - 1) / blockDim.x;
    const int from = min(own.from + (int)threadIdx.x * size, own.to);
    return {from, min(from + size, own.to)};
}

struct sums { uint64_t before, total; };

// The sums of `mine` over the threads of all parts before this thread, and over all threads.
DEVICE sums sums_of_row(uint64_t mine, part own, sum_slot which, uint64_t *shared) {
    sums found;
    found.before = sum_before(mine, shared, &found.total);
    if (own.count == 1) return found;
    uint64_t *parts = own.all->sums[which];
    if (threadIdx.x == 0) parts[own.number] = found.total;
    group_barrier(&own.all->arrived, own.count);
    found.total = 0;
    for (int i = 0; i < own.count; i++) {
        if (i < own.number) found.before += parts[i];
        found.total += parts[i];
    }
    return found;
}

// Keep tokens heavier than `weight`, and the first `kept` of those with this weight.
struct place { uint64_t weight, kept; };

// The number (by_count) or sum of the part's weights for each digit at `shift`, among weights that start with `prefix`.
DEVICE void count_digits(const uint64_t *w, part own, int shift, uint64_t prefix, bool by_count, uint64_t *digits) {
    for (int i = threadIdx.x; i < DIGITS; i += blockDim.x) digits[i] = 0;
    __syncthreads();
    uint64_t sum = 0;
    int last = 0;  // nearly all weights begin with the same digit: a thread adds up equal digits before the atomic add
    for (int first = own.from + threadIdx.x; first < own.to; first += AT_ONCE * blockDim.x) {
        uint64_t some[AT_ONCE];
#pragma unroll
        for (int n = 0; n < AT_ONCE; n++) some[n] = w[min(first + n * (int)blockDim.x, own.to - 1)];
#pragma unroll
        for (int n = 0; n < AT_ONCE; n++) {
            if (first + n * (int)blockDim.x >= own.to || some[n] >> (shift + 8) != prefix >> (shift + 8)) continue;
            const int digit = some[n] >> shift & 255;
            if (digit != last && sum) atomicAdd(&digits[last], sum), sum = 0;
            last = digit;
            sum += by_count ? 1 : some[n];
        }
    }
    if (sum) atomicAdd(&digits[last], sum);
    __syncthreads();
}

// The weight of the last token kept so that the heaviest reach `needed` tokens (by_count) or weight; highest digit first.
DEVICE place find_end(const uint64_t *w, part own, uint64_t needed, bool by_count, uint64_t *digits, uint64_t *shared,
                      place *found) {
    place end = {0, needed};
    for (int round = 0; round < ROUNDS; round++) {
        const int shift = 8 * (ROUNDS - 1 - round), digit = DIGITS - 1 - (int)threadIdx.x;
        count_digits(w, own, shift, end.weight, by_count, digits);
        uint64_t mine = digit >= 0 ? digits[digit] : 0, total;
        if (own.count > 1) {
            uint64_t *all = own.all->digits[by_count ? 0 : 1][round];
            if (mine) atomicAdd(&all[digit], mine);
            group_barrier(&own.all->arrived, own.count);
            if (digit >= 0) mine = all[digit];
        }
        const uint64_t heavier = sum_before(mine, shared, &total);
        if (digit >= 0 && heavier < end.kept && (heavier + mine >= end.kept || digit == 0))
            *found = {end.weight | (uint64_t)digit << shift, end.kept - heavier};
        __syncthreads();
        end = *found;
    }
    if (!by_count && end.weight) end.kept = (end.kept + end.weight - 1) / end.weight;
    return end;
}

// Drop tokens lighter than the end's weight, and of those with that weight all but the lowest ids.
DEVICE void cut_behind(uint64_t *w, part own, place end, sum_slot which, uint64_t *shared) {
    const run mine = my_run(own);
    uint64_t same = 0;
    for (int i = mine.from; i < mine.to; i++) same += w[i] == end.weight;
    uint64_t rank = sums_of_row(same, own, which, shared).before;
    for (int i = mine.from; i < mine.to; i++)
        if (w[i] < end.weight || (w[i] == end.weight && rank++ >= end.kept)) w[i] = 0;
}

DEVICE uint64_t sum_of_run(const uint64_t *w, run mine) {
    uint64_t sum = 0;
#pragma unroll 8
    for (int i = mine.from; i < mine.to; i++) sum += w[i];
    return sum;
}

// Copy the part's logits with their edits, excluded ones at -inf. Returns which logits are not finite.
DEVICE wrong edit(const float *logits, float *edited, part own, draw params, const int *lists) {
    const int *edits = lists + params.edits, *excluded = edits + 4 * params.num_edits;
    const float *biases = (const float *)(edits + 3 * params.num_edits);
    int is_raw_wrong = 0, is_edited_wrong = 0;
#pragma unroll 8
    for (int i = own.from + threadIdx.x; i < own.to; i += blockDim.x) {
        edited[i] = logits[i];
        is_raw_wrong |= !is_finite(logits[i]);
    }
    is_raw_wrong = __syncthreads_or(is_raw_wrong);
    for (int e = threadIdx.x; e < params.num_edits; e += blockDim.x) {
        const int id = edits[e * 3], is_seen = edits[e * 3 + 1], count = edits[e * 3 + 2];
        if (id < own.from || id >= own.to) continue;
        float x = add(edited[id], biases[e]);
        if (is_seen && params.repetition != 1.0f)
            x = x < 0.0f ? mul(x, params.repetition) : divide(x, params.repetition);
        if (count) x = sub(sub(x, mul((float)count, params.frequency)), params.presence);
        is_edited_wrong |= !is_finite(x);
        edited[id] = x;
    }
    is_edited_wrong = __syncthreads_or(is_edited_wrong);
    for (int e = threadIdx.x; e < params.num_excluded; e += blockDim.x)
        if (excluded[e] >= own.from && excluded[e] < own.to) edited[excluded[e]] = lowest().value;
    __syncthreads();
    return is_raw_wrong ? RAW : is_edited_wrong ? EDITED : NOTHING_WRONG;
}

// The row's best logit; `what` becomes the error of any of its parts.
DEVICE peak best_of_row(const float *edited, part own, wrong *what, peak *shared) {
    peak best = lowest();
#pragma unroll 8
    for (int i = own.from + threadIdx.x; i < own.to; i += blockDim.x) {
        const peak other = {edited[i], i};
        if (is_better(other, best)) best = other;
    }
    best = best_of_block(best, shared);
    if (own.count == 1) return best;
    if (threadIdx.x == 0) own.all->peaks[own.number] = best, own.all->wrongs[own.number] = *what;
    group_barrier(&own.all->arrived, own.count);
    for (int i = 0; i < own.count; i++) {
        const wrong other = (wrong)own.all->wrongs[i];
        if (is_better(own.all->peaks[i], best)) best = own.all->peaks[i];
        if (other == RAW || *what == NOTHING_WRONG) *what = other;
    }
    return best;
}

// results[place]: each draw's token, or -1 for a raw and -2 for an edited logit that is not finite. edited and w are
// scratch (draws, vocab).
KERNEL __launch_bounds__(1024, 1) sample_rows(const float *logits, const draw *draws, const int *lists, float *edited,
                                              uint64_t *w, row_state *states, int *results, int vocab) {
    in_turn();
    __shared__ peak peaks[MAX_WARPS];
    __shared__ uint64_t shared[MAX_WARPS], digits[DIGITS];
    __shared__ place found;
    const draw params = draws[blockIdx.y];
    const part own = my_part(states + blockIdx.y, vocab);
    const bool is_first = blockIdx.x == 0 && threadIdx.x == 0;
    int *result = results + params.place;
    edited += (size_t)blockIdx.y * vocab;
    w += (size_t)blockIdx.y * vocab;
    wrong what = edit(logits + (size_t)params.row * vocab, edited, own, params, lists);
    const peak best = best_of_row(edited, own, &what, peaks);
    if (what != NOTHING_WRONG || params.factor == 0.0f) {  // temperature 0: greedy
        if (is_first) *result = what == RAW ? -1 : what == EDITED ? -2 : best.id;
        return;
    }
    for (int i = own.from + threadIdx.x; i < own.to; i += blockDim.x) {
        const float exponent = mul(sub(edited[i], best.value), params.factor);
        w[i] = (uint64_t)mul(exp2_of(exponent < 0.0f ? exponent : 0.0f), 1099511627776.0f);
    }
    __syncthreads();
    const run mine = my_run(own);
    if (params.top_k && params.top_k < vocab)
        cut_behind(w, own, find_end(w, own, params.top_k, true, digits, shared, &found), SAME_AS_TOP_K, shared);
    if (params.top_p < 1ull << 32) {
        const uint64_t total = sums_of_row(sum_of_run(w, mine), own, FOR_TOP_P, shared).total;
        const uint64_t needed = product_high(params.top_p, total);
        const place end = find_end(w, own, needed ? needed : 1, false, digits, shared, &found);
        cut_behind(w, own, end, SAME_AS_TOP_P, shared);
    }
    if (params.min_p) {  // the heaviest token weighs 2^40 and is never cut
        const uint64_t needed = product_high(params.min_p, 1ull << 40);
        for (int i = mine.from; i < mine.to; i++)
            if (w[i] < needed) w[i] = 0;
    }
    const uint64_t own_sum = sum_of_run(w, mine);
    const sums row = sums_of_row(own_sum, own, FOR_DRAW, shared);
    const uint64_t threshold = __umul64hi(random_bits(params.seed, params.position, params.choice), row.total);
    if (row.before > threshold || row.before + own_sum <= threshold) return;
    uint64_t running = row.before;
    for (int i = mine.from; i < mine.to; i++)
        if ((running += w[i]) > threshold) {
            *result = i;
            return;
        }
}
EXPORT_KERNEL(sample_rows)
