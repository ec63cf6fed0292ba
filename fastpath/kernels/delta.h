/* Gated delta nets (N16): one head's matrix (key_dim, value_dim) over the tokens of a chunk, in order.
 *
 * Columns of the matrix are independent, so a stripe of them, in vector lanes, takes all tokens before the next stripe
 * begins. Where there are several tokens it lies in a buffer meanwhile, side by side, which the first cache holds.
 */
enum { STRIPE_VECTORS = 4, STRIPE = STRIPE_VECTORS * WIDTH };

/* Rows of length 1, then times a factor. */
static void unit_rows(float *x, long rows, long n, float epsilon, float factor) {
    for (long row = 0; row < rows; row++, x += n) {
        float scale = 1.0f / sqrtf(sum_of_squares(x, n) + epsilon);
        for (long i = 0; i < n; i++) x[i] = x[i] * scale * factor;
    }
}

/* steps = 2^-(decays * softplus(steps + bias)) */
static void decay_steps(float *steps, const float *bias, const float *decays, long n) {
    for (long i = 0; i < n; i++) steps[i] = exp2_of(-(decays[i] * softplus_of(steps[i] + bias[i])));
}

/* One token of a stripe: decay, read under the key, correct by a share of the difference, read under the query. */
INLINE void delta_token(float *state, long stride, const float *query, const float *key, long key_dim,
                        const float *value, float decay, float rate, float *out) {
    vec sums[STRIPE_VECTORS], change[STRIPE_VECTORS], kept = splat(decay), share = splat(rate);
    UNROLL for (int v = 0; v < STRIPE_VECTORS; v++) sums[v] = (vec){0};
    for (long i = 0; i < key_dim; i++) {
        float *row = state + i * stride;
        vec k = splat(key[i]);
        UNROLL for (int v = 0; v < STRIPE_VECTORS; v++) {
            vec x = load(row + v * WIDTH) * kept;
            store(row + v * WIDTH, x);
            sums[v] += x * k;
        }
    }
    UNROLL for (int v = 0; v < STRIPE_VECTORS; v++) {
        change[v] = (load(value + v * WIDTH) - sums[v]) * share;
        sums[v] = (vec){0};
    }
    for (long i = 0; i < key_dim; i++) {
        float *row = state + i * stride;
        vec k = splat(key[i]), q = splat(query[i]);
        UNROLL for (int v = 0; v < STRIPE_VECTORS; v++) {
            vec x = load(row + v * WIDTH) + k * change[v];
            store(row + v * WIDTH, x);
            sums[v] += x * q;
        }
    }
    UNROLL for (int v = 0; v < STRIPE_VECTORS; v++) store(out + v * WIDTH, sums[v]);
}

/* A stripe of the matrix that is copied, of `width` columns and zeros past them. */
static void delta_buffered(const struct delta_head *head, long column, long width) {
    float buffer[head->key_dim * STRIPE] __attribute__((aligned(64)));
    float value[STRIPE] = {0}, out[STRIPE];
    for (long i = 0; i < head->key_dim; i++) {
        memcpy(buffer + i * STRIPE, head->state + i * head->value_dim + column, width * sizeof(float));
        memset(buffer + i * STRIPE + width, 0, (STRIPE - width) * sizeof(float));
    }
    for (long t = 0; t < head->tokens; t++) {
        memcpy(value, head->values + t * head->row_step + column, width * sizeof(float));
        delta_token(buffer, STRIPE, head->queries + t * head->row_step, head->keys + t * head->row_step, head->key_dim,
                    value, head->decays[t * head->head_step], head->rates[t * head->head_step], out);
        memcpy(head->out + t * head->out_step + column, out, width * sizeof(float));
    }
    for (long i = 0; i < head->key_dim; i++)
        memcpy(head->state + i * head->value_dim + column, buffer + i * STRIPE, width * sizeof(float));
}

static void delta_rule(const struct delta_head *head) {
    for (long column = 0; column < head->value_dim; column += STRIPE) {
        long width = min(STRIPE, head->value_dim - column);
        if (head->tokens > 1 || width < STRIPE) delta_buffered(head, column, width);
        else
            delta_token(head->state + column, head->value_dim, head->queries, head->keys, head->key_dim,
                        head->values + column, *head->decays, *head->rates, head->out + column);
    }
}
