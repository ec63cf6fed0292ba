/* Run every kernel at every level over memory of exactly its documented size, and the team with several threads.
 *
 * Prints each level with a digest of all results, which is equal at every level and on every processor.
 * test_sanitizers.py builds it with sanitizers: an access out of bounds, an overflow or a race aborts the program.
 * test_aarch64.py builds it for another processor.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "team.h"

static uint32_t state = 1;

static uint32_t random_bits(void) { return state = state * 1664525u + 1013904223u; }

static uint64_t digest;

/* FNV-1a of 64 bits. */
static void count_in(const void *made, long bytes) {
    for (const uint8_t *at = made, *end = at + bytes; at < end; at++) digest = (digest ^ *at) * 1099511628211u;
}

static float *floats(long count) {
    float *values = malloc(count * sizeof(float));
    for (long i = 0; i < count; i++) values[i] = (float)(int32_t)random_bits() * 0x1p-31f;
    return values;
}

/* Integers of N4b within their bounds, multipliers from -15 to 15, scales of about 2^-10. */
static void fill_blocks(const struct matrix *w, uint8_t *strip) {
    long groups = (w->inputs + GROUP - 1) / GROUP, step = step_bytes(w->format),
         blocks = (w->inputs + BLOCK - 1) / BLOCK;
    for (uint8_t *group = strip, *end = strip + groups * step; group < end; group += step) {
        for (long i = 0; i < step; i++) group[i] = (uint8_t)(random_bits() >> 9);
        for (long i = 1; w->format == W16A16 && i < step; i += 2) group[i] = (int8_t)group[i] >> 4;
        for (long i = step - STRIP; (w->format == W4A16 || w->format == W4A8_256) && i < step; i++)
            group[i] = (uint8_t)(group[i] % 31 - 15);
    }
    uint32_t *scales = (uint32_t *)(strip + groups * step);
    for (long i = 0; i < blocks * STRIP; i++) scales[i] = 0x3A800000 | (random_bits() >> 12);
}

static void products(const struct kernels *table, long rows, long inputs, long outputs, int format) {
    long strips = (outputs + STRIP - 1) / STRIP, groups = (inputs + GROUP - 1) / GROUP;
    struct matrix w = {NULL, NULL, inputs, outputs, format};
    long bytes = strips * strip_bytes(&w), step = step_bytes(format);
    uint8_t *weights = malloc(bytes);
    for (long i = 0; i < bytes; i++) weights[i] = format == FLOAT32 || i % 2 ? 0x3C : (uint8_t)(random_bits() >> 9);
    if (is_blocked(format)) {
        for (long strip = 0; strip < strips; strip++) fill_blocks(&w, weights + strip * strip_bytes(&w));
    } else if (format == W8A8_SCALE ||
               format == W8A8_MINIMUM) { /* float32 scales and minimums of a group: about 2^-10 */
        for (long end = step; end <= bytes; end += step)
            for (long i = 1; i <= (format == W8A8_MINIMUM ? 2 * STRIP : STRIP); i++)
                ((uint32_t *)(weights + end))[-i] = 0x3A800000 | (random_bits() >> 12);
    } else if (format >= W8A8) { /* float16 scales of a group, or of a block and with its minimum */
        long numbers = format >= Q2_K ? STRIP * (1 + has_minimum(format)) : STRIP;
        step *= format >= Q2_K ? 8 : 1;
        for (long end = step; end <= bytes; end += step)
            for (long i = 1; i <= numbers; i++)
                ((uint16_t *)(weights + end))[-i] = 0x1400 | (random_bits() >> 22); /* about 2^-10 */
    }
    float *x = floats(rows * inputs), *y = malloc(rows * outputs * sizeof(float));
    int width = takes_pairs(format) ? 2 : 1;
    struct quantized rounded = {malloc(rows * groups * GROUP * width),
                                malloc(rows * groups * 4),
                                malloc(rows * groups * 4),
                                malloc(rows * groups * 8),
                                width,
                                malloc(rows * groups * GROUP * 2)};
    w.weights = weights;
    table->quantize(x, rows, inputs, format, &rounded);
    for (long strip = 0; strip < strips; strip++)
        if (format < W8A8) table->linear(&w, x, rows, strip, strip + 1, y);
        else table->linear_quantized(&w, &rounded, rows, strip, strip + 1, y);
    float sum = table->lane_sum(y, rows * outputs); /* reads every output, also one that was not written */
    if (sum != sum) abort();
    count_in(y, rows * outputs * sizeof(float)), count_in(&sum, sizeof sum);
    free(weights), free(x), free(y);
    free(rounded.integers), free(rounded.scales), free(rounded.corrections), free(rounded.sums);
    free(rounded.slices);
}

