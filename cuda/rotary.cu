// Rotary embeddings (N6), and storing keys and values in their pages; reference/numerics/arithmetic.py, `rotate`.
//
// (a, b) of a head's two halves becomes (a c - b s, b c + a s); further features stay. A row of `x` holds queries, keys
// and values side by side (heads + 2 kv_heads, head_dim). Position p of a row is stored in page pages[first_page[row] +
// p / 16], place p % 16, rounded to the pages' dtype (N1). A page: keys (kv_heads, head_dim, 16), values (kv_heads, 16,
// head_dim). With `query_scales`, queries are multiplied by the number of their position after rotation (N8).
// A block for each row, a thread for each feature or pair. No sum: two rounded products and one rounded difference.
// Ladder (a device has measured none): 1. this, 32 registers on sm_90a.
#include "common.cuh"

template <class T>
DEVICE void rotate_and_store(float *x, const int *positions, const int *first_page, const int *pages,
                             const float *cosines, const float *sines, T *keys, T *values, const float *query_scales,
                             int heads, int kv_heads, int head_dim, int half) {
    const int row = blockIdx.x, position = positions[row], place = position % PAGE;
    const size_t page = pages[first_page[row] + position / PAGE];
    const int rotated = (heads + kv_heads) * head_dim;
    x += (size_t)row * (rotated + kv_heads * head_dim);
    for (int i = threadIdx.x; i < rotated; i += blockDim.x) {
        const int d = i % head_dim;
        if (d >= half) continue;
        const float c = cosines[(size_t)position * half + d], s = sines[(size_t)position * half + d];
        const float a = x[i], b = x[i + half];
        x[i] = sub(mul(a, c), mul(b, s));
        x[i + half] = add(mul(b, c), mul(a, s));
    }
    __syncthreads();
    if (query_scales)
        for (int i = threadIdx.x; i < heads * head_dim; i += blockDim.x) x[i] = mul(x[i], query_scales[position]);
    for (int i = threadIdx.x; i < kv_heads * head_dim; i += blockDim.x) {
        const int d = i % head_dim;
        const size_t head = page * kv_heads + i / head_dim;
        narrow(x[heads * head_dim + i], &keys[(head * head_dim + d) * PAGE + place]);
        narrow(x[rotated + i], &values[(head * PAGE + place) * head_dim + d]);
    }
}

#define ROTATE_AND_STORE(NAME, T)                                                                               \
    KERNEL NAME(float *x, const int *positions, const int *first_page, const int *pages, const float *cosines,  \
                const float *sines, T *keys, T *values, const float *query_scales, int heads, int kv_heads,     \
                int head_dim, int half) {                                                                       \
        in_turn();                                                                                              \
        rotate_and_store<T>(x, positions, first_page, pages, cosines, sines, keys, values, query_scales, heads, \
                            kv_heads, head_dim, half);                                                          \
    }                                                                                                           \
    EXPORT_KERNEL(NAME)
ROTATE_AND_STORE(rotate_and_store_float32, float)
ROTATE_AND_STORE(rotate_and_store_float16, half_bits)
ROTATE_AND_STORE(rotate_and_store_bfloat16, bfloat_bits)

// Copy-on-write: copy a page's keys and values in every layer to another page, as 32-bit words. Grid (layers,).
KERNEL copy_page(uint32_t *keys, uint32_t *values, int from, int to, size_t layer_size, int page_size) {
    in_turn();
    const size_t layer = blockIdx.x * layer_size;
    for (int i = threadIdx.x; i < page_size; i += blockDim.x) {
        keys[layer + (size_t)to * page_size + i] = keys[layer + (size_t)from * page_size + i];
        values[layer + (size_t)to * page_size + i] = values[layer + (size_t)from * page_size + i];
    }
}
EXPORT_KERNEL(copy_page)
