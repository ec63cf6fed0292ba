"""Mirrored. Guessing ahead: several tokens go through one pass, and those that the model says too are kept (N11).

A guess is accepted exactly if it is the token that sampling gives from the model's own logits at its position. So
speculation changes how long an answer takes and never what it says, at any temperature. Guesses come from the text
itself (`ngram`), from a smaller model with the same vocabulary (`small_draft`, https://arxiv.org/abs/2211.17192), or
from heads on the model's own states (medusa.py, eagle.py).
"""

from dataclasses import dataclass, field

import numpy as np

from verbatim.reference.cache.pages import pages_for
from verbatim.reference.records.errors import NumericsError
from verbatim.reference.records.sequence import Chunk, Sequence
from verbatim.reference.sampling.rules import adjust, sample

LONGEST_NGRAM = 4


def adaptive_length(num_sequences: int) -> int:
    """How many tokens to guess for each sequence: fewer where a full batch already fills the pass."""
    return next((length for limit, length in ((10, 4), (20, 3), (30, 2)) if num_sequences < limit), 0)


def guess(sequence: Sequence, draft_ids: list[int], logits) -> bool:
    """Add what the request would sample, with its own random bits, so that a guess errs alike; False if it cannot."""
    request, position = sequence.request, len(sequence) + len(draft_ids)
    try:
        sampled = sample(
            logits, request.sampling, prompt_ids=request.prompt_ids, output_ids=[*sequence.output_ids, *draft_ids],
            position=position, choice=sequence.choice,
        )  # fmt: skip
    except NumericsError:
        return False
    draft_ids.append(sampled.token_id)
    return True


class Speculator:
    """What the engine tells those who guess. Only those that need the model's states are shown them."""

    needs_states = False

    def propose(self, lengths: dict[Sequence, int]) -> None:
        """Set `draft_ids` of each sequence, at most so many."""
        raise NotImplementedError

    def observe(self, work: list[tuple[Sequence, Chunk]], states) -> None:
        """See the model's states (tokens, hidden) of all tokens of a pass over this work."""

    def branch(self, sequence: Sequence, forks: list[Sequence]) -> None:
        """A sequence whose prompt is computed goes on as several; nothing has been guessed for it yet."""

    def forget(self, sequence: Sequence) -> None:
        """A sequence has ended."""

    def check(self) -> None:
        """Raise if pages are lost or used twice."""


class NgramSpeculator(Speculator):
    """Looks the last few tokens up earlier in the same sequence, and guesses that it goes on as it did there."""

    def propose(self, lengths: dict[Sequence, int]) -> None:
        """Set `draft_ids` of each sequence, at most so many."""
        for sequence, length in lengths.items():
            sequence.draft_ids = lookup(sequence.tokens(0, len(sequence)), length)


def lookup(token_ids: tuple[int, ...], length: int) -> list[int]:
    """What followed the latest earlier place that ends in the same tokens, the longest run of them first."""
    for size in range(min(LONGEST_NGRAM, len(token_ids) - 1), 0, -1):
        ending = token_ids[-size:]
        for start in range(len(token_ids) - size - 1, -1, -1):
            if token_ids[start : start + size] == ending:
                return list(token_ids[start + size : start + size + length])
    return []


def shares(work: list[tuple[Sequence, Chunk]], rows):
    """Each sequence of a pass with its chunk and its rows."""
    stop = 0
    for sequence, chunk in work:
        start, stop = stop, stop + len(chunk.token_ids)
        yield sequence, chunk, rows[start:stop]


@dataclass(slots=True, eq=False)
class _Line:
    """One line of guesses: tokens that the draft model has taken in, their pages, and what is guessed behind them."""

    token_ids: list[int] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)
    draft_ids: list[int] = field(default_factory=list)

    def chunk(self, sequence: Sequence) -> Chunk:
        """What the draft model has not taken in yet."""
        everything, start = (*sequence.tokens(0, len(sequence)), *self.draft_ids), len(self.token_ids)
        self.token_ids.extend(everything[start:])
        return Chunk(token_ids=everything[start:], start=start, pages=tuple(self.pages))


class DraftSpeculator(Speculator):
    """Lets a smaller model write ahead; with a `tree_width` above 1 also behind the next best first guesses."""

    def __init__(self, model, cache, *, tree_width: int = 1):
        self.model, self.cache, self.tree_width = model, cache, tree_width
        self._lines: dict[Sequence, _Line] = {}

    def propose(self, lengths: dict[Sequence, int]) -> None:
        """Set `draft_ids` and `side_draft_ids`; a sequence without pages, or beyond the context, goes without."""
        first = self._write([(one, self._lines[one]) for one, length in lengths.items() if self._reserve(one, length)])
        sides = [(one, side) for one, line, row in first for side in self._sides(one, line, row, lengths[one])]
        writing = [(one, line) for one, line, _ in first] + sides
        while writing := [(one, line) for one, line in writing if len(line.draft_ids) < lengths[one]]:
            writing = [(one, line) for one, line, _ in self._write(writing)]
        for _, side in sides:
            self.cache.release(side.pages)

    def forget(self, sequence: Sequence) -> None:
        """A sequence has ended."""
        self.cache.release(self._lines.pop(sequence, _Line()).pages)

    def check(self) -> None:
        """Raise if pages are lost or used twice."""
        self.cache.check([line.pages for line in self._lines.values()])

    def _reserve(self, sequence: Sequence, length: int) -> bool:
        """Keep what of the draft model's past is still true, and pages for what comes."""
        line, now = self._lines.setdefault(sequence, _Line()), sequence.tokens(0, len(sequence))
        line.draft_ids, sequence.side_draft_ids = [], []
        sequence.draft_ids = line.draft_ids
        pairs = enumerate(zip(line.token_ids, now, strict=False))
        agreeing = next((i for i, (a, b) in pairs if a != b), len(line.token_ids))
        del line.token_ids[min(agreeing, len(now) - 1) :]  # the last token is always taken in: its logits are wanted
        missing = pages_for(len(now) + length) - len(line.pages)
        if length == 0 or missing > self.cache.num_free or len(now) + length > self.model.config.context_size:
            return False
        line.pages.extend(self.cache.allocate() for _ in range(missing))
        return True

    def _write(self, lines: list[tuple[Sequence, _Line]]) -> list:
        """Guess one token more of each line; those that could go on, with the logits that the token came from."""
        if not lines:
            return []
        rows = self.model.forward([line.chunk(sequence) for sequence, line in lines], self.cache)
        written = [(one, line, row) for (one, line), row in zip(lines, rows, strict=True)]
        return [work for work in written if guess(work[0], work[1].draft_ids, work[2])]

    def _sides(self, sequence: Sequence, line: _Line, logits, length: int) -> list[_Line]:
        """Lines that begin with the next best tokens instead of the first guess, as many as find pages."""
        request, start, sides = sequence.request, len(line.token_ids), []
        scores = adjust(
            logits, request.sampling, prompt_ids=request.prompt_ids, output_ids=sequence.output_ids
        )  # fmt: skip
        scores[line.draft_ids[0]] = -np.inf
        for _ in range(min(self.tree_width, len(scores)) - 1):
            pages = self.cache.fork(line.pages, start, start + length - 1)
            if pages is None:
                break
            best = int(np.argmax(scores))
            scores[best] = -np.inf
            sides.append(_Line(list(line.token_ids), pages, [best]))
        sequence.side_draft_ids = [side.draft_ids for side in sides]
        return sides
