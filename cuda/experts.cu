// A mixture of experts (N9): each expert's weight for a token, and the sum of outputs; reference/model/experts.py.
//
// scores and gates (rows, experts); a warp a row. An expert is chosen if fewer than `per_token` have a larger score, or
// an equal score and a lower id. gate = exp2((score - largest) * log2 e), 0 for the others, divided by the lane_sum (N2)
// over the chosen, or over all where the family does not normalise. The ids of the chosen are also stored in ascending
// order, (rows, per_token).
// Few rows: each row computes the products of its chosen experts (rows.cuh, `chosen`), and `add_chosen` adds them in
// that order from +0. Many rows: the host launches each expert's products and `add_expert` in ascending order of ids.
// Ladder (a device has measured none): 1. every expert's products launched, ending at once where no row chose it: of 128
// experts 640 launches a layer. 2. for few rows, one launch for all chosen experts: 4 a layer (5 with integers), and no
// weight is read for an expert that no row chose. A weight that two rows chose is read twice, perhaps from the L2 cache.
#include "block.cuh"

KERNEL weigh_experts(const float *scores, float *gates, int *chosen, int rows, int experts, int per_token,
                     int is_normalized) {
    in_turn();
    const int row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (row >= rows) return;
    scores += (size_t)row * experts;
    gates += (size_t)row * experts;
    chosen += (size_t)row * per_token;
    const float none = -__int_as_float(0x7f800000);
    float largest = none, sum = 0.0f;
    for (int i = lane; i < experts; i += WARP) largest = scores[i] > largest ? scores[i] : largest;
    largest = largest_of_warp(largest);
    int num_chosen = 0;
    for (int first = 0; first < experts; first += WARP) {
        const int i = first + lane;
        const float mine = i < experts ? scores[i] : none;
        int before = 0;
        for (int j = 0; j < experts; j++) before += scores[j] > mine || (scores[j] == mine && j < i);
        const bool is_chosen = i < experts && before < per_token;
        const float share = i < experts ? exp2_of(mul(sub(mine, largest), LOG2E)) : 0.0f,
                    gate = is_chosen ? share : 0.0f;
        sum = add(sum, is_normalized ? gate : share);
        if (i < experts) gates[i] = gate;
        const uint32_t all = __ballot_sync(EVERY_LANE, is_chosen);
        const int place = num_chosen + __popc(all & ((1u << lane) - 1));
        if (is_chosen && place < per_token) chosen[place] = i;  // with NaN scores more may be chosen
        num_chosen += __popc(all);
    }
    const float total = fold_lanes(sum);
    for (int i = lane; i < experts; i += WARP) gates[i] = divide(gates[i], total);
}
EXPORT_KERNEL(weigh_experts)

// The same by sparsemixer (Phi 3.5 MoE): one expert after another, the best of those left, its weight the share among the
// scores that are left and near it. A lane has experts lane, lane + 32, ..., at most 32 of them.
KERNEL weigh_sparsemixer(const float *scores, float *gates, int *chosen, int rows, int experts, int per_token,
                         float tolerance) {
    in_turn();
    const int row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (row >= rows) return;
    scores += (size_t)row * experts;
    gates += (size_t)row * experts;
    uint32_t taken = 0;
    for (int i = lane; i < experts; i += WARP) gates[i] = 0.0f;
    for (int choice = 0; choice < per_token; choice++) {
        peak best = lowest();
        for (int i = lane; i < experts; i += WARP) {
            const peak mine = {scores[i] == scores[i] ? scores[i] : lowest().value, i};  // a NaN is the worst
            if (!(taken >> i / WARP & 1) && is_better(mine, best)) best = mine;
        }
        for (int half = 16; half; half >>= 1) {
            const peak other = {__shfl_xor_sync(EVERY_LANE, best.value, half),
                                __shfl_xor_sync(EVERY_LANE, best.id, half)};
            if (is_better(other, best)) best = other;
        }
        const float top = scores[best.id];
        float sum = 0.0f;
        for (int i = lane; i < experts; i += WARP) {
            const float size = fabsf(scores[i]), larger = size > top ? size : top;
            const bool is_far = divide(sub(top, scores[i]), larger) > tolerance, is_left = !(taken >> i / WARP & 1);
            sum = add(sum, is_left && !is_far ? exp2_of(mul(sub(scores[i], top), LOG2E)) : 0.0f);
        }
        const float total = fold_lanes(sum);
        if (best.id % WARP == lane) {
            taken |= 1u << best.id / WARP;
            gates[best.id] = divide(exp2_of(mul(sub(top, top), LOG2E)), total);
        }
    }
    int num_chosen = 0;
    for (int first = 0; first < experts; first += WARP) {
        const uint32_t all = __ballot_sync(EVERY_LANE, taken >> first / WARP & 1);
        if (taken >> first / WARP & 1)
            chosen[(size_t)row * per_token + num_chosen + __popc(all & ((1u << lane) - 1))] = first + lane;
        num_chosen += __popc(all);
    }
}
EXPORT_KERNEL(weigh_sparsemixer)

// total[r] += y[r] * sigmoid(scores[r]), or y[r] itself: the expert that every token takes. One thread a feature.
KERNEL add_shared(float *total, const float *y, const float *scores, int hidden, int count) {
    in_turn();
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) total[i] = add(total[i], scores ? mul(y[i], sigmoid_of(scores[i / hidden])) : y[i]);
}
EXPORT_KERNEL(add_shared)

// total[r] = the chosen experts' rows y (rows, per_token, hidden) times their gates, from +0. One thread a feature.
KERNEL add_chosen(float *total, const float *y, const float *gates, const int *chosen, int experts, int per_token,
                  int hidden, int count) {
    in_turn();
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const size_t row = i / hidden;
    float sum = 0.0f;
    for (int place = 0; place < per_token; place++) {
        const size_t slot = row * per_token + place;
        const float gate = gates[row * experts + chosen[slot]];
        if (gate != 0.0f) sum = add(sum, mul(y[slot * hidden + i % hidden], gate));
    }
    total[i] = sum;
}
EXPORT_KERNEL(add_chosen)

KERNEL add_expert(float *total, const float *y, const float *gates, int stride, int hidden, int count) {
    in_turn();
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const float gate = gates[(size_t)(i / hidden) * stride];
    if (gate != 0.0f) total[i] = add(total[i], mul(y[i], gate));
}
EXPORT_KERNEL(add_expert)
