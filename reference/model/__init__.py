"""The forward pass of a decoder: layers, attention, mixtures of experts, pooled embeddings."""
