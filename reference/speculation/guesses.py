"""Guesses and their proof: what a speculator proposes goes through the model's pass, and what the model says too stays.

The half of the loop that speculation adds, written once for every engine; without a speculator it does nothing.
"""

from collections.abc import Callable, Iterable, Iterator

from verbatim.reference.records.request import Output, joined
from verbatim.reference.records.sequence import Chunk, Sequence, wanted_rows
from verbatim.reference.speculation.tree import side_chunks


class Guesses:
    """Guesses of `speculator`, or none; each at most `draft_length` tokens, 0 for what `adaptive_length` advises."""

    def __init__(self, speculator, draft_length: int, adaptive_length: Callable[[int], int]):
        self.speculator, self.draft_length, self.adaptive_length = speculator, draft_length, adaptive_length
        self.num_drafted = self.num_accepted = 0
        self._sides: dict[Sequence, list[Chunk]] = {}

    def propose(self, running: Iterable[Sequence], max_tokens: Callable[[Sequence], int]) -> None:
        """Let the speculator guess what the running sequences say next."""
        if self.speculator is None:
            return
        decoding = [one for one in running if one.output_ids and one.num_uncomputed == 1]
        length = self.draft_length or self.adaptive_length(len(decoding))
        rooms = ((one, max_tokens(one) - len(one.output_ids) - 1) for one in decoding)
        self.speculator.propose({sequence: min(length, room) for sequence, room in rooms})

    def forward(self, executor, cache, work: list[tuple[Sequence, Chunk]], token_budget: int):
        """The rows of a pass over this work and all side lines: logits, with pooling states. `share` says whose."""
        self._sides = side_chunks(work, cache, token_budget) if self.speculator else {}
        if not self._sides:
            return self._rows(executor, work, [main for _, main in work])
        return self._rows(executor, work, [chunk for one in work for chunk in self._chunks(*one)])

    def share(self, work: list[tuple[Sequence, Chunk]], rows, *, first: int = 0) -> Iterator[list]:
        """For each sequence its rows: those of its chunk, then those of its side lines; `first` rows are others'.

        Nobody can take another's: what a sequence leaves is gone with it.
        """
        for sequence, main in work:
            count = sum(chunk.num_logits for chunk in self._chunks(sequence, main))
            yield [rows[first + i] for i in range(count)]
            first += count

    def _chunks(self, sequence: Sequence, main: Chunk) -> tuple[Chunk, ...]:
        return (main, *self._sides.get(sequence, ()))

    def _rows(self, executor, work, chunks):
        """The rows of all chunks, one after the other."""
        needs_states = self.speculator is not None and self.speculator.needs_states
        pooled = {sequence for sequence, _ in work if sequence.request.pooling}
        if not (needs_states or pooled):
            return executor.forward(chunks)
        states = executor.states(chunks)
        if needs_states:
            self.speculator.observe(work, states)
        states = states[wanted_rows(chunks)]
        return self._score_all_but(pooled, executor, work, states) if pooled else executor.score(states)

    def _score_all_but(self, pooled: set[Sequence], executor, work, states) -> list:
        """Logits of the wanted states, but for some sequences the states themselves."""
        rows = iter(states)
        found, unscored = [], []
        for sequence, main in work:
            for chunk in self._chunks(sequence, main):
                mine = [next(rows) for _ in range(chunk.num_logits)]
                unscored += [] if sequence in pooled else range(len(found), len(found) + len(mine))
                found += mine
        if unscored:
            for place, logits in zip(unscored, executor.score(states[unscored]), strict=True):
                found[place] = logits
        return found

    def verify(self, sequence: Sequence, drafts: list[int], rows: list, cache, extend: Callable) -> Output:
        """Say tokens as long as they are the guessed ones, and the first that is not.

        If a side line has guessed the first one right, the sequence goes on with that line and its pages.
        """
        sides = self._sides.get(sequence, ())
        logits, rows = rows[: len(drafts) + 1], iter(rows[len(drafts) + 1 :])
        num_drafted = len(drafts) + sum(side.num_logits for side in sides)
        outputs = [extend(sequence, logits[0], drafts)]
        for side in sides:
            behind, pages = [next(rows) for _ in range(side.num_logits)], side.pages
            if not outputs[0].finish_reason and side.token_ids[1] == sequence.output_ids[-1]:
                drafts, logits = side.token_ids[1:], [logits[0], *behind]
                pages, sequence.pages = sequence.pages, pages
            cache.release(pages)
        accepted = 0
        while accepted < len(drafts) and not outputs[-1].finish_reason and sequence.output_ids[-1] == drafts[accepted]:
            accepted += 1
            sequence.num_computed += 1
            outputs.append(extend(sequence, logits[accepted], drafts[accepted:]))
        sequence.num_drafted += num_drafted
        sequence.num_accepted += accepted
        self.num_drafted += num_drafted
        self.num_accepted += accepted
        return joined(outputs, num_drafted_tokens=sequence.num_drafted, num_accepted_tokens=sequence.num_accepted)

    def branch(self, sequence: Sequence, forks: list[Sequence]) -> None:
        """Further choices go on from where the sequence is."""
        if self.speculator is not None and forks:
            self.speculator.branch(sequence, forks)

    def forget(self, sequence: Sequence) -> None:
        """A sequence has ended."""
        if self.speculator is not None:
            self.speculator.remove(sequence)

    def check(self) -> None:
        """Raise AssertionError if the speculator's books do not balance."""
        if self.speculator is not None:
            self.speculator.check()
