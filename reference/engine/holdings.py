"""Mirrored. What sequences hold, pages and slots for states, and how more of both is found.

A step never fails for want of them: first the prefix cache evicts what was used least recently, then the latest
sequence is preempted: it releases what it holds and is computed again later. Neither changes a bit of anything. The
fast path compiles this file.
"""

from collections import deque

from verbatim.reference.cache.pages import NO_PAGE, PAGE_SIZE, pages_for
from verbatim.reference.cache.states import NO_STATE
from verbatim.reference.engine.slots import Slots
from verbatim.reference.records.sequence import Sequence

UNBOUNDED = 1 << 40  # tokens


class Holdings:
    """The sequences that wait and run, with their pages in `cache` and what `prefix_cache` keeps, which may be None.

    Pages are released once they lie behind the model's sliding `window` in tokens (None: it attends to everything), but
    for those of its first `sinks` tokens, the attention sinks. `slots` are for a model with states (N14), else None.
    """

    def __init__(self, cache, prefix_cache, prefill_chunk_size: int, window: int | None, sinks: int):
        self.cache, self.prefix_cache = cache, prefix_cache
        self.prefill_chunk_size, self.window, self.sinks = prefill_chunk_size, window, sinks
        self.slots = None if cache.states is None else Slots(cache.states, prefix_cache, PAGE_SIZE)
        self._num_preempted = 0
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []

    def longest(self) -> int:
        """How many tokens a sequence may have for its pages to fit."""
        is_bounded = self.window is None or self._most_pages(UNBOUNDED) > self.cache.num_pages
        return self.cache.num_pages * PAGE_SIZE if is_bounded else UNBOUNDED

    def remember(self, sequence: Sequence, num_tokens: int) -> None:
        """Insert the first `num_tokens` of a sequence, which are computed, into the prefix cache."""
        if self.prefix_cache is not None:
            request, token_ids = sequence.request, sequence.tokens(0, num_tokens)
            states = tuple([each for each in sequence.states if each[0] <= num_tokens])
            self.prefix_cache.insert(
                token_ids, sequence.pages, request.page_salt, is_pinned=request.is_pinned, states=states
            )

    def _settle_states(self) -> None:
        """Give states to the prefix cache where it is to have them; release all but each sequence's latest."""
        assert self.slots is not None
        for sequence in self.running:
            if num_tokens := self.slots.num_to_remember(sequence):
                self.remember(sequence, num_tokens)
            self.slots.settle(sequence)

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

    def _reserve_slot(self, sequence: Sequence) -> int:
        """A slot that the sequence may write its state to; NO_STATE if it was preempted itself."""
        assert self.slots is not None
        slot = self.slots.writable(sequence)
        while slot == NO_STATE and self._preempt(sequence):
            slot = self.slots.writable(sequence)
        return slot

    def _free_a_page(self, sequence: Sequence) -> bool:
        """Evict from the prefix cache, or preempt the latest sequence; False if that is `sequence` itself."""
        return (self.prefix_cache is not None and self.prefix_cache.evict()) or self._preempt(sequence)

    def _preempt(self, sequence: Sequence) -> bool:
        """Preempt the latest sequence; False if that is `sequence` itself.

        A sequence that is alone always fits: for it the prefix cache evicts everything, pinned or not.
        """
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

    def _match_prefix(self, sequence: Sequence) -> None:
        """Start with the pages that the prefix cache has, up to the first token whose logits are wanted."""
        token_ids = sequence.tokens(0, len(sequence) - sequence.num_logits(0, len(sequence)))
        salt = sequence.request.page_salt
        if self.slots is None:
            pages, sequence.num_computed = self.prefix_cache.match(token_ids, salt)
        else:
            pages, sequence.num_computed, slot, known = self.prefix_cache.match_state(token_ids, salt)
            sequence.states = ((sequence.num_computed, slot),) if sequence.num_computed else ()
            sequence.branch_at = known // PAGE_SIZE * PAGE_SIZE
        sequence.pages = tuple(pages)
        if not sequence.output_ids:  # a preempted sequence, or a fork, has counted its prompt already
            sequence.num_cached = sequence.num_computed

    def fork(self, sequence: Sequence, choice: int) -> Sequence:
        """A further choice of a sequence, which shares its pages and its state."""
        states = sequence.state()
        if states:
            self.cache.states.share([slot for _, slot in states])
        return sequence.fork(choice, tuple(self.cache.share(sequence.pages)), states)

    def count_slots(self) -> dict[str, int]:
        """Counts of slots for states; nothing in a model without."""
        return {} if self.slots is None else self.slots.count()

    def _drop_pages(self, sequence: Sequence) -> None:
        self.cache.release(sequence.pages)
        if self.slots is not None:
            self.slots.release(sequence)
        sequence.pages, sequence.num_computed, sequence.draft_ids = (), 0, []

    def check_holdings(self) -> None:
        """Raise AssertionError if a page is miscounted, or a sequence waits and runs at once."""
        sequences = [*self.running, *self.waiting]
        assert len({id(sequence) for sequence in sequences}) == len(sequences), "a sequence is listed twice"
        for sequence in sequences:
            assert len(sequence.pages) >= pages_for(sequence.num_computed), "computed tokens without a page"
        holdings = [sequence.pages for sequence in sequences]
        if self.prefix_cache is not None:
            self.prefix_cache.check()
            holdings.append(self.prefix_cache.pages())
        self.cache.check(holdings)
        if self.slots is not None:
            self.slots.check(sequences)


def _replace_page(pages: tuple[int, ...], index: int, page: int) -> tuple[int, ...]:
    """Return the pages with `page` at `index`; a chunk of an earlier step keeps the tuple that it has."""
    return (*pages[:index], page, *pages[index + 1 :])
