"""Mirrored. Who computes what in the next step: decodes first, then prefill fills what is left of the token budget.

That is `hybrid`; in `chunked` mode steps of prefill and steps of decodes take turns. Continuous batching (Orca, OSDI
2022) with chunked prefill. First come, first served; a prompt begins where the prefix cache leaves off. A step never
fails for want of pages: first the prefix cache forgets what is used least, then the latest sequence gives its pages
back and is computed again later. Neither changes a bit of anything.
"""

from collections import deque

from verbatim.reference.cache.pages import NO_PAGE, PAGE_SIZE, pages_for
from verbatim.reference.records.sequence import Chunk, Sequence

UNBOUNDED = 1 << 40  # tokens


class Scheduler:
    """The waiting and the running, and the pages that they hold in `cache`; `prefix_cache` may be None.

    `token_budget` bounds the tokens of a step, `max_num_sequences` the sequences that run at once. Pages are given
    back once they lie behind the model's `window` (None: it sees everything), but for those of its first `sinks`.
    """

    def __init__(
        self, cache, prefix_cache=None, *, max_num_sequences: int, token_budget: int, prefill_mode: str = "hybrid",
        window: int | None = None, sinks: int = 0,
    ):  # fmt: skip
        self.cache = cache
        self.prefix_cache = prefix_cache
        self.max_num_sequences = max_num_sequences
        self.token_budget = token_budget
        self.prefill_mode = prefill_mode
        self.window, self.sinks = window, sinks
        self._is_prefill_turn = False  # in chunked mode
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
        """Take in the further choices of a prompt that has just been computed: they run as soon as there is room."""
        room = self.max_num_sequences - len(self.running)
        self.running.extend(sequences[:room])
        self.waiting.extendleft(reversed(sequences[room:]))

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence that has ended; its pages go to the prefix cache, or are free."""
        self.remember(sequence, sequence.num_computed)
        self._drop_pages(sequence)
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)

    def remember(self, sequence: Sequence, num_tokens: int) -> None:
        """Let others begin with the first `num_tokens` of a sequence, which are computed."""
        if self.prefix_cache is not None:
            request = sequence.request
            known = sequence.tokens(0, num_tokens)
            self.prefix_cache.insert(known, sequence.pages, request.cache_salt, is_pinned=request.is_pinned)

    def schedule(self) -> list[tuple[Sequence, Chunk]]:
        """Return the next step's work; it is empty only if nothing waits or runs."""
        if self.prefill_mode == "hybrid":
            return self._fill(True, True)
        self._is_prefill_turn = turn = not self._is_prefill_turn
        return self._fill(not turn, turn) or self._fill(turn, not turn)

    def _fill(self, decodes: bool, prefills: bool) -> list[tuple[Sequence, Chunk]]:
        """Plan a step of decodes, of prefills, or of both."""
        budget = self.token_budget
        spare = budget - len(self.running)  # draft tokens take only what nobody's next token needs
        preempted = self._num_preempted
        plan, decoding, prefilling = [], [], []
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
        while prefills and budget and self.waiting and len(self.running) < self.max_num_sequences:
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
            self._let_go(sequence, start)
        if not self._reserve(sequence, start, stop + num_drafts):
            return 0
        if output_ids and uncomputed == 1:
            token_ids, num_logits = (output_ids[-1],), 1
        else:
            token_ids, num_logits = sequence.tokens(start, stop), sequence.num_logits(start, stop)
        if drafts:
            token_ids += tuple(drafts)
        chunk = tuple.__new__(Chunk, (token_ids, start, sequence.pages, num_logits + num_drafts))  # faster than Chunk()
        plan.append((sequence, chunk))
        return stop - start + num_drafts

    def _let_go(self, sequence: Sequence, start: int) -> None:
        """Give back the pages that no token from `start` on sees; what the prefix cache knows of them stays there."""
        if self.window is None:
            return
        index = max(0, start - self.window + 1) // PAGE_SIZE - 1  # the last page that lies behind the window
        first = pages_for(self.sinks)
        if index >= first and sequence.pages[index] != NO_PAGE:
            self.remember(sequence, start // PAGE_SIZE * PAGE_SIZE)
        while index >= first and sequence.pages[index] != NO_PAGE:
            self.cache.release([sequence.pages[index]])
            sequence.pages = _with(sequence.pages, index, NO_PAGE)
            index -= 1

    def _most_pages(self, num_tokens: int) -> int:
        """How many pages a sequence of so many tokens takes at once."""
        if self.window is None:
            return pages_for(num_tokens)
        return min(pages_for(num_tokens), pages_for(self.sinks) + pages_for(self.window + self.token_budget) + 1)

    def _trim_drafts(self, sequence: Sequence, spare: int) -> int:
        """Cut guesses to what fits, and drop those of a sequence that is not decoding; how many are left."""
        drafts = sequence.draft_ids
        if drafts:
            del drafts[max(0, spare) :]
        return len(drafts)

    def _reserve(self, sequence: Sequence, start: int, stop: int) -> bool:
        """Give the sequence pages of its own for positions start to stop - 1; False if it was preempted itself."""
        first, needed, pages = start // PAGE_SIZE, pages_for(stop), sequence.pages
        while len(pages) > first and self.cache.is_shared(pages[first]):
            if self.cache.num_free:
                pages = sequence.pages = _with(pages, first, self.cache.copy(pages[first]))
            elif not self._make_room(sequence):
                return False
        while len(pages) < needed:
            if self.cache.num_free:
                pages = sequence.pages = (*pages, self.cache.allocate())
            elif not self._make_room(sequence):
                return False
        return True

    def _make_room(self, sequence: Sequence) -> bool:
        """Evict from the prefix cache, or take the latest comer's pages; False if that is the sequence that asks.

        A sequence that is alone always fits: for it the prefix cache forgets everything, pinned or not.
        """
        if self.prefix_cache is not None and self.prefix_cache.evict():
            return True
        holders = [other for other in self.waiting if other.pages]
        if not holders and self.running == [sequence] and self.prefix_cache is not None and self.prefix_cache.pages():
            self.prefix_cache.clear()  # nobody else holds a page: pinned ones are in the way, or one's own to be copied
            return True
        victim = holders[-1] if holders else self.running[-1]
        self._drop_pages(victim)
        if victim in self.running:
            self.running.remove(victim)
            self.waiting.appendleft(victim)
            self._num_preempted += 1
        return victim is not sequence

    def _admit(self, sequence: Sequence) -> bool:
        """Let the prefix cache begin a waiting sequence, if it then has room for all its tokens so far.

        With nobody running there is always room: the first in line may take what those behind it hold.
        """
        if self.prefix_cache is not None and not sequence.pages:
            self._begin(sequence)
        available = self.cache.num_free + (self.prefix_cache.num_idle if self.prefix_cache is not None else 0)
        needed = self._most_pages(len(sequence)) - len(sequence.pages) + bool(sequence.pages)
        if self.running and needed > available:
            self._drop_pages(sequence)
            return False
        return True

    def _begin(self, sequence: Sequence) -> None:
        """Take over what is known of a sequence's tokens, except those from the first whose logits are wanted."""
        known = sequence.tokens(0, len(sequence) - sequence.num_logits(0, len(sequence)))
        pages, sequence.num_computed = self.prefix_cache.match(known, sequence.request.cache_salt)
        sequence.pages = tuple(pages)
        if not sequence.output_ids:  # not one that was preempted, or a fork: their prompt is counted already
            sequence.num_cached = sequence.num_computed

    def _drop_pages(self, sequence: Sequence) -> None:
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


def _with(pages: tuple[int, ...], index: int, page: int) -> tuple[int, ...]:
    """The pages with another one in a place; a step's chunk keeps those that it was given."""
    return (*pages[:index], page, *pages[index + 1 :])


def _num_uncomputed(sequence: Sequence) -> int:
    """`Sequence.num_uncomputed`, without the calls that it takes there: it is asked for often."""
    return len(sequence.request.prompt_ids) + len(sequence.output_ids) - sequence.num_computed
