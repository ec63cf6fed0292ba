/* Selective state spaces (N15): one head's state (state_rows, head_dim) over the tokens of a chunk, in order.
 *
 * Columns lie in vector lanes, each by itself. A tile of the state stays in registers for a block of tokens; what the
 * block has read so far lies in `out`, so rows are added in order whatever the size of a tile.
 */
enum { SCAN_TOKENS = 64, SCAN_ROWS = WIDTH == 16 ? 8 : 4 };

/* steps = softplus(steps + bias) within bounds; kept = 2^-(decays * steps). */
static void mamba_steps(float *steps, const float *bias, const float *decays, float least, float greatest, long n,
                        float *kept) {
    for (long i = 0; i < n; i++) {
        float step = softplus_of(steps[i] + bias[i]);
        step = step < least ? least : step;
        steps[i] = step > greatest ? greatest : step;
        kept[i] = exp2_of(-(decays[i] * steps[i]));
    }
}

/* Tokens `from` to `to` - 1 of a tile of `rows` rows and `vectors` vectors of columns. */
INLINE void scan_tile(const struct mamba_head *head, long from, long to, long row, long column, const int rows,
                      const int vectors) {
    vec state[SCAN_ROWS][2], skip = splat(head->skip);
    float *place = head->state + row * head->head_dim + column;
    int is_last = row + rows == head->state_rows;
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int v = 0; v < vectors; v++)
        state[i][v] = load(place + i * head->head_dim + v * WIDTH);
    for (long t = from; t < to; t++) {
        const float *values = head->values + t * head->row_step + column;
        const float *inward = head->inward + t * head->row_step + row;
        const float *outward = head->outward + t * head->row_step + row;
        float *out = head->out + t * head->out_step + column;
        vec kept = splat(head->kept[t * head->kept_step]), step = splat(head->steps[t * head->step_step]);
        vec added[2], sums[2];
        UNROLL for (int v = 0; v < vectors; v++) {
            added[v] = load(values + v * WIDTH) * step;
            sums[v] = row ? load(out + v * WIDTH) : (vec){0};
        }
        UNROLL for (int i = 0; i < rows; i++) {
            vec in = splat(inward[i]), read = splat(outward[i]);
            UNROLL for (int v = 0; v < vectors; v++) {
                state[i][v] = state[i][v] * kept + in * added[v];
                sums[v] += state[i][v] * read;
            }
        }
        UNROLL for (int v = 0; v < vectors; v++)
            store(out + v * WIDTH, is_last ? sums[v] + skip * load(values + v * WIDTH) : sums[v]);
    }
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int v = 0; v < vectors; v++)
        store(place + i * head->head_dim + v * WIDTH, state[i][v]);
}

/* All rows of one column, for columns that fill no vector. */
static void scan_column(const struct mamba_head *head, long from, long to, long column) {
    for (long t = from; t < to; t++) {
        const float *inward = head->inward + t * head->row_step, *outward = head->outward + t * head->row_step;
        float value = head->values[t * head->row_step + column], kept = head->kept[t * head->kept_step];
        float added = value * head->steps[t * head->step_step], sum = 0.0f;
        for (long row = 0; row < head->state_rows; row++) {
            float *state = head->state + row * head->head_dim + column;
            *state = *state * kept + inward[row] * added;
            sum += *state * outward[row];
        }
        head->out[t * head->out_step + column] = sum + head->skip * value;
    }
}

static void mamba_scan(const struct mamba_head *head) {
    long wide = head->head_dim / (2 * WIDTH) * (2 * WIDTH), whole = head->head_dim / WIDTH * WIDTH;
    for (long from = 0; from < head->tokens; from += SCAN_TOKENS) {
        long to = min(from + SCAN_TOKENS, head->tokens), row = 0;
        for (; row + SCAN_ROWS <= head->state_rows; row += SCAN_ROWS) {
            for (long column = 0; column < wide; column += 2 * WIDTH)
                scan_tile(head, from, to, row, column, SCAN_ROWS, 2);
            if (wide < whole) scan_tile(head, from, to, row, wide, SCAN_ROWS, 1);
        }
        for (; row < head->state_rows; row++)
            for (long column = 0; column < whole; column += WIDTH) scan_tile(head, from, to, row, column, 1, 1);
        for (long column = whole; column < head->head_dim; column++) scan_column(head, from, to, column);
    }
}
