"""The arithmetic of the numerics contract over the C kernels, and weights packed for them."""
