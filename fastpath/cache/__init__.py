"""Keys and values: pages of 16 tokens, and the radix tree that finds a known prefix in them."""
