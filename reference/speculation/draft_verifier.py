"""Speculative decoding in the engine's loop: one pass verifies draft tokens, and those that the model samples too stay.

Every engine shares this module. Draft tokens come from a speculator, if there is one, or with a request that is to be
verified (`Request.draft_answers`).
"""

from collections.abc import Callable, Iterable, Iterator

from verbatim.reference.records.request import Output, joined
from verbatim.reference.records.sequence import Chunk, Sequence, wanted_rows
from verbatim.reference.speculation.tree import side_chunks

MOST_GIVEN = 128  # draft tokens in a step for requests that bring them: each has a row of logits


class DraftVerifier:
    """Draft tokens of `speculator`, or none: `spec_draft_length` a sequence, 0 for what `adaptive_length` returns.

    Never more than `history`, since rejected ones must be taken back.
    """

    def __init__(self, speculator, spec_draft_length: int, adaptive_length: Callable[[int], int], history: int):
        self.speculator, self.spec_draft_length, self.adaptive_length = speculator, spec_draft_length, adaptive_length
        self.history = history
        self.num_drafted = self.num_accepted = 0
        self._sides: dict[Sequence, list[Chunk]] = {}

    def propose(self, running: Iterable[Sequence], max_tokens: Callable[[Sequence], int]) -> None:
        """Set the draft tokens of the running sequences that decode: their requests' own, or what is proposed."""
        given = [sequence for sequence in running if sequence.request.draft_answers]
        for sequence in given:
            count = min(MOST_GIVEN // len(given), self.history)
            sequence.draft_ids = _given(sequence, count, max_tokens(sequence))
        if self.speculator is None:
            return
        decoding = [sequence for sequence in running if sequence.output_ids and sequence.num_uncomputed == 1]
        decoding = [sequence for sequence in decoding if not sequence.request.draft_answers] if given else decoding
        length = min(self.spec_draft_length or self.adaptive_length(len(decoding)), self.history)
        self.speculator.propose(
            {sequence: min(length, max_tokens(sequence) - len(sequence.output_ids) - 1) for sequence in decoding}
        )

    def forward(self, executor, cache, work: list[tuple[Sequence, Chunk]], prefill_chunk_size: int):
        """Run a pass over this work and all side lines; return its rows: logits, or states for pooling."""
        self._sides = side_chunks(work, cache, prefill_chunk_size) if self.speculator else {}
        if not self._sides:
            return self._rows(executor, work, [main for _, main in work])
        return self._rows(executor, work, [chunk for sequence, main in work for chunk in self._chunks(sequence, main)])

    def share(self, work: list[tuple[Sequence, Chunk]], rows, *, first: int = 0) -> Iterator[list]:
        """Yield each sequence's rows, from index `first` on: those of its chunk, then those of its side lines.

        Rows that a sequence does not use are skipped, so that no sequence gets another's.
        """
        for sequence, main in work:
            count = sum(chunk.num_logits for chunk in self._chunks(sequence, main))
            yield [rows[first + i] for i in range(count)]
            first += count

    def _chunks(self, sequence: Sequence, main: Chunk) -> tuple[Chunk, ...]:
        return (main, *self._sides.get(sequence, ()))

    def _rows(self, executor, work, chunks):
        """Return the rows of all chunks, one after the other."""
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
        """Return logits of the wanted states, but for the `pooled` sequences the states themselves."""
        rows = iter(states)
        found: list = []
        unscored: list[int] = []
        for sequence, main in work:
            for chunk in self._chunks(sequence, main):
                chunk_rows = [next(rows) for _ in range(chunk.num_logits)]
                unscored += [] if sequence in pooled else range(len(found), len(found) + len(chunk_rows))
                found += chunk_rows
        if unscored:
            for index, logits in zip(unscored, executor.score(states[unscored]), strict=True):
                found[index] = logits
        return found

    def verify(self, sequence: Sequence, drafts: list[int], rows: list, cache, extend: Callable) -> Output:
        """Sample tokens while they equal the draft tokens, and the first that does not; return one output for them all.

        If the first token of a side line is accepted, the sequence continues with that line and its pages.
        """
        sides = self._sides.get(sequence, ())
        logits, side_rows = rows[: len(drafts) + 1], iter(rows[len(drafts) + 1 :])
        num_drafted = len(drafts) + sum(side.num_logits for side in sides)
        outputs = [extend(sequence, logits[0], drafts)]
        for side in sides:
            behind, pages = [next(side_rows) for _ in range(side.num_logits)], side.pages
            if not outputs[0].finish_reason and side.token_ids[1] == sequence.output_ids[-1]:
                drafts, logits = list(side.token_ids[1:]), [logits[0], *behind]
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
        """Tell the speculator of further choices that start where the sequence is."""
        if self.speculator is not None and forks:
            self.speculator.branch(sequence, forks)

    def forget(self, sequence: Sequence) -> None:
        """Tell the speculator of a sequence that has finished."""
        if self.speculator is not None:
            self.speculator.remove(sequence)

    def check(self) -> None:
        """Raise AssertionError if the speculator lost pages or used them twice."""
        if self.speculator is not None:
            self.speculator.check()


def _given(sequence: Sequence, count: int, max_tokens: int) -> list[int]:
    """At most `count` of the tokens that the request says come next; none once the answer has another."""
    known, answers = sequence.output_ids, sequence.request.draft_answers
    if not known or sequence.num_uncomputed != 1 or sequence.choice >= len(answers):
        return []
    start, answer = len(known), answers[sequence.choice]
    if answer[:start] != tuple(known):
        return []
    return list(answer[start : start + min(count, max_tokens - start - 1)])
