"""The same bits, fast: the mirrored names of reference/ in Cython over C kernels for the CPU."""
