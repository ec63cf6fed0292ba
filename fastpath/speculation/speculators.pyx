"""Mirrored. Guessing ahead: several tokens go through one pass, and those that the model says too are kept (N11).

Guesses come from the text itself (`ngram`), from a smaller model with the same vocabulary (`small_draft`), or from heads
on the model's own states (medusa.pyx, eagle.pyx).
"""

import numpy as np

from verbatim.fastpath.cache.pages import pages_for
from verbatim.fastpath.sampling.rules import adjust, sample
from verbatim.reference.records.errors import NumericsError
from verbatim.reference.records.sequence import Chunk

cdef enum:
    LONGEST_NGRAM = 4


def adaptive_length(long num_sequences) -> int:
    """How many tokens to guess for each sequence: fewer where a full batch already fills the pass."""
    return 4 if num_sequences < 10 else 3 if num_sequences < 20 else 2 if num_sequences < 30 else 0


def guess(sequence, list draft_ids, logits) -> bool:
    """Add what the request would sample, with its own random bits, so that a guess errs alike; False if it cannot."""
    request, position = sequence.request, len(sequence) + len(draft_ids)
    try:
        sampled = sample(
            logits, request.sampling, prompt_ids=request.prompt_ids, output_ids=[*sequence.output_ids, *draft_ids],
            position=position, choice=sequence.choice,
        )
    except NumericsError:
        return False
    draft_ids.append(sampled.token_id)
    return True


def shares(work, rows):
    """Each sequence of a pass with its chunk and its rows."""
    stop = 0
    for sequence, chunk in work:
        start, stop = stop, stop + len(chunk.token_ids)
        yield sequence, chunk, rows[start:stop]


cdef class Speculator:
    """What the engine tells those who guess. Only those that need the model's states are shown them."""

    needs_states = False

    def propose(self, dict lengths) -> None:
        """Set `draft_ids` of each sequence, at most so many."""
        raise NotImplementedError

    def observe(self, work, states) -> None:
        """See the model's states (tokens, hidden) of all tokens of a pass over this work."""

    def branch(self, sequence, forks) -> None:
        """A sequence whose prompt is computed goes on as several; nothing has been guessed for it yet."""

    def forget(self, sequence) -> None:
        """A sequence has ended."""

    def check(self) -> None:
        """Raise if pages are lost or used twice."""


cdef class NgramSpeculator(Speculator):
    """Looks the last few tokens up earlier in the same sequence, and guesses that it goes on as it did there."""

    def propose(self, dict lengths) -> None:
        """Set `draft_ids` of each sequence, at most so many."""
        for sequence, length in lengths.items():
            sequence.draft_ids = lookup(sequence.tokens(0, len(sequence)), length)


def lookup(tuple token_ids, long length) -> list[int]:
    """What followed the latest earlier place that ends in the same tokens, the longest run of them first."""
    cdef Py_ssize_t count = len(token_ids), size, start, best_start = -1, best_size = 0
    for start in range(count - 2, -1, -1):  # `start` is where a run ends; the longest run wins, then the latest
        size = 0
        while size < LONGEST_NGRAM and size <= start and token_ids[start - size] == token_ids[count - 1 - size]:
            size += 1
        if size > best_size:
            best_start, best_size = start, size
            if size == LONGEST_NGRAM:
                break
    return [] if best_start < 0 else list(token_ids[best_start + 1 : best_start + 1 + length])


cdef class _Line:
    """One line of guesses: tokens that the draft model has taken in, their pages, and what is guessed behind them."""

    cdef list token_ids, pages, draft_ids

    def __init__(self, list token_ids, list pages, list draft_ids):
        self.token_ids, self.pages, self.draft_ids = token_ids, pages, draft_ids

    cdef chunk(self, sequence):
        """What the draft model has not taken in yet."""
        fresh = (*sequence.tokens(0, len(sequence)), *self.draft_ids)[len(self.token_ids) :]
        chunk = Chunk(token_ids=fresh, start=len(self.token_ids), pages=tuple(self.pages))
        self.token_ids.extend(fresh)
        return chunk


