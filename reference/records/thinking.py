"""How a request's answer tells thinking from answering: the marks between the two, and how long it may think."""

from dataclasses import dataclass
from typing import NamedTuple

from verbatim.reference.records.errors import RequestError

BUDGET = "thinking_token_budget"


class Ending(NamedTuple):
    """A mark that ends a thought. `dropped` belongs to neither side; with `kept`, behind it, the answer begins."""

    dropped: str
    kept: str = ""

    @property
    def mark(self) -> str:
        """All of it."""
        return self.dropped + self.kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinking:
    """A thought stands between `opening` and one of `endings`, in front of the answer.

    `is_open` says that the prompt has opened it. Behind `budget` tokens of thought (None: no bound) only the text
    `forced` can come, which holds an ending.
    """

    opening: str
    endings: tuple[Ending, ...]
    forced: str
    is_open: bool = False
    budget: int | None = None

    def __post_init__(self):
        """Refuse marks that say nothing, and a budget that is none."""
        marks = [ending.mark for ending in self.endings]
        if not (self.opening and marks and all(marks) and any(mark in self.forced for mark in marks)):
            raise RequestError("thinking needs an opening mark, and endings, one of them in what is forced")
        is_count = isinstance(self.budget, int) and not isinstance(self.budget, bool) and self.budget >= 0
        if self.budget is not None and not is_count:
            raise RequestError(f"{BUDGET} must be at least 0, not {self.budget!r}", field=BUDGET)
