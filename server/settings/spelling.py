"""Which of the known words was meant: what a command says of a misspelt one."""

import difflib
from collections.abc import Collection


def closest(word: str, known: Collection[str]) -> str | None:
    """The known word of the same letters in another order, else the most similar one, None if none is."""
    reordered = [other for other in known if sorted(other) == sorted(word)]
    return next(iter(reordered or difflib.get_close_matches(word, known, n=1)), None)