cdef class DraftSpeculator(Speculator):
    """Lets a smaller model write ahead; with a `tree_width` above 1 also behind the next best first guesses."""

    cdef readonly object model, cache
    cdef long tree_width
    cdef dict _lines

    def __init__(self, model, cache, *, long tree_width=1):
        self.model, self.cache, self.tree_width, self._lines = model, cache, tree_width, {}

    def propose(self, dict lengths) -> None:
        """Set `draft_ids` and `side_draft_ids`; a sequence without pages, or beyond the context, goes without."""
        first = self._write([(one, self._lines[one]) for one, length in lengths.items() if self._reserve(one, length)])
        wide = first if self.tree_width > 1 else ()
        sides = [(one, side) for one, line, row in wide for side in self._sides(one, line, row, lengths[one])]
        writing = [(one, line) for one, line, _ in first] + sides
        while writing := [(one, line) for one, line in writing if len((<_Line>line).draft_ids) < lengths[one]]:
            writing = [(one, line) for one, line, _ in self._write(writing)]
        for _, side in sides:
            self.cache.release((<_Line>side).pages)

    def forget(self, sequence) -> None:
        """A sequence has ended."""
        cdef _Line line = self._lines.pop(sequence, None)
        if line is not None:
            self.cache.release(line.pages)

    def check(self) -> None:
        """Raise if pages are lost or used twice."""
        self.cache.check([(<_Line>line).pages for line in self._lines.values()])

    cdef bint _reserve(self, sequence, long length) except -1:
        """Keep what of the draft model's past is still true, and pages for what comes."""
        cdef _Line line = self._lines.setdefault(sequence, _Line([], [], []))
        cdef Py_ssize_t agreeing = 0
        line.draft_ids, sequence.side_draft_ids = [], []
        sequence.draft_ids = line.draft_ids
        now = sequence.tokens(0, len(sequence))
        while agreeing < min(len(line.token_ids), len(now) - 1) and line.token_ids[agreeing] == now[agreeing]:
            agreeing += 1
        del line.token_ids[agreeing:]  # the last token is always taken in: its logits are wanted
        missing = pages_for(len(now) + length) - len(line.pages)
        if length == 0 or missing > self.cache.num_free or len(now) + length > self.model.config.context_size:
            return False
        line.pages.extend([self.cache.allocate() for _ in range(missing)])
        return True

    cdef list _write(self, list lines):
        """Guess one token more of each line; those that could go on, with the logits that the token came from."""
        if not lines:
            return []
        rows = self.model.forward([(<_Line>line).chunk(sequence) for sequence, line in lines], self.cache)
        could = self.guess_all([(sequence, (<_Line>line).draft_ids) for sequence, line in lines], rows)
        return [(sequence, line, row) for (sequence, line), row, is_more in zip(lines, rows, could) if is_more]

    def guess_all(self, list drafts, rows) -> list[bool]:
        """One token more for each sequence with its guesses so far; which could go on. A device draws all at once."""
        return [guess(sequence, draft_ids, row) for (sequence, draft_ids), row in zip(drafts, rows)]

    cdef list _sides(self, sequence, _Line line, logits, long length):
        """Lines that begin with the next best tokens instead of the first guess, as many as find pages."""
        cdef list sides = []
        request, start = sequence.request, len(line.token_ids)
        scores = adjust(logits, request.sampling, prompt_ids=request.prompt_ids, output_ids=sequence.output_ids)
        scores[line.draft_ids[0]] = -np.inf
        for _ in range(min(self.tree_width, <long>len(scores)) - 1):
            pages = self.cache.fork(line.pages, start, start + length - 1)
            if pages is None:
                break
            best = int(np.argmax(scores))
            scores[best] = -np.inf
            sides.append(_Line(list(line.token_ids), pages, [best]))
        sequence.side_draft_ids = [(<_Line>side).draft_ids for side in sides]
        return sides
