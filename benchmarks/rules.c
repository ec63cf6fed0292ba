/* The time of each kernel; benchmarks/rules.py compiles this program twice, once without the contract's rules.
 *
 * Sizes are those of a model of half a billion parameters; all data fit the L2 cache, so that arithmetic is measured and
 * not memory. Prints a line for each kernel: its name, and microseconds, the best of several runs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels.h"

enum { ROWS = 60, INPUTS = 896, OUTPUTS = 512, KEYS = 2048, HEADS = 14, KV_HEADS = 2, HEAD_DIM = 64 };
enum { VOCAB = 151936, RUNS = 30 };

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e6 + time.tv_nsec * 1e-3;
}

/* Prints the best time of RUNS. */
#define TIME(name, work)                       \
    do {                                       \
        double best = 1e18;                    \
        for (int run = 0; run < RUNS; run++) { \
            double start = now();              \
            work;                              \
            double took = now() - start;       \
            if (took < best) best = took;      \
        }                                      \
        printf("%s %.3f\n", name, best);       \
    } while (0)

static float *floats(long count) {
    float *values = aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64);
    for (long i = 0; i < count; i++) values[i] = (float)(i * 7919 % 2003 - 1001) / 1001;
    return values;
}

static void products(const struct kernels *table, const char *name, int format, const float *x, float *y) {
    long groups = INPUTS / GROUP, bytes = (long)OUTPUTS * INPUTS * 4;
    uint8_t *weights = aligned_alloc(64, bytes);
    for (long i = 0; i < bytes; i++) weights[i] = format >= W8A8 ? i * 37 % 255 + 1 : i % 2 ? 0x3C : i * 37;
    if (format == FLOAT32) memcpy(weights, floats(bytes / 4), bytes);
    struct matrix w = {weights, NULL, INPUTS, OUTPUTS, format};
    uint8_t *after = weights; /* a group, where its scales are */
    for (long i = 0; format >= W8A8 && i < OUTPUTS / STRIP * groups; i++) {
        after += step_bytes(format);
        for (long j = 0; j < STRIP; j++) ((uint16_t *)after)[j - STRIP] = 0x1400 + j; /* about 2^-10 */
    }
    struct quantized rounded = {aligned_alloc(64, ROWS * INPUTS), aligned_alloc(64, ROWS * groups * 4 + 64),
                                aligned_alloc(64, ROWS * groups * 4 + 64)};
    table->quantize(x, ROWS, INPUTS, &rounded);
    if (format >= W8A8) TIME(name, table->linear_quantized(&w, &rounded, ROWS, 0, OUTPUTS / STRIP, y));
    else TIME(name, table->linear(&w, x, ROWS, 0, OUTPUTS / STRIP, y));
}

int main(void) {
    const struct kernels *table = available_kernels()[0];
    float *x = floats(VOCAB), *y = floats(VOCAB), *weight = floats(VOCAB);
    uint64_t *weights = malloc(VOCAB * sizeof(uint64_t));
    products(table, "float32", FLOAT32, x, y);
    products(table, "bfloat16", BFLOAT16, x, y);
    products(table, "float16", FLOAT16, x, y);
    products(table, "w8a8", W8A8, x, y);
    products(table, "w4a8", W4A8, x, y);
    struct quantized rounded = {malloc(ROWS * INPUTS), malloc(ROWS * INPUTS), malloc(ROWS * INPUTS)};
    TIME("quantize", table->quantize(x, ROWS, INPUTS, &rounded));
    TIME("rms_norm", table->rms_norm(x, weight, 1e-5f, ROWS, INPUTS, y));
    TIME("silu", table->activate(x, ROWS * INPUTS, SILU, y));
    TIME("gelu", table->activate(x, ROWS * INPUTS, GELU_TANH, y));
    TIME("rotate", table->rotate(y, ROWS * HEADS, HEAD_DIM, HEAD_DIM / 2, weight, weight));
    struct heads shape = {.num_heads = HEADS, .num_kv_heads = KV_HEADS, .head_dim = HEAD_DIM, .scale = 0.125f};
    float *keys = floats((long)KEYS * KV_HEADS * HEAD_DIM), *values = floats((long)KEYS * KV_HEADS * HEAD_DIM);
    int32_t pages[KEYS / PACK], position = KEYS - 1;
    for (int i = 0; i < KEYS / PACK; i++) pages[i] = i;
    shape.keys = keys, shape.values = values;
    struct work_item item = {x, y, pages, &position, 0, 0, HEADS / KV_HEADS};
    TIME("attention", table->attend(&shape, &item, NULL));
    TIME("sampling", table->weigh(x, VOCAB, 1, 1.44f, weights));
    double sum = 0;
    for (long i = 0; i < VOCAB; i++) sum += y[i] + weights[i];
    fprintf(stderr, "%s, %g\n", table->name, sum); /* keeps the compiler from removing work */
    return 0;
}
