"""Commands over both engines: the first differing bit, logits, perplexity."""
