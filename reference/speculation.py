"""Mirrored. Guessing ahead: several tokens go through one pass, and those that the model says too are kept (N11).

A guess is accepted exactly if it is the token that sampling gives from the model's own logits at its position. So
speculation changes how long an answer takes and never what it says, at any temperature. Guesses come from the text
itself (`ngram`) or from a smaller model with the same vocabulary (`small_draft`, https://arxiv.org/abs/2211.17192).
"""

from reference.cache import pages_for
from reference.sampling import sample
from reference.sequence import Chunk, Sequence

LONGEST_NGRAM = 4


def adaptive_length(num_sequences: int) -> int:
    """How many tokens to guess for each sequence: fewer where a full batch already fills the pass."""
    return next((length for limit, length in ((10, 4), (20, 3), (30, 2)) if num_sequences < limit), 0)


class NgramSpeculator:
    """Looks the last few tokens up earlier in the same sequence, and guesses that it goes on as it did there."""

    def propose(self, lengths: dict[Sequence, int]) -> None:
        """Set `draft_ids` of each sequence, at most so many."""
        for sequence, length in lengths.items():
            sequence.draft_ids = lookup(sequence.tokens(0, len(sequence)), length)

    def forget(self, sequence: Sequence) -> None:
        """A sequence has ended; there is nothing to forget."""

    def check(self) -> None:
        """There are no books."""


def lookup(token_ids: tuple[int, ...], length: int) -> list[int]:
    """What followed the latest earlier place that ends in the same tokens, the longest run of them first."""
    for size in range(min(LONGEST_NGRAM, len(token_ids) - 1), 0, -1):
        ending = token_ids[-size:]
        for start in range(len(token_ids) - size - 1, -1, -1):
            if token_ids[start : start + size] == ending:
                return list(token_ids[start + size : start + size + length])
    return []


class DraftSpeculator:
    """Lets a smaller model write ahead, with the request's own sampling and random bits, so that it errs alike."""

    def __init__(self, model, cache):
        self.model, self.cache = model, cache
        self._known: dict[Sequence, tuple[list[int], list[int]]] = {}  # tokens taken in, and their pages

    def propose(self, lengths: dict[Sequence, int]) -> None:
        """Set `draft_ids` of each sequence, at most so many; a sequence without pages goes without."""
        for sequence in lengths:
            sequence.draft_ids = []
        writing = {sequence: length for sequence, length in lengths.items() if self._reserve(sequence, length)}
        while writing:
            rows = self.model.forward([self._chunk(sequence) for sequence in writing], self.cache)
            for sequence, logits in zip(writing, rows, strict=True):
                sequence.draft_ids.append(self._guess(sequence, logits))
            writing = {one: length for one, length in writing.items() if len(one.draft_ids) < length}

    def forget(self, sequence: Sequence) -> None:
        """A sequence has ended or lost its pages."""
        _, pages = self._known.pop(sequence, ([], []))
        self.cache.release(pages)

    def check(self) -> None:
        """Raise if pages are lost or used twice."""
        self.cache.check([pages for _, pages in self._known.values()])

    def _reserve(self, sequence: Sequence, length: int) -> bool:
        """Keep what of the draft model's past is still true, and pages for what comes."""
        token_ids, pages = self._known.setdefault(sequence, ([], []))
        now = sequence.tokens(0, len(sequence))
        agreeing = next((i for i, (a, b) in enumerate(zip(token_ids, now, strict=False)) if a != b), len(token_ids))
        del token_ids[min(agreeing, len(now) - 1) :]  # the last token is always taken in: its logits are wanted
        missing = pages_for(len(now) + length) - len(pages)
        if length == 0 or missing > self.cache.num_free:
            return False
        pages.extend(self.cache.allocate() for _ in range(missing))
        return True

    def _chunk(self, sequence: Sequence) -> Chunk:
        """What the draft model has not taken in yet."""
        token_ids, pages = self._known[sequence]
        everything = (*sequence.tokens(0, len(sequence)), *sequence.draft_ids)
        start = len(token_ids)
        token_ids.extend(everything[start:])
        return Chunk(token_ids=everything[start:], start=start, pages=tuple(pages))

    def _guess(self, sequence: Sequence, logits) -> int:
        request, said = sequence.request, [*sequence.output_ids, *sequence.draft_ids]
        position = len(sequence) + len(sequence.draft_ids)
        return sample(
            logits, request.sampling, prompt_ids=request.prompt_ids, output_ids=said, position=position,
            choice=sequence.choice,
        ).token_id  # fmt: skip
