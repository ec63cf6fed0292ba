"""The fast path on a GPU: PyCUDA owns context, memory and streams, the kernels lie in cuda/. Importing it needs neither."""
