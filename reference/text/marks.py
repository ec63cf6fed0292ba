"""Marks in text that comes in pieces: what at the end of a text may become one."""


def num_undecided(text: str, mark: str) -> int:
    """How many characters at the end of a text are the beginning of a mark, and not all of it."""
    return next(n for n in range(min(len(mark) - 1, len(text)), -1, -1) if text.endswith(mark[:n]))
