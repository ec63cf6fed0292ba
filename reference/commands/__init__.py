"""Commands of people who learn and debug: generate, explain, logits, perplexity, quantize."""