/* Elements in a dtype of the KV cache, and widened again. */
static void *stored(const struct kernels *table, long count, int dtype) {
    float *values = floats(count), *again = malloc(count * sizeof(float));
    long bytes = count * (dtype == FLOAT32 ? 4 : 2);
    void *narrow = malloc(bytes);
    table->narrow(values, count, dtype, narrow, 1), count_in(narrow, bytes);
    table->widen(narrow, count, dtype, again), count_in(again, count * sizeof(float));
    free(values), free(again);
    return narrow;
}

static void attention(const struct kernels *table, long tokens, long num_keys, long head_dim, long window, int format) {
    struct heads shape = {.num_heads = 6,
                          .num_kv_heads = 2,
                          .head_dim = head_dim,
                          .value_dim = head_dim,
                          .window = window,
                          .scale = 1,
                          .stored = format};
    long pages = (num_keys + PACK - 1) / PACK, padded = (head_dim + PACK - 1) / PACK * PACK;
    float *queries = floats(tokens * 6 * head_dim), *out = malloc(tokens * 6 * head_dim * sizeof(float));
    void *keys = stored(table, pages * 2 * head_dim * PACK, format),
         *values = stored(table, pages * 2 * padded * PACK, format);
    int32_t *numbers = malloc(pages * 4), *positions = malloc(tokens * 4);
    for (long i = 0; i < pages; i++) numbers[i] = (int32_t)(pages - 1 - i);
    for (long i = 0; i < tokens; i++) positions[i] = (int32_t)(num_keys - tokens + i);
    float *sink_scores = floats(shape.num_heads);
    shape.keys = keys, shape.values = values, shape.sink_scores = window ? sink_scores : NULL;
    struct work_item items[2];
    for (int head = 0; head < 2; head++)
        items[head] = (struct work_item){queries, out, numbers, positions, head, 0, tokens * 3};
    for (int head = 0; head < 2; head++) table->attend(&shape, &items[head], head == 0 ? &items[1] : NULL);
    count_in(out, tokens * 6 * head_dim * sizeof(float));
    free(queries), free(out), free(keys), free(values), free(numbers), free(positions), free(sink_scores);
}

/* Latent attention: all heads have one key, whose last features are its value. */
static void latents(const struct kernels *table, long tokens, long num_keys, long rank, int format) {
    struct heads shape = {
        .num_heads = 6, .num_kv_heads = 1, .head_dim = rank + 4, .value_dim = rank, .scale = 1, .stored = format};
    long pages = (num_keys + PACK - 1) / PACK;
    float *queries = floats(tokens * 6 * shape.head_dim), *out = malloc(tokens * 6 * rank * sizeof(float));
    void *keys = stored(table, pages * shape.head_dim * PACK, format);
    int32_t *numbers = malloc(pages * 4), *positions = malloc(tokens * 4);
    for (long i = 0; i < pages; i++) numbers[i] = (int32_t)(pages - 1 - i);
    for (long i = 0; i < tokens; i++) positions[i] = (int32_t)(num_keys - tokens + i);
    shape.keys = keys;
    struct work_item items[2];
    for (int i = 0; i < 2; i++)
        items[i] = (struct work_item){queries, out, numbers, positions, 0, i * tokens * 3, (i + 1) * tokens * 3};
    for (int i = 0; i < 2; i++) table->attend(&shape, &items[i], i == 0 ? &items[1] : NULL);
    count_in(out, tokens * 6 * rank * sizeof(float));
    free(queries), free(out), free(keys), free(numbers), free(positions);
}

/* The product of one head of three, whose rows lie among those of the others. */
static void rows_apart(const struct kernels *table, long rows, long inputs, long outputs) {
    long strips = (outputs + STRIP - 1) / STRIP;
    float *weights = floats(strips * STRIP * inputs), *x = floats(rows * inputs * 3), *y = floats(rows * outputs * 3);
    struct matrix w = {weights, NULL, inputs, outputs, FLOAT32};
    table->linear_apart(&w, x + inputs * 2, inputs * 3, rows, y + outputs * 2, outputs * 3);
    count_in(y, rows * outputs * 3 * sizeof(float));
    free(weights), free(x), free(y);
}

