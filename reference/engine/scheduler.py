"""Mirrored. Chooses what the next step computes: decodes first, then prefill fills what is left of the token budget.

That is `hybrid`; in `chunked` mode steps of prefill and steps of decodes take turns. Continuous batching (Orca, OSDI
2022) with chunked prefill. First come, first served; a prompt begins where the prefix cache leaves off. A step never
fails for want of pages: first the prefix cache evicts what was used least recently, then the latest sequence is
preempted: it releases its pages and is computed again later. Neither changes a bit of anything. The fast path compiles
this file.
"""

from collections import deque

from verbatim.reference.cache.pages import NO_PAGE, PAGE_SIZE, pages_for
from verbatim.reference.records.sequence import Chunk, Sequence

UNBOUNDED = 1 << 40  # tokens


class Scheduler:
    """The waiting and the running sequences, and their pages in `cache`; `prefix_cache` may be None.

    `prefill_chunk_size` bounds the tokens of a step, `max_num_sequence` the sequences that run at once. Pages are
    released once they lie behind the model's sliding `window` in tokens (None: it attends to everything), but for
    those of its first `sinks` tokens, the attention sinks.
    """

    def __init__(
        self, cache, prefix_cache=None, *, max_num_sequence: int, prefill_chunk_size: int, prefill_mode: str = "hybrid",
        window: int | None = None, sinks: int = 0,
    ):  # fmt: skip
        self.cache = cache
        self.prefix_cache = prefix_cache
        self.max_num_sequence = max_num_sequence
        self.prefill_chunk_size = prefill_chunk_size
        self.prefill_mode = prefill_mode
        self.window, self.sinks = window, sinks
        self._prefills_next = False  # in chunked mode
        self._num_preempted = 0
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []

    def longest(self) -> int:
        """How many tokens a sequence may have for its pages to fit."""
        is_bounded = self.window is None or self._most_pages(UNBOUNDED) > self.cache.num_pages
        return self.cache.num_pages * PAGE_SIZE if is_bounded else UNBOUNDED

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence at the end."""
        self.waiting.append(sequence)

    def add_forks(self, sequences: list[Sequence]) -> None:
        """Add the further choices of a prompt that has just been computed: they run as soon as the batch has space."""
        free = self.max_num_sequence - len(self.running)
        self.running.extend(sequences[:free])
        self.waiting.extendleft(reversed(sequences[free:]))

    def remove(self, sequence: Sequence) -> None:
        """Remove a finished sequence; the prefix cache keeps its pages, or they are free."""
        self.remember(sequence, sequence.num_computed)
        self._drop_pages(sequence)
        if self.prefix_cache is not None:
            self.prefix_cache.trim()
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)

    def remember(self, sequence: Sequence, num_tokens: int) -> None:
        """Insert the first `num_tokens` of a sequence, which are computed, into the prefix cache."""
        if self.prefix_cache is not None:
            request = sequence.request
            token_ids = sequence.tokens(0, num_tokens)
            self.prefix_cache.insert(token_ids, sequence.pages, request.page_salt, is_pinned=request.is_pinned)

    def schedule(self) -> list[tuple[Sequence, Chunk]]:
        """Return the next step's work; it is empty only if nothing waits or runs."""
        if self.prefill_mode == "hybrid":
            return self._fill(True, True)
        self._prefills_next = prefills = not self._prefills_next
        return self._fill(not prefills, prefills) or self._fill(prefills, not prefills)

    def _fill(self, decodes: bool, prefills: bool) -> list[tuple[Sequence, Chunk]]:
        """Plan a step of decodes, of prefills, or of both."""
        budget = self.prefill_chunk_size
        spare = budget - len(self.running)  # draft tokens take only what no sequence needs for its next token
        preempted = self._num_preempted
        plan: list[tuple[Sequence, Chunk]] = []
        decoding, prefilling = [], []
        for sequence in self.running:
            uncomputed = _num_uncomputed(sequence)
            if uncomputed == 1 and decodes:
                decoding.append(sequence)
            elif uncomputed > 1 and prefills:
                prefilling.append(sequence)
        for sequence in decoding:
            if budget and (self._num_preempted == preempted or sequence in self.running):
                spare -= self._trim_drafts(sequence, spare)
                budget -= self._plan(sequence, 1, budget, plan)
        for sequence in prefilling:
            if budget and (self._num_preempted == preempted or sequence in self.running):
                self._trim_drafts(sequence, 0)
                budget -= self._plan(sequence, _num_uncomputed(sequence), budget, plan)
        while prefills and budget and self.waiting and len(self.running) < self.max_num_sequence:
            if not self._admit(self.waiting[0]):
                break
            sequence = self.waiting.popleft()
            self.running.append(sequence)
            budget -= self._plan(sequence, _num_uncomputed(sequence), budget, plan)
        if self._num_preempted == preempted:
            return plan
        latest = {work[0]: work for work in plan}  # a sequence may have been preempted and admitted again
        return [work for sequence, work in latest.items() if sequence in self.running]

    def _plan(self, sequence: Sequence, uncomputed: int, budget: int, plan: list) -> int:
        """Reserve pages for up to `budget` tokens of a sequence, and return how many they are."""
        start, drafts, output_ids = sequence.num_computed, sequence.draft_ids, sequence.output_ids
        num_drafts = len(drafts)
        stop = start + min(budget, uncomputed)
        if self.window is not None:
            self._release_behind_window(sequence, start)
        if not self._reserve(sequence, start, stop + num_drafts):
            return 0
        if uncomputed != 1 or not output_ids:
            token_ids, num_logits = sequence.tokens(start, stop), sequence.num_logits(start, stop)
        else:
            token_ids, num_logits = (output_ids[-1],), 1
        if drafts:
            token_ids += tuple(drafts)
        fields = (token_ids, start, sequence.pages, num_logits + num_drafts, sequence.request.adapter)
        chunk = tuple.__new__(Chunk, fields)  # faster than Chunk()
        plan.append((sequence, chunk))
        return stop - start + num_drafts

    def _release_behind_window(self, sequence: Sequence, start: int) -> None:
        """Release the pages that no token from `start` on attends to; the prefix cache keeps what it has of them."""
        if self.window is None:
            return
        index = max(0, start - self.window + 1) // PAGE_SIZE - 1  # the last page that lies behind the window
        first = pages_for(self.sinks)
        if index >= first and sequence.pages[index] != NO_PAGE:
            self.remember(sequence, start // PAGE_SIZE * PAGE_SIZE)
        while index >= first and sequence.pages[index] != NO_PAGE:
            self.cache.release([sequence.pages[index]])
            sequence.pages = _replace_page(sequence.pages, index, NO_PAGE)
            index -= 1

    def _most_pages(self, num_tokens: int) -> int:
        """How many pages a sequence of `num_tokens` holds at once, at most."""
        if self.window is None:
            return pages_for(num_tokens)
        return min(pages_for(num_tokens), pages_for(self.sinks) + pages_for(self.window + self.prefill_chunk_size) + 1)

    def _trim_drafts(self, sequence: Sequence, spare: int) -> int:
        """Drop draft tokens beyond the first `spare`; return how many are left."""
        drafts = sequence.draft_ids
        if drafts:
            del drafts[max(0, spare) :]
        return len(drafts)

    def _reserve(self, sequence: Sequence, start: int, stop: int) -> bool:
        """Allocate pages of the sequence's own for positions start to stop - 1; False if it was preempted itself."""
        first, needed, pages = start // PAGE_SIZE, pages_for(stop), sequence.pages
        while len(pages) > first and self.cache.is_shared(pages[first]):
            if self.cache.num_free:
                pages = sequence.pages = _replace_page(pages, first, self.cache.copy(pages[first]))
            elif not self._free_a_page(sequence):
                return False
        while len(pages) < needed:
            if self.cache.num_free:
                pages = sequence.pages = (*pages, self.cache.allocate())
            elif not self._free_a_page(sequence):
                return False
        return True

    def _free_a_page(self, sequence: Sequence) -> bool:
        """Evict from the prefix cache, or preempt the latest sequence; False if that is `sequence` itself.

        A sequence that is alone always fits: for it the prefix cache evicts everything, pinned or not.
        """
        if self.prefix_cache is not None and self.prefix_cache.evict():
            return True
        holders = [other for other in self.waiting if other.pages]
        if not holders and self.running == [sequence] and self.prefix_cache is not None and self.prefix_cache.pages():
            self.prefix_cache.clear()  # only pinned pages, or its own that are to be copied, are in the way
            return True
        victim = holders[-1] if holders else self.running[-1]
        self._drop_pages(victim)
        if victim in self.running:
            self.running.remove(victim)
            self.waiting.appendleft(victim)
            self._num_preempted += 1
        return victim is not sequence

    def _admit(self, sequence: Sequence) -> bool:
        """Start a waiting sequence from the prefix cache; return whether there are pages for all its tokens so far.

        If nothing runs there are always pages: the first in the queue may take those of the sequences behind it.
        """
        if self.prefix_cache is not None and not sequence.pages:
            self._match_prefix(sequence)
        available = self.cache.num_free + (self.prefix_cache.num_idle if self.prefix_cache is not None else 0)
        needed = self._most_pages(len(sequence)) - len(sequence.pages) + bool(sequence.pages)
        if self.running and needed > available:
            self._drop_pages(sequence)
            return False
        return True

    def _match_prefix(self, sequence: Sequence) -> None:
        """Start with the pages that the prefix cache has, up to the first token whose logits are wanted."""
        token_ids = sequence.tokens(0, len(sequence) - sequence.num_logits(0, len(sequence)))
        pages, sequence.num_computed = self.prefix_cache.match(token_ids, sequence.request.page_salt)
        sequence.pages = tuple(pages)
        if not sequence.output_ids:  # a preempted sequence, or a fork, has counted its prompt already
            sequence.num_cached = sequence.num_computed

    def _drop_pages(self, sequence: Sequence) -> None:
        self.cache.release(sequence.pages)
        sequence.pages, sequence.num_computed, sequence.draft_ids = (), 0, []

    def check(self) -> None:
        """Raise AssertionError if a page is miscounted, or a sequence waits and runs at once."""
        sequences = [*self.running, *self.waiting]
        assert len({id(sequence) for sequence in sequences}) == len(sequences), "a sequence is listed twice"
        assert len(self.running) <= self.max_num_sequence, "too many sequences run"
        for sequence in sequences:
            assert len(sequence.pages) >= pages_for(sequence.num_computed), "computed tokens without a page"
        holdings = [sequence.pages for sequence in sequences]
        if self.prefix_cache is not None:
            self.prefix_cache.check()
            holdings.append(self.prefix_cache.pages())
        self.cache.check(holdings)


def _replace_page(pages: tuple[int, ...], index: int, page: int) -> tuple[int, ...]:
    """Return the pages with `page` at `index`; a chunk of an earlier step keeps the tuple that it has."""
    return (*pages[:index], page, *pages[index + 1 :])


def _num_uncomputed(sequence: Sequence) -> int:
    """`Sequence.num_uncomputed` without its three calls: every step needs it for every sequence."""
    return len(sequence.request.prompt_ids) + len(sequence.output_ids) - sequence.num_computed
