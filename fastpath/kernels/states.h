/* Layers with a state (N14): a convolution over the last tokens of each feature, and what is left of it for the next.
 *
 * A tail is (length - 1, channels), the oldest token first, or NULL for zeros; rows of x and y lie x_step and y_step
 * floats apart. Channels are the vector lanes, and threads divide them: `from` to `to` - 1.
 */

/* Input k of those that token t takes, the oldest first; NULL for one before the text. */
INLINE const float *past_input(const struct convolution *c, const float *x, long x_step, const float *tail, long at) {
    long past = c->length - 1;
    if (at >= past) return x + (at - past) * x_step;
    return tail ? tail + at * c->channels : NULL;
}

/* N14a; a product with 0 changes no sum that began from +0 */
static void convolve(const struct convolution *c, const float *x, long x_step, long tokens, const float *tail,
                     long from, long to, float *y, long y_step) {
    for (long t = 0; t < tokens; t++) {
        float *out = y + t * y_step;
        for (long i = from; i < to; i++) out[i] = 0.0f;
        for (long k = 0; k < c->length; k++) {
            const float *weight = c->weight + k * c->channels, *in = past_input(c, x, x_step, tail, t + k);
            for (long i = from; in && i < to; i++) out[i] += in[i] * weight[i];
        }
        for (long i = from; c->bias && i < to; i++) out[i] += c->bias[i];
    }
}

/* The tail after `count` tokens of x; `out` may be `tail`. */
static void keep_tail(const struct convolution *c, const float *x, long x_step, long count, const float *tail,
                      long from, long to, float *out) {
    for (long k = 0; k < c->length - 1; k++) {
        const float *in = past_input(c, x, x_step, tail, count + k);
        for (long i = from; i < to; i++) out[k * c->channels + i] = in ? in[i] : 0.0f;
    }
}

/* x = x * y, `from` to `to` - 1 of each row */
static void multiply_rows(float *x, long x_step, const float *y, long y_step, long rows, long from, long to) {
    for (long row = 0; row < rows; row++)
        for (long i = from; i < to; i++) x[row * x_step + i] *= y[row * y_step + i];
}