/* Elementwise kernels, on rows of an odd length. */
static void elements(const struct kernels *table, long rows, long n) {
    float *x = floats(rows * n), *y = floats(rows * n), *weight = floats(n);
    uint64_t *weights = malloc(rows * n * sizeof(uint64_t));
    table->rms_norm(x, weight, 1e-5f, rows, n, y), count_in(y, rows * n * sizeof(float));
    table->layer_norm(x, weight, weight, 1e-5f, rows, n, y), count_in(y, rows * n * sizeof(float));
    table->exp2(x, rows * n, y), count_in(y, rows * n * sizeof(float));
    table->log2(y, rows * n, y), count_in(y, rows * n * sizeof(float));
    table->weigh(x, rows * n, 1, 1.4426950f, weights), count_in(weights, rows * n * sizeof(uint64_t));
    table->softcap(y, rows * n, 2, 2.885390f), count_in(y, rows * n * sizeof(float));
    table->add(y, x, rows * n, 0.5f), count_in(y, rows * n * sizeof(float));
    for (int activation = SILU; activation <= RELU2; activation++) {
        table->activate(x, rows * n, activation, y), count_in(y, rows * n * sizeof(float));
        table->gate(x, y, rows * n, activation), count_in(x, rows * n * sizeof(float));
    }
    table->clamped_gate(x, y, rows * n, 1.702f, 0.5f), count_in(x, rows * n * sizeof(float));
    table->rotate(x, rows, n, n / 2, weight, weight), count_in(x, rows * n * sizeof(float));
    free(x), free(y), free(weight), free(weights);
}

/* A gated convolution of the middle channels, and its tails, with inputs before the text or without. */
static void convolutions(const struct kernels *table, long tokens, long length, long channels) {
    float *weight = floats(length * channels), *bias = floats(channels), *x = floats(tokens * 3 * channels);
    float *tail = floats((length - 1) * channels), *y = malloc(tokens * channels * sizeof(float));
    long from = channels / 3, rest = channels - from, bytes = rest * sizeof(float);
    struct convolution c = {weight, tokens & 1 ? bias : NULL, length, channels};
    for (int has_past = 0; has_past < 2; has_past++) {
        const float *past = has_past ? tail : NULL;
        table->multiply_rows(x, 3 * channels, x + 2 * channels, 3 * channels, tokens, from, channels);
        table->convolve(&c, x, 3 * channels, tokens, past, from, channels, y, channels);
        for (long t = 0; t < tokens; t++) count_in(y + t * channels + from, bytes);
    }
    for (long count = tokens; count >= 0; count -= 1 + tokens / 3)
        table->keep_tail(&c, x, 3 * channels, count, tail, from, channels, tail);
    for (long k = 0; k + 1 < length; k++) count_in(tail + k * channels + from, bytes);
    free(weight), free(bias), free(x), free(tail), free(y);
}

/* What layers with a state compute: a gated norm, and a head of a state space. */
static void states(const struct kernels *table, long tokens, long state_rows, long head_dim) {
    long n = head_dim + 2 * state_rows;
    float *rows = floats(tokens * n), *gate = floats(tokens * head_dim), *weight = floats(head_dim);
    float *state = floats(state_rows * head_dim), *out = floats(tokens * head_dim), *steps = floats(tokens * 2);
    float *kept = steps + tokens;
    for (long t = 0; t < tokens; t++) table->mamba_steps(steps + t, weight, weight, 0.1f, 0.9f, 1, kept + t);
    struct mamba_head head = {.tokens = tokens,
                              .state_rows = state_rows,
                              .head_dim = head_dim,
                              .row_step = n,
                              .step_step = 1,
                              .kept_step = 1,
                              .out_step = head_dim,
                              .values = rows,
                              .inward = rows + head_dim,
                              .outward = rows + head_dim + state_rows,
                              .steps = steps,
                              .kept = kept,
                              .skip = 0.5f,
                              .state = state,
                              .out = out};
    table->mamba_scan(&head), count_in(out, tokens * head_dim * sizeof(float));
    count_in(state, state_rows * head_dim * sizeof(float));
    table->gated_norm(out, gate, weight, 1e-5f, tokens, 1, head_dim, tokens & 1);
    table->softplus(out, tokens * head_dim, gate), count_in(gate, tokens * head_dim * sizeof(float));
    table->scale(gate, tokens * head_dim, 0.3f);
    table->multiply(out, gate, tokens * head_dim), count_in(out, tokens * head_dim * sizeof(float));
    free(rows), free(gate), free(weight), free(state), free(out), free(steps);
}

