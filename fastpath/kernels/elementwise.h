/* Norms, rotary embeddings, exponentials: plain loops that a compiler vectorises without changing a bit.
 *
 * N2, N4 (activations), N5, N6, N7, N10 (weights). Comparisons are written so that a NaN propagates, as in NumPy.
 */
#define LOG2E 1.4426950408889634f
#define TWO_LOG2E 2.8853900817779268f
#define ROUNDER 12582912.0f /* 1.5 * 2^23 has no fraction bits: (x + ROUNDER) - ROUNDER is rint(x) */
#define ROUNDER_BITS 0x4B400000u
#define SQRT_HALF_BITS 0x3F3504F3

INLINE uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

INLINE float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* N7 */
INLINE float exp2_of(float x) {
    float clamped = x < -126.0f ? -126.0f : x;
    clamped = clamped > 127.0f ? 127.0f : clamped;
    float rounded = clamped + ROUNDER;
    float fraction = clamped - (rounded - ROUNDER);
    float result = 0.00015461447765119374f;
    result = result * fraction + 0.0013390866806730628f;
    result = result * fraction + 0.009618056938052177f;
    result = result * fraction + 0.055503569543361664f;
    result = result * fraction + 0.24022650718688965f;
    result = result * fraction + 0.6931471824645996f;
    result = result * fraction + 1.0f;
    float power = float_of((bits_of(rounded) - ROUNDER_BITS + 127u) << 23);
    return x < -126.0f ? 0.0f : result * power;
}

INLINE float log2_of(float x) {
    int32_t shifted = (int32_t)(bits_of(x) - SQRT_HALF_BITS);
    float t = float_of((shifted & 0x007FFFFF) + SQRT_HALF_BITS) - 1.0f;
    float result = 0.12614846229553223f;
    result = result * t + -0.20742103457450867f;
    result = result * t + 0.21566985547542572f;
    result = result * t + -0.23892034590244293f;
    result = result * t + 0.2879183292388916f;
    result = result * t + -0.36070483922958374f;
    result = result * t + 0.48091059923171997f;
    result = result * t + -0.7213473320007324f;
    result = result * t + 1.4426950216293335f;
    return (float)(shifted >> 23) + t * result;
}

INLINE float silu_of(float x) { return x / (1.0f + exp2_of(-x * LOG2E)); }

INLINE float sigmoid_of(float x) { return 1.0f / (1.0f + exp2_of(-x * LOG2E)); }

INLINE float tanh_of(float x) { return 1.0f - 2.0f / (1.0f + exp2_of(x * TWO_LOG2E)); }

INLINE float gelu_tanh_of(float x) {
    float cubic = x + 0.044715f * x * x * x;
    return 0.5f * x * (1.0f + tanh_of(0.7978845608028654f * cubic));
}

INLINE float relu2_of(float x) {
    float above = x < 0.0f ? 0.0f : x;
    return above * above;
}

static void exp2_all(const float *x, long n, float *y) {
    for (long i = 0; i < n; i++) y[i] = exp2_of(x[i]);
}

static void log2_all(const float *x, long n, float *y) {
    for (long i = 0; i < n; i++) y[i] = log2_of(x[i]);
}

static void activate_all(const float *x, long n, int activation, float *y) {
    if (activation == SILU)
        for (long i = 0; i < n; i++) y[i] = silu_of(x[i]);
    else if (activation == SIGMOID)
        for (long i = 0; i < n; i++) y[i] = sigmoid_of(x[i]);
    else if (activation == RELU2)
        for (long i = 0; i < n; i++) y[i] = relu2_of(x[i]);
    else
        for (long i = 0; i < n; i++) y[i] = gelu_tanh_of(x[i]);
}

static void gate_all(float *gate, const float *up, long n, int activation) {
    activate_all(gate, n, activation, gate);
    for (long i = 0; i < n; i++) gate[i] *= up[i];
}

/* N9a */
static void clamped_gate(float *gate, const float *up, long n, float alpha, float limit) {
    for (long i = 0; i < n; i++) {
        float a = gate[i] > limit ? limit : gate[i], b = up[i] > limit ? limit : up[i];
        b = b < -limit ? -limit : b;
        gate[i] = (b + 1.0f) * (a * sigmoid_of(a * alpha));
    }
}

static void softcap_all(float *x, long n, float cap, float factor) {
    for (long i = 0; i < n; i++) x[i] = factor * tanh_of(x[i] / cap);
}

static void add_all(float *x, const float *y, long n, float factor) {
    for (long i = 0; i < n; i++) x[i] += y[i] * factor;
}

static void scale_all(float *x, long n, float factor) {
    for (long i = 0; i < n; i++) x[i] *= factor;
}

static void multiply_all(float *x, const float *y, long n) {
    for (long i = 0; i < n; i++) x[i] *= y[i];
}

/* N2: the lanes fold 16, 8, 4, 2, 1. */
INLINE float fold(float *lanes) {
    for (int half = LANES / 2; half; half /= 2)
        for (int j = 0; j < half; j++) lanes[j] += lanes[j + half];
    return lanes[0];
}

static float lane_sum(const float *x, long n) {
    float lanes[LANES] = {0};
    long i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) lanes[j] += x[i + j];
    for (int j = 0; i + j < n; j++) lanes[j] += x[i + j];
    return fold(lanes);
}

static float sum_of_squares(const float *x, long n) {
    float lanes[LANES] = {0};
    long i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) lanes[j] += x[i + j] * x[i + j];
    for (int j = 0; i + j < n; j++) lanes[j] += x[i + j] * x[i + j];
    return fold(lanes);
}

