"""Mirrored. Guessing ahead: several tokens go through one pass, and those that the model says too are kept (N11).

Guesses come from the text itself (`ngram`) or from a smaller model with the same vocabulary (`small_draft`).
"""

from fastpath.cache import pages_for
from fastpath.sampling import sample
from reference.sequence import Chunk

cdef enum:
    LONGEST_NGRAM = 4


def adaptive_length(long num_sequences) -> int:
    """How many tokens to guess for each sequence: fewer where a full batch already fills the pass."""
    return 4 if num_sequences < 10 else 3 if num_sequences < 20 else 2 if num_sequences < 30 else 0


cdef class NgramSpeculator:
    """Looks the last few tokens up earlier in the same sequence, and guesses that it goes on as it did there."""

    def propose(self, dict lengths) -> None:
        """Set `draft_ids` of each sequence, at most so many."""
        for sequence, length in lengths.items():
            sequence.draft_ids = lookup(sequence.tokens(0, len(sequence)), length)

    def forget(self, sequence) -> None:
        """A sequence has ended; there is nothing to forget."""

    def check(self) -> None:
        """There are no books."""


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


cdef class DraftSpeculator:
    """Lets a smaller model write ahead, with the request's own sampling and random bits, so that it errs alike."""

    cdef readonly object model, cache
    cdef dict _known  # of each sequence, the tokens taken in and their pages

    def __init__(self, model, cache):
        self.model, self.cache, self._known = model, cache, {}

    def propose(self, dict lengths) -> None:
        """Set `draft_ids` of each sequence, at most so many; a sequence without pages goes without."""
        for sequence in lengths:
            sequence.draft_ids = []
        writing = [sequence for sequence, length in lengths.items() if self._reserve(sequence, length)]
        while writing:
            rows = self.model.forward([self._chunk(sequence) for sequence in writing], self.cache)
            for sequence, logits in zip(writing, rows):
                sequence.draft_ids.append(self._guess(sequence, logits))
            writing = [sequence for sequence in writing if len(sequence.draft_ids) < lengths[sequence]]

    def forget(self, sequence) -> None:
        """A sequence has ended or lost its pages."""
        _, pages = self._known.pop(sequence, ([], []))
        self.cache.release(pages)

    def check(self) -> None:
        """Raise if pages are lost or used twice."""
        self.cache.check([pages for _, pages in self._known.values()])

    cdef bint _reserve(self, sequence, long length) except -1:
        """Keep what of the draft model's past is still true, and pages for what comes."""
        cdef list token_ids, pages
        cdef Py_ssize_t agreeing = 0
        token_ids, pages = self._known.setdefault(sequence, ([], []))
        now = sequence.tokens(0, len(sequence))
        while agreeing < min(len(token_ids), len(now) - 1) and token_ids[agreeing] == now[agreeing]:
            agreeing += 1
        del token_ids[agreeing:]  # the last token is always taken in: its logits are wanted
        missing = pages_for(len(now) + length) - len(pages)
        if length == 0 or missing > self.cache.num_free:
            return False
        pages.extend([self.cache.allocate() for _ in range(missing)])
        return True

    cdef _chunk(self, sequence):
        """What the draft model has not taken in yet."""
        token_ids, pages = self._known[sequence]
        fresh = (*sequence.tokens(0, len(sequence)), *sequence.draft_ids)[len(token_ids) :]
        chunk = Chunk(token_ids=fresh, start=len(token_ids), pages=tuple(pages))
        token_ids.extend(fresh)
        return chunk

    cdef _guess(self, sequence, logits):
        request = sequence.request
        sampled = sample(
            logits, request.sampling, prompt_ids=request.prompt_ids,
            output_ids=[*sequence.output_ids, *sequence.draft_ids],
            position=len(sequence) + len(sequence.draft_ids), choice=sequence.choice,
        )
        return sampled.token_id
