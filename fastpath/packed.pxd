# Weights in the order in which the kernels read them.
from fastpath.dispatch cimport matrix, quantized


cdef class PackedMatrix:
    cdef matrix c
    cdef object owners
    cdef _set(self, weights, scales, bias, long outputs, long inputs, int kind)


cdef class Activations:
    cdef quantized c
    cdef object integers, scales, corrections


cdef void multiply(const matrix *w, const float *x, const quantized *rounded, long rows, float *y) noexcept nogil
