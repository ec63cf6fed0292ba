"""The arithmetic of the numerics contract: products, norms, exponentials, rotary tables, integer weights."""
