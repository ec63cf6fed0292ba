"""Mirrored. Speculators propose draft tokens; one forward pass verifies several of them (N11).

A draft token is accepted exactly if it is the token that sampling gives from the model's own logits at its position. So
speculation changes how long an answer takes and never what it says, at any temperature. Draft tokens come from the text
itself (`ngram`), from a smaller model with the same vocabulary (`small_draft`, https://arxiv.org/abs/2211.17192), or
from heads on the model's own states (medusa.py, eagle.py). The fast path compiles this file.
"""

import numpy as np

from verbatim.reference.cache.pages import pages_for
from verbatim.reference.records.errors import NumericsError
from verbatim.reference.records.sequence import Chunk, Sequence
from verbatim.reference.sampling.rules import adjust, sample

LONGEST_NGRAM = 4


def adaptive_length(num_sequences: int) -> int:
    """How many draft tokens to propose for each sequence: fewer where a full batch already fills the pass."""
    return 4 if num_sequences < 10 else 3 if num_sequences < 20 else 2 if num_sequences < 30 else 0


def extend_draft(sequence: Sequence, draft_ids: list[int], logits) -> bool:
    """Append the draft token that the request would sample from `logits` (vocab,); return whether there was one.

    It is sampled with the request's own random bits, so that it is the model's token wherever the logits agree. If no
    token can be sampled, `draft_ids` stays as it is.
    """
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


def split_rows(work: list[tuple[Sequence, Chunk]], rows):
    """Yield each sequence of a pass with its chunk and its share of the rows, one row for each token."""
    stop = 0
    for sequence, chunk in work:
        start, stop = stop, stop + len(chunk.token_ids)
        yield sequence, chunk, rows[start:stop]


class Speculator:
    """What the engine calls. `observe` is called only where `needs_states` is set."""

    needs_states = False

    def propose(self, lengths: dict[Sequence, int]) -> None:
        """Set `draft_ids` of each sequence, at most so many."""
        raise NotImplementedError

    def observe(self, work: list[tuple[Sequence, Chunk]], states) -> None:
        """Read the model's states (tokens, hidden) of all tokens of a pass over this work."""

    def branch(self, sequence: Sequence, forks: list[Sequence]) -> None:
        """Prepare for further choices of a sequence whose prompt is computed; it has no draft tokens yet."""

    def remove(self, sequence: Sequence) -> None:
        """Drop what is kept for a sequence that has finished."""

    def check(self) -> None:
        """Raise AssertionError if pages are lost or used twice."""


class NgramSpeculator(Speculator):
    """Looks the last few tokens up earlier in the same sequence, and proposes what followed them there."""

    def propose(self, lengths: dict[Sequence, int]) -> None:
        """Set `draft_ids` of each sequence, at most so many."""
        for sequence, length in lengths.items():
            sequence.draft_ids = lookup(sequence.tokens(0, len(sequence)), length)


def lookup(token_ids: tuple[int, ...], length: int) -> list[int]:
    """Return up to `length` tokens that followed the longest n-gram equal to the end of `token_ids`.

    Of n-grams of the same size the latest counts; none is longer than LONGEST_NGRAM.
    """
    count, best_end, best_size = len(token_ids), -1, 0
    last = token_ids[count - 1] if count else None
    for end in range(count - 2, -1, -1):  # the place of an n-gram's last token
        if token_ids[end] != last:
            continue
        size = 1
        while size < LONGEST_NGRAM and size <= end and token_ids[end - size] == token_ids[count - 1 - size]:
            size += 1
        if size > best_size:
            best_end, best_size = end, size
            if size == LONGEST_NGRAM:
                break
    return list(token_ids[best_end + 1 : best_end + 1 + length]) if best_size else []


class _Draft:
    """One line of draft tokens: `token_ids` that the draft model has computed, their pages, and the line itself."""

    def __init__(self, token_ids: list[int], pages: list[int], draft_ids: list[int]):
        self.token_ids, self.pages, self.draft_ids = token_ids, pages, draft_ids

    def _chunk(self, sequence: Sequence) -> Chunk:
        """Return what the draft model has not computed yet, and count it as computed."""
        start = len(self.token_ids)
        uncomputed = (*sequence.tokens(0, len(sequence)), *self.draft_ids)[start:]
        self.token_ids.extend(uncomputed)
        return Chunk(token_ids=uncomputed, start=start, pages=tuple(self.pages))


