// A mixture of experts (N9): who counts how much for each token, and their outputs added; reference/experts.py.
//
// scores and gates (rows, experts); a warp a row. An expert is chosen if fewer than `per_token` come before it: a larger
// score, or the same with a lower id. gate = exp2((score - largest) * log2 e), of the others 0, divided by the lane_sum
// (N2) over the chosen, or over all where the family does not make them add up to 1.
// Outputs are added in ascending id because the host launches `add_expert` in that order, from +0.
// Ladder: 1. every expert's products are launched, and skip the rows (or end at once) that did not choose it. No version
// has been measured on a device yet; many small experts will want one launch for all.
#include "common.cuh"

KERNEL weigh_experts(const float *scores, float *gates, int rows, int experts, int per_token, int is_normalized) {
    const int row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (row >= rows) return;
    scores += (size_t)row * experts;
    gates += (size_t)row * experts;
    float largest = scores[0], sum = 0.0f;
    for (int i = 1; i < experts; i++) largest = scores[i] > largest ? scores[i] : largest;
    for (int i = lane; i < experts; i += WARP) {
        int before = 0;
        for (int j = 0; j < experts; j++) before += scores[j] > scores[i] || (scores[j] == scores[i] && j < i);
        const float share = exp2_of(mul(sub(scores[i], largest), LOG2E));
        gates[i] = before < per_token ? share : 0.0f;
        sum = add(sum, is_normalized ? gates[i] : share);
    }
    const float total = fold_lanes(sum);
    for (int i = lane; i < experts; i += WARP) gates[i] = divide(gates[i], total);
}
EXPORT_KERNEL(weigh_experts)

KERNEL add_expert(float *total, const float *y, const float *gates, int stride, int hidden, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const float gate = gates[(size_t)(i / hidden) * stride];
    if (gate != 0.0f) total[i] = add(total[i], mul(y[i], gate));
}
EXPORT_KERNEL(add_expert)
