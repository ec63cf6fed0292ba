/* What layers with a recurrent state have in common: softplus (N7) and a gated norm (N5). */
#define LN2 0.6931471805599453f

INLINE float softplus_of(float x) {
    float y = exp2_of(-fabsf(x) * LOG2E), u = 1.0f + y, above = u - 1.0f;
    float logarithm = LN2 * log2_of(u) * (y / (above == 0.0f ? 1.0f : above));
    return (x < 0.0f ? 0.0f : x) + (above == 0.0f ? y : logarithm);
}

static void softplus_all(const float *x, long n, float *y) {
    for (long i = 0; i < n; i++) y[i] = softplus_of(x[i]);
}

INLINE void gate_rows(float *x, const float *gate, long n) {
    for (long i = 0; i < n; i++) x[i] *= silu_of(gate[i]);
}

/* x = rms_norm of x * silu(gate) in groups of `size`, or rms_norm of x, times silu(gate); no norm without a weight. */
static void gated_norm(float *x, const float *gate, const float *weight, float epsilon, long rows, long groups,
                       long size, int norms_first) {
    for (long row = 0; row < rows; row++)
        for (long group = 0; group < groups; group++, x += size, gate += size) {
            if (!norms_first || !weight) gate_rows(x, gate, size);
            if (weight) rms_norm(x, weight + group * size, epsilon, 1, size, x);
            if (norms_first && weight) gate_rows(x, gate, size);
        }
}