class DraftSpeculator(Speculator):
    """Lets a draft model write the next tokens; with a `spec_tree_width` above 1 also side lines.

    A side line begins with the second best first token, or the third best, and so on.
    """

    def __init__(self, model, cache, *, spec_tree_width: int = 1):
        self.model, self.cache, self.spec_tree_width = model, cache, spec_tree_width
        self._drafts: dict[Sequence, _Draft] = {}

    def propose(self, lengths: dict[Sequence, int]) -> None:
        """Set `draft_ids` and `side_draft_ids`; a sequence without pages, or beyond the context, goes without."""
        fitting = [sequence for sequence, length in lengths.items() if self._reserve(sequence, length)]
        first = self._extend([(sequence, self._drafts[sequence]) for sequence in fitting])
        sides = [
            (sequence, side)
            for sequence, draft, row in first
            for side in self._sides(sequence, draft, row, lengths[sequence])
        ]
        writing = [(sequence, draft) for sequence, draft, _ in first] + sides
        while writing := [work for work in writing if len(work[1].draft_ids) < lengths[work[0]]]:
            writing = [(sequence, draft) for sequence, draft, _ in self._extend(writing)]
        for _, side in sides:
            self.cache.release(side.pages)

    def remove(self, sequence: Sequence) -> None:
        """Release the pages of a sequence that has finished."""
        draft = self._drafts.pop(sequence, None)
        if draft is not None:
            self.cache.release(draft.pages)

    def check(self) -> None:
        """Raise AssertionError if pages are lost or used twice."""
        self.cache.check([draft.pages for draft in self._drafts.values()])

    def extend_drafts(self, drafts: list[tuple[Sequence, list[int]]], rows) -> list[bool]:
        """Append one draft token for each row of logits; return which rows gave one. A device samples all at once."""
        return [extend_draft(sequence, ids, row) for (sequence, ids), row in zip(drafts, rows, strict=True)]

    def _reserve(self, sequence: Sequence, length: int) -> bool:
        """Keep what the draft model has computed of the tokens that were accepted, and allocate pages for `length`."""
        draft, token_ids = self._drafts.setdefault(sequence, _Draft([], [], [])), sequence.tokens(0, len(sequence))
        draft.draft_ids, sequence.side_draft_ids = [], []
        sequence.draft_ids = draft.draft_ids
        num_known = 0
        while num_known < min(len(draft.token_ids), len(token_ids) - 1) and (
            draft.token_ids[num_known] == token_ids[num_known]
        ):
            num_known += 1
        del draft.token_ids[num_known:]  # the last token is always computed again: its logits are wanted
        missing = pages_for(len(token_ids) + length) - len(draft.pages)
        num_tokens = len(token_ids) + length
        if length == 0 or missing > self.cache.num_free or num_tokens > self.model.config.context_size:
            return False
        draft.pages.extend([self.cache.allocate() for _ in range(missing)])
        return True

    def _extend(self, drafts: list[tuple[Sequence, _Draft]]) -> list:
        """Append one token to each draft; return those that got one, each with the logits it was sampled from."""
        if not drafts:
            return []
        rows = self.model.forward([draft._chunk(sequence) for sequence, draft in drafts], self.cache)
        extended = self.extend_drafts([(sequence, draft.draft_ids) for sequence, draft in drafts], rows)
        found = zip(drafts, rows, extended, strict=True)
        return [(sequence, draft, row) for (sequence, draft), row, is_extended in found if is_extended]

    def _sides(self, sequence: Sequence, draft: _Draft, logits, length: int) -> list[_Draft]:
        """Begin side lines with the next best tokens instead of the first draft token, as many as find pages."""
        request, start, sides = sequence.request, len(draft.token_ids), []
        if self.spec_tree_width > 1:
            scores = adjust(logits, request.sampling, prompt_ids=request.prompt_ids, output_ids=sequence.output_ids)
            scores[draft.draft_ids[0]] = -np.inf
            for _ in range(min(self.spec_tree_width, len(scores)) - 1):
                pages = self.cache.fork(draft.pages, start, start + length - 1)
                if pages is None:
                    break
                best = int(np.argmax(scores))
                scores[best] = -np.inf
                sides.append(_Draft(list(draft.token_ids), pages, [best]))
        sequence.side_draft_ids = [side.draft_ids for side in sides]
        return sides
