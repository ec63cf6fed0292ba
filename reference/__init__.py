"""The law: every semantic of the server in NumPy, read in an afternoon (start at docs/reading.md)."""
