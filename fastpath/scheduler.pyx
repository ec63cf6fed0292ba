"""Mirrored. Who computes what in the next step: decodes first, then prefill fills what is left of the token budget.

Continuous batching (Orca, OSDI 2022) with chunked prefill. First come, first served. A step never fails for want of
pages: the latest sequence gives its pages back and is computed again later, which changes none of its bits.
"""

from collections import deque

from fastpath.cache import PAGE_SIZE, pages_for
from reference.sequence import Chunk


cdef class Scheduler:
    """The waiting and the running, and the pages that they hold in `cache`.

    `token_budget` bounds the tokens of a step, `max_num_sequences` the sequences that run at once.
    """

    cdef readonly object cache, waiting
    cdef readonly list running
    cdef readonly long max_num_sequences, token_budget

    def __init__(self, cache, *, long max_num_sequences, long token_budget):
        self.cache = cache
        self.max_num_sequences = max_num_sequences
        self.token_budget = token_budget
        self.waiting = deque()
        self.running = []

    def add(self, sequence) -> None:
        """Queue a new sequence at the end."""
        self.waiting.append(sequence)

    def add_forks(self, list sequences) -> None:
        """Take in the further choices of a prompt that has just been computed: they run as soon as there is room."""
        room = self.max_num_sequences - len(self.running)
        self.running.extend(sequences[:room])
        self.waiting.extendleft(reversed(sequences[room:]))

    def remove(self, sequence) -> None:
        """Forget a sequence that has ended, and free its pages."""
        self.cache.release(sequence.pages)
        sequence.pages = []
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)

    def schedule(self) -> list:
        """The next step's work, pairs of Sequence and Chunk; empty only if nothing waits or runs."""
        cdef long budget = self.token_budget
        cdef dict plan = {}
        decoding = [sequence for sequence in self.running if sequence.num_uncomputed == 1]
        prefilling = [sequence for sequence in self.running if sequence.num_uncomputed > 1]
        for sequence in decoding + prefilling:
            if budget and sequence in self.running:  # an earlier one may have taken its pages
                budget -= self._plan(sequence, budget, plan)
        while budget and self.waiting and len(self.running) < self.max_num_sequences:
            if self.running and not self._has_room(self.waiting[0]):
                break  # with nobody running, the first in line may take what those behind it hold
            sequence = self.waiting.popleft()
            self.running.append(sequence)
            budget -= self._plan(sequence, budget, plan)
        return [work for sequence, work in plan.items() if sequence in self.running]

    cdef long _plan(self, sequence, long budget, dict plan) except -1:
        """Make room for up to `budget` tokens of one sequence; returns how many it is."""
        cdef long start = sequence.num_computed
        cdef long stop = start + min(budget, <long>sequence.num_uncomputed)
        if not self._reserve(sequence, start, stop):
            return 0
        chunk = Chunk(
            token_ids=sequence.tokens(start, stop),
            start=start,
            pages=tuple(sequence.pages),
            num_logits=int(stop == len(sequence)),
        )
        plan[sequence] = sequence, chunk
        return stop - start

    cdef bint _reserve(self, sequence, long start, long stop) except -1:
        """Give the sequence pages of its own for positions start to stop - 1; False if it was preempted itself."""
        cdef long first = start // <long>PAGE_SIZE
        while len(sequence.pages) > first and self.cache.is_shared(sequence.pages[first]):
            if self.cache.num_free:
                sequence.pages[first] = self.cache.copy(sequence.pages[first])
            elif not self._preempt_for(sequence):
                return False
        while len(sequence.pages) < pages_for(stop):
            if self.cache.num_free:
                sequence.pages.append(self.cache.allocate())
            elif not self._preempt_for(sequence):
                return False
        return True

    cdef bint _preempt_for(self, sequence) except -1:
        """Take the pages of the latest comer; False if that is the sequence that asks."""
        holders = [other for other in self.waiting if other.pages] or self.running
        victim = holders[len(holders) - 1]
        self.cache.release(victim.pages)
        victim.pages, victim.num_computed = [], 0
        if victim in self.running:
            self.running.remove(victim)
            self.waiting.appendleft(victim)
        return victim is not sequence

    cdef bint _has_room(self, sequence) except -1:
        """Whether a waiting sequence can take in all it has so far without anyone giving way."""
        return pages_for(len(sequence)) - len(sequence.pages) + bool(sequence.pages) <= self.cache.num_free

    def check(self) -> None:
        """Raise if the books do not balance: every page held is counted, nobody waits and runs at once."""
        everyone = [*self.running, *self.waiting]
        assert len({id(sequence) for sequence in everyone}) == len(everyone), "a sequence is listed twice"
        assert len(self.running) <= self.max_num_sequences, "too many sequences run"
        for sequence in everyone:
            assert len(sequence.pages) >= pages_for(sequence.num_computed), "computed tokens without a page"
        self.cache.check([sequence.pages for sequence in everyone])