/* A head of a gated delta net, whose rows are a query, a key and a value each. */
static void delta_nets(const struct kernels *table, long tokens, long key_dim, long value_dim) {
    long n = 2 * key_dim + value_dim;
    float *rows = floats(tokens * n), *state = floats(key_dim * value_dim), *out = floats(tokens * value_dim);
    float *decays = floats(tokens), *rates = floats(tokens), *constants = floats(tokens * 2);
    table->unit_rows(rows, tokens, n, 1e-6f, 0.25f), count_in(rows, tokens * n * sizeof(float));
    table->decay_steps(decays, constants, constants + tokens, tokens), count_in(decays, tokens * sizeof(float));
    struct delta_head head = {.queries = rows,
                              .keys = rows + key_dim,
                              .values = rows + 2 * key_dim,
                              .decays = decays,
                              .rates = rates,
                              .out = out,
                              .state = state,
                              .row_step = n,
                              .out_step = value_dim,
                              .head_step = 1,
                              .tokens = tokens,
                              .key_dim = key_dim,
                              .value_dim = value_dim};
    table->delta_rule(&head), count_in(out, tokens * value_dim * sizeof(float));
    count_in(state, key_dim * value_dim * sizeof(float));
    free(rows), free(state), free(out), free(decays), free(rates), free(constants);
}

struct sums { long items, phases, *counts; };

/* Each phase's items increment counts that the phase before has incremented. */
static void count_up(struct team *team, void *work) {
    struct sums *sums = work;
    for (long phase = 0; phase < sums->phases; phase++) {
        for (long item; (item = team_claim(team)) < sums->items;) {
            long other = (item + phase) % sums->items;
            if (sums->counts[other] != phase) abort();
            sums->counts[other]++;
        }
        team_barrier(team);
    }
}

static void teams(void) {
    for (int threads = 1; threads <= 4; threads++) {
        team_resize(threads);
        for (int run = 0; run < 20; run++) {
            struct sums sums = {7, 50, calloc(7, sizeof(long))};
            team_run(count_up, &sums);
            for (long i = 0; i < sums.items; i++)
                if (sums.counts[i] != sums.phases) abort();
            free(sums.counts);
        }
    }
    team_resize(1);
}

int main(void) {
    static const long sizes[][3] = {{1, 1, 1},    {1, 300, 70},  {7, 33, 64},   {13, 600, 130},
                                    {6, 256, 16}, {17, 40, 200}, {50, 600, 130}};
    for (const struct kernels *const *table = available_kernels(); *table; table++) {
        state = 1, digest = 14695981039346656037u;
        for (int i = 0; i < 7; i++)
            for (int format = FLOAT32; format <= W4A8_256; format++)
                products(*table, sizes[i][0],
                         format < Q2_K || is_blocked(format) ? sizes[i][1] : (sizes[i][1] + 255) / 256 * 256,
                         sizes[i][2], format);
        for (long tokens = 1; tokens < 8; tokens += 3)
            for (long head_dim = 2; head_dim < 70; head_dim += 31)
                for (int format = FLOAT32; format <= FLOAT16; format++) {
                    attention(*table, tokens, 150, head_dim, 0, format);
                    attention(*table, tokens, 70, head_dim, 20, format);
                    latents(*table, tokens, 100, head_dim, format);
                }
        rows_apart(*table, 1, 12, 70), rows_apart(*table, 37, 33, 40);
        convolutions(*table, 1, 3, 70), convolutions(*table, 9, 4, 33), convolutions(*table, 2, 1, 16);
        states(*table, 1, 7, 5), states(*table, 70, 19, 43), states(*table, 3, 16, 64);
        delta_nets(*table, 1, 12, 64), delta_nets(*table, 9, 16, 72), delta_nets(*table, 1, 3, 5);
        elements(*table, 3, 70), elements(*table, 1, 16);
        printf("%s %016llx ", (*table)->name, (unsigned long long)digest);
    }
    teams();
    printf("done\n");
    return 0;
}
