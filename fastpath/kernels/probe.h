/* Peak rates of the processor at this level, for benchmarks only. */

/* Read memory in four streams; returning the sum of its words keeps the compiler from removing the reads. */
static uint64_t probe_read(const void *memory, long bytes) {
    const uint8_t *from = memory;
    long quarter = bytes / 4 / sizeof(ivec) * sizeof(ivec);
    ivec a = {0}, b = {0}, c = {0}, d = {0};
    for (long i = 0; i < quarter; i += sizeof(ivec)) {
        a += load_integers(from + i), b += load_integers(from + quarter + i);
        c += load_integers(from + 2 * quarter + i), d += load_integers(from + 3 * quarter + i);
    }
    a += b + c + d;
    uint64_t sum = 0;
    for (int i = 0; i < WIDTH; i++) sum += (uint32_t)a[i];
    return sum;
}

/* Multiply and add bytes, or floats as in N3, in registers; returns the number of operations. `memory` holds 12 vectors
 * whose values the compiler cannot know, and receives a sum. */
#define EACH_PROBE(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)

static double probe_integers(long rounds, float *memory) {
#define INTEGER_PROBE(v) \
    ivec weights##v = load_integers((const uint8_t *)memory + v * sizeof(ivec)), dots##v = weights##v;
#define ADD_INTEGERS(v) dots##v = add_dot(dots##v, weights##v, (int32_t)i, W4A8);
#define TAKE_INTEGERS(v) dots0 += dots##v;
    EACH_PROBE(INTEGER_PROBE)
    for (long i = 0; i < rounds; i++) { EACH_PROBE(ADD_INTEGERS) }
    EACH_PROBE(TAKE_INTEGERS)
    memcpy(memory, &dots0, sizeof dots0);
    return (double)rounds * 12 * WIDTH * 4 * 2;
}

static double probe_floats(long rounds, float *memory) {
#define FLOAT_PROBE(v) vec factor##v = load(memory + v * WIDTH), sum##v = factor##v;
#define ADD_FLOATS(v) sum##v += x * factor##v;
#define TAKE_FLOATS(v) sum0 += sum##v;
    EACH_PROBE(FLOAT_PROBE)
    for (long i = 0; i < rounds; i++) {
        vec x = splat(memory[i & 7]);
        EACH_PROBE(ADD_FLOATS)
    }
    EACH_PROBE(TAKE_FLOATS)
    store(memory, sum0);
    return (double)rounds * 12 * WIDTH * 2;
}
