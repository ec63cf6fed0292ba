"""The engine: its loop, the scheduler, what becomes of each choice, and how it is put together from a directory."""
