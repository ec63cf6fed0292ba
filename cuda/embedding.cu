// Embedding rows, widened (N1): x[r, :] = scale * table[ids[r], :]; reference/model/decoder.py, `_run`.
//
// Shapes: ids (rows,), table (vocab, hidden) as stored, x float32 (rows, hidden). One block a row. No sum.
// Ladder (a device has measured none): 1. this.
#include "common.cuh"

template <class T>
DEVICE void embed_row(const int *ids, const T *table, float *x, int hidden, float scale) {
    const int row = blockIdx.x;
    const T *from = table + (size_t)ids[row] * hidden;
    for (int i = threadIdx.x; i < hidden; i += blockDim.x) x[(size_t)row * hidden + i] = mul(widen(from[i]), scale);
}

#define EMBED(NAME, T)                                                               \
    KERNEL NAME(const int *ids, const T *table, float *x, int hidden, float scale) { \
        in_turn();                                                                   \
        embed_row<T>(ids, table, x, hidden, scale);                                  \
    }                                                                                \
    EXPORT_KERNEL(NAME)
EMBED(embed_float32, float)
EMBED(embed_float16, half_bits)
EMBED(embed_bfloat16, bfloat_bits)

// Concatenate rows: y[r] = a[r] then b[r], the input of an eagle head's fusion. One block a row.
KERNEL join_rows(const float *a, const float *b, float *y, int hidden) {
    in_turn();
    const size_t row = blockIdx.x;
    for (int i = threadIdx.x; i < 2 * hidden; i += blockDim.x)
        y[row * 2 * hidden + i] = i < hidden ? a[row * hidden + i] : b[row * hidden + i - hidden];
}
EXPORT_KERNEL(join_rows)
