"""The scheduler, and what becomes of each choice."""
