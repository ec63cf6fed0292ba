"""Speculative decoding: draft models, n-grams, Medusa and Eagle heads propose tokens, the model verifies them."""
