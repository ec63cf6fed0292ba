"""The reference implementation: every semantic in NumPy, read in an afternoon (start at docs/reading.md)."""
