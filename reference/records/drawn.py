"""What a row of logits came to once it has been sampled or scored: the result of a batch sampler, row by row."""

from typing import Any, NamedTuple

from verbatim.reference.records.errors import VerbatimError


class Drawn(NamedTuple):
    """A token (`Sampled` of sampling/rules) with the log-probabilities that were asked for, or the error instead.

    `logits` is the row that it was drawn from, and `excluded` are the ids that could not be drawn.
    """

    sampled: Any = None
    error: VerbatimError | None = None
    logits: Any = None
    excluded: Any = ()

    def take(self) -> Any:
        """The token. Raises the error if there is none."""
        if self.error is not None:
            raise self.error
        return self.sampled
