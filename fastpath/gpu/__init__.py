"""The fast path on a GPU: PyCUDA owns context and memory, the kernels lie in cuda/; importing it needs neither."""