/* N5 */
static void rms_norm(const float *x, const float *weight, float epsilon, long rows, long n, float *y) {
    for (long row = 0; row < rows; row++, x += n, y += n) {
        float scale = 1.0f / sqrtf(sum_of_squares(x, n) / (float)n + epsilon);
        for (long i = 0; i < n; i++) y[i] = x[i] * scale * weight[i];
    }
}

static void layer_norm(const float *x, const float *weight, const float *bias, float epsilon, long rows, long n,
                       float *y) {
    for (long row = 0; row < rows; row++, x += n, y += n) {
        float mean = lane_sum(x, n) / (float)n;
        for (long i = 0; i < n; i++) y[i] = x[i] - mean;
        float scale = 1.0f / sqrtf(sum_of_squares(y, n) / (float)n + epsilon);
        for (long i = 0; i < n; i++) y[i] = y[i] * scale * weight[i];
        for (long i = 0; bias && i < n; i++) y[i] += bias[i];
    }
}

/* N6: rotate one token's heads in place; features past the two halves stay unchanged. */
static void rotate(float *x, long heads, long head_dim, long half, const float *cosines, const float *sines) {
    for (long head = 0; head < heads; head++, x += head_dim)
        for (long i = 0; i < half; i++) {
            float a = x[i], b = x[i + half];
            x[i] = a * cosines[i] - b * sines[i];
            x[i + half] = b * cosines[i] + a * sines[i];
        }
}

/* N4: one full group of activations. */
INLINE void quantize_group(const float *x, int8_t *integers, float *scale, int32_t *correction, int32_t *sums) {
    int32_t largest_bits = 0; /* the bits of positive floats are ordered like the floats, NaN last */
    for (int i = 0; i < GROUP; i++) {
        int32_t bits = (int32_t)(bits_of(x[i]) & 0x7FFFFFFF);
        largest_bits = bits > largest_bits ? bits : largest_bits;
    }
    float largest = float_of((uint32_t)largest_bits);
    int is_zero = largest < 0x1p-100f;
    float factor = is_zero ? 0.0f : 127.0f / largest;
    *scale = is_zero ? 0.0f : largest / 127.0f;
    for (int i = 0; i < GROUP; i++) { integers[i] = (int8_t)(bits_of(x[i] * factor + ROUNDER) - ROUNDER_BITS); }
    sums[0] = sums[1] = 0;
    for (int i = 0; i < GROUP / 2; i++) sums[0] += integers[i], sums[1] += integers[i + GROUP / 2];
    *correction = -128 * (sums[0] + sums[1]);
}

static void quantize_groups(const float *x, long rows, long n, const struct quantized *out) {
    long groups = (n + GROUP - 1) / GROUP;
    for (long row = 0; row < rows; row++, x += n)
        for (long g = 0; g < groups; g++) {
            const float *group = x + g * GROUP;
            float padded[GROUP] = {0};
            if (n - g * GROUP < GROUP) group = memcpy(padded, group, sizeof(float) * (n - g * GROUP));
            long at = row * groups + g;
            quantize_group(group, out->integers + at * GROUP, out->scales + at, out->corrections + at,
                           out->sums + at * 2);
        }
}

/* N10: floor(2^40 * exp2((logit - peak) * factor)), at most 2^40. */
static void weigh(const float *logits, long n, float peak, float factor, uint64_t *weights) {
    for (long i = 0; i < n; i++) {
        float exponent = (logits[i] - peak) * factor;
        weights[i] = (uint64_t)(int64_t)(exp2_of(exponent > 0.0f ? 0.0f : exponent) * 0x1p40f);
    }
}

/* N10: the sum; 2^40 times 2^20 tokens fits in 64 bits. */
static uint64_t total(const uint64_t *weights, long n) {
    uint64_t sum = 0;
    for (long i = 0; i < n; i++) sum += weights[i];
    return sum;
}

/* N10: the first token whose running sum exceeds bits / 2^64 of the total; whole blocks are skipped by their sums. */
static long draw(const uint64_t *weights, long n, uint64_t bits) {
    uint64_t threshold = (uint64_t)((unsigned __int128)bits * total(weights, n) >> 64), running = 0;
    long i = 0;
    for (; i + 64 <= n; i += 64) {
        uint64_t block = total(weights + i, 64);
        if (running + block > threshold) break;
        running += block;
    }
    for (; i < n; i++) {
        running += weights[i];
        if (running > threshold) break;
    }
    return i;
}

/* N10: the largest logit; the bits of floats are ordered like integers once those of negative floats are inverted. */
static float peak(const float *logits, long n, int *is_finite) {
    int32_t highest = INT32_MIN, widest = 0;
    for (long i = 0; i < n; i++) {
        int32_t bits = (int32_t)bits_of(logits[i]), magnitude = bits & 0x7FFFFFFF;
        int32_t place = bits < 0 ? ~magnitude : magnitude;
        highest = place > highest ? place : highest;
        widest = magnitude > widest ? magnitude : widest;
    }
    *is_finite = widest < 0x7F800000;
    return float_of(highest < 0 ? (uint32_t)~highest | 0x80000000 : (uint32_t)highest);
}

/* N10: the index of the first logit that equals `value`. */
static long find(const float *logits, long n, float value) {
    long i = 0;
    for (int is_there = 0; i + 64 <= n; i += 64) {
        for (long j = 0; j < 64; j++) is_there |= logits[i + j] == value;
        if (is_there) break;
    }
    while (i < n && logits[i] != value) i++;
    return i;
}
