# Weights in the kernels' layout.
from verbatim.fastpath.machine.dispatch cimport matrix, quantized
from verbatim.fastpath.machine.threads cimport team

cdef struct product:  # y = x wᵀ, from `rounded` activations where w is quantised
    const matrix *w
    const float *x
    const quantized *rounded
    long rows
    float *y


cdef class PackedMatrix:
    cdef matrix c
    cdef object owners
    cdef _set(self, weights, bias, long outputs, long inputs, int format)


cdef class Activations:
    cdef quantized c
    cdef object integers, scales, corrections, sums, slices


cdef void multiply(const matrix *w, const float *x, const quantized *rounded, long rows, float *y) noexcept nogil
cdef void share_products(team *members, const product *products, long count) noexcept nogil
cdef long num_strips(const matrix *w) noexcept nogil
cdef void multiply_strip(const product *work, long strip) noexcept nogil
