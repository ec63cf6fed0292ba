"""Mirrored. Who computes what in the next step: decodes first, then prefill fills what is left of the token budget.

Continuous batching (Orca, OSDI 2022) with chunked prefill. First come, first served; a prompt begins where the prefix
cache leaves off; in `chunked` mode prefill and decodes take turns instead. Short of pages, first the prefix cache forgets, then the latest sequence gives its pages back.
"""

from collections import deque

from verbatim.fastpath.cache.pages cimport PagedCache
from verbatim.fastpath.machine.dispatch cimport PACK

from verbatim.fastpath.cache.pages import NO_PAGE, PAGE_SIZE, pages_for
from verbatim.reference.records.sequence import Chunk

UNBOUNDED = 1 << 40  # tokens


cdef long _num_uncomputed(sequence) except -1:
    """What `Sequence.num_uncomputed` says, asked for several times a step."""
    cdef list said = sequence.output_ids
    return len(<tuple>sequence.request.prompt_ids) + len(said) - <long>sequence.num_computed


cdef class Scheduler:
    """The waiting and the running, and the pages that they hold in `cache`; `prefix_cache` may be None.

    `token_budget` bounds the tokens of a step, `max_num_sequences` the sequences that run at once. Pages are given
    back once they lie behind the model's `window` (None: it sees everything), but for those of its first `sinks`.
    """

    cdef readonly PagedCache cache
    cdef readonly object prefix_cache, waiting, prefill_mode, window
    cdef readonly list running
    cdef readonly long max_num_sequences, token_budget, sinks
    cdef bint is_prefill_turn
    cdef long num_preempted

    def __init__(self, PagedCache cache, prefix_cache=None, *, long max_num_sequences, long token_budget,
                 prefill_mode: str = "hybrid", window=None, long sinks=0):
        self.cache, self.prefix_cache = cache, prefix_cache
        self.prefill_mode, self.window, self.sinks = prefill_mode, window, sinks
        self.max_num_sequences = max_num_sequences
        self.token_budget = token_budget
        self.waiting = deque()
        self.running = []

    def longest(self) -> int:
        """How many tokens a sequence may have for its pages to fit."""
        is_bounded = self.window is None or self._most_pages(UNBOUNDED) > self.cache.num_pages
        return self.cache.num_pages * PAGE_SIZE if is_bounded else UNBOUNDED

    def add(self, sequence) -> None:
        """Queue a new sequence at the end."""
        self.waiting.append(sequence)

    def add_forks(self, list sequences) -> None:
        """Take in the further choices of a prompt that has just been computed: they run as soon as there is room."""
        room = self.max_num_sequences - len(self.running)
        self.running.extend(sequences[:room])
        self.waiting.extendleft(reversed(sequences[room:]))

    def remove(self, sequence) -> None:
        """Forget a sequence that has ended; its pages go to the prefix cache, or are free."""
        self.remember(sequence, sequence.num_computed)
        self._drop_pages(sequence)
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)

    def remember(self, sequence, long num_tokens) -> None:
        """Let others begin with the first `num_tokens` of a sequence, which are computed."""
        request = sequence.request
        if self.prefix_cache is not None:
            self.prefix_cache.insert(sequence.tokens(0, num_tokens), sequence.pages, request.cache_salt,
                                     is_pinned=request.is_pinned)

    def schedule(self) -> list:
        """The next step's work, pairs of Sequence and Chunk; empty only if nothing waits or runs."""
        if self.prefill_mode == "hybrid":
            return self._fill(True, True)
        cdef bint prefills = not self.is_prefill_turn
        self.is_prefill_turn = prefills
        return self._fill(not prefills, prefills) or self._fill(prefills, not prefills)

    cdef list _fill(self, bint decodes, bint prefills):
        """A step's work, of one kind or of both."""
        cdef long budget = self.token_budget, spare = budget - len(self.running)  # guesses take what nobody else needs
        cdef long preempted = self.num_preempted
        cdef list plan = [], decoding = [], prefilling = []
        cdef long uncomputed, i
        for sequence in self.running:
            uncomputed = _num_uncomputed(sequence)
            if decodes if uncomputed == 1 else prefills and uncomputed > 1:
                (decoding if uncomputed == 1 else prefilling).append(sequence)
        for i, sequence in enumerate(decoding + prefilling):
            if budget and (self.num_preempted == preempted or sequence in self.running):  # it may have lost its pages
                uncomputed = 1 if i < len(decoding) else _num_uncomputed(sequence)
                spare -= self._trim_drafts(sequence, spare if uncomputed == 1 else 0)
                budget -= self._plan(sequence, uncomputed, budget, plan)
        while prefills and budget and self.waiting and len(self.running) < self.max_num_sequences:
            if not self._admit(self.waiting[0]):
                break
            sequence = self.waiting.popleft()
            self.running.append(sequence)
            budget -= self._plan(sequence, _num_uncomputed(sequence), budget, plan)
        if self.num_preempted == preempted:
            return plan
        latest = {sequence: (sequence, chunk) for sequence, chunk in plan}  # one may have gone and come back
        return [work for sequence, work in latest.items() if sequence in self.running]

    cdef long _plan(self, sequence, long uncomputed, long budget, list plan) except -1:
        """Make room for up to `budget` of a sequence's uncomputed tokens; returns how many it is."""
        cdef list drafts = sequence.draft_ids, said = sequence.output_ids
        cdef long start = sequence.num_computed, num_logits = 1, num_drafts = len(drafts)
        cdef long stop = start + min(budget, uncomputed)
        cdef tuple ids
        if self.window is not None:
            self._let_go(sequence, start)
        if not self._reserve(sequence, start, stop + num_drafts):
            return 0
        if said and uncomputed == 1:  # it decodes
            ids = (said[len(said) - 1], *drafts) if drafts else (said[len(said) - 1],)
        else:
            ids, num_logits = (*sequence.tokens(start, stop), *drafts), sequence.num_logits(start, stop)
        plan.append((sequence, tuple.__new__(Chunk, (ids, start, sequence.pages, num_logits + num_drafts))))
        return stop - start + num_drafts

    cdef _let_go(self, sequence, long start):
        """Give back the pages that no token from `start` on sees; what the prefix cache knows of them stays there."""
        cdef long index = max(0, start - <long>self.window + 1) // <long>PACK - 1, first = pages_for(self.sinks)
        cdef tuple held = sequence.pages
        if index < first or held[index] == NO_PAGE:
            return
        self.remember(sequence, start // <long>PACK * <long>PACK)
        cdef list pages = list(held)
        while index >= first and pages[index] != NO_PAGE:
            self.cache.release([pages[index]])
            pages[index] = NO_PAGE
            index -= 1
        sequence.pages = tuple(pages)

    def _most_pages(self, num_tokens) -> int:
        """How many pages a sequence of so many tokens takes at once."""
        if self.window is None:
            return pages_for(num_tokens)
        return min(pages_for(num_tokens), pages_for(self.sinks) + pages_for(self.window + self.token_budget) + 1)

    cdef long _trim_drafts(self, sequence, long spare) except -1:
        """Cut guesses to what fits; how many are left."""
        cdef list drafts = sequence.draft_ids
        if drafts:
            del drafts[max(0, spare):]
        return len(drafts)

    cdef bint _reserve(self, sequence, long start, long stop) except -1:
        """Give the sequence pages of its own for positions start to stop - 1; False if it was preempted itself."""
        cdef long first = start // <long>PACK, needed = (stop + <long>PACK - 1) // <long>PACK
        cdef tuple pages = sequence.pages
        while len(pages) > first and self.cache.is_shared(pages[first]):
            if self.cache.num_free:
                pages = sequence.pages = (*pages[:first], self.cache.copy(pages[first]), *pages[first + 1 :])
            elif not self._make_room(sequence):
                return False
        while len(pages) < needed:
            if self.cache.num_free:
                pages = sequence.pages = (*pages, self.cache.allocate())
            elif not self._make_room(sequence):
                return False
        return True

    cdef bint _make_room(self, sequence) except -1:
        """Evict from the prefix cache, or take the latest comer's pages; False if that is the sequence that asks.

        A sequence that is alone always fits: for it the prefix cache forgets everything, pinned or not.
        """
        if self.prefix_cache is not None and self.prefix_cache.evict():
            return True
        holders = [other for other in self.waiting if other.pages] or self.running
        if holders == [sequence] and self.prefix_cache is not None and self.prefix_cache.pages():
            self.prefix_cache.clear()  # nobody else holds a page: pinned ones are in the way, or one's own to be copied
            return True
        victim = holders[len(holders) - 1]
        self._drop_pages(victim)
        if victim in self.running:
            self.running.remove(victim)
            self.waiting.appendleft(victim)
            self.num_preempted += 1
        return victim is not sequence

    cdef bint _admit(self, sequence) except -1:
        """Let the prefix cache begin a waiting sequence, if it then has room for all its tokens so far.

        With nobody running there is always room: the first in line may take what those behind it hold.
        """
        if self.prefix_cache is not None and not sequence.pages:
            self._begin(sequence)
        available = self.cache.num_free + (0 if self.prefix_cache is None else self.prefix_cache.num_idle)
        needed = self._most_pages(len(sequence)) - len(sequence.pages) + bool(sequence.pages)
        if self.running and needed > available:
            self._drop_pages(sequence)
            return False
        return True

    cdef _begin(self, sequence):
        """Take over what is known of a sequence's tokens, except those from the first whose logits are wanted."""
        known = sequence.tokens(0, len(sequence) - sequence.num_logits(0, len(sequence)))
        pages, sequence.num_computed = self.prefix_cache.match(known, sequence.request.cache_salt)
        sequence.pages = tuple(pages)
        if not sequence.output_ids:  # not one that was preempted, or a fork: their prompt is counted already
            sequence.num_cached = sequence.num_computed

    cdef _drop_pages(self, sequence):
        self.cache.release(sequence.pages)
        sequence.pages, sequence.num_computed, sequence.draft_ids = (), 0, []

    def check(self) -> None:
        """Raise if the books do not balance: every page held is counted, nobody waits and runs at once."""
        everyone = [*self.running, *self.waiting]
        assert len({id(sequence) for sequence in everyone}) == len(everyone), "a sequence is listed twice"
        assert len(self.running) <= self.max_num_sequences, "too many sequences run"
        for sequence in everyone:
            assert len(sequence.pages) >= pages_for(sequence.num_computed), "computed tokens without a page"
        holdings = [sequence.pages for sequence in everyone]
        if self.prefix_cache is not None:
            self.prefix_cache.check()
            holdings.append(self.prefix_cache.pages())
        self.cache.check(holdings)
