"""Mirrored. Chooses what the next step computes: decodes first, then prefill fills what is left of the token budget.

That is `hybrid`; in `chunked` mode steps of prefill and steps of decodes take turns. Continuous batching (Orca, OSDI
2022) with chunked prefill. First come, first served, but of several owners the one with the fewest running sequences
comes first; a prompt begins where the prefix cache leaves off. Where pages or slots for states are short, holdings.py
frees some. The fast path compiles this file.
"""

from verbatim.reference.cache.states import NO_STATE
from verbatim.reference.engine.holdings import Holdings
from verbatim.reference.records.sequence import Chunk, Sequence


class Scheduler(Holdings):
    """The waiting and the running sequences, and their pages in `cache`; `prefix_cache` may be None.

    `prefill_chunk_size` bounds the tokens of a step, `max_num_sequence` the sequences that run at once. `window` and
    `sinks` say which pages are needed, as in Holdings.
    """

    def __init__(
        self, cache, prefix_cache=None, *, max_num_sequence: int, prefill_chunk_size: int, prefill_mode: str = "hybrid",
        window: int | None = None, sinks: int = 0,
    ):  # fmt: skip
        super().__init__(cache, prefix_cache, prefill_chunk_size, window, sinks)
        self.max_num_sequence, self.prefill_mode = max_num_sequence, prefill_mode
        self._prefills_next = False  # in chunked mode
        self._num_turns = 0
        self._latest_turns: dict[str, int] = {}  # by owner

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

    def schedule(self) -> list[tuple[Sequence, Chunk]]:
        """Return the next step's work; it is empty only if nothing waits or runs."""
        if self.slots is not None:
            self._settle_states()
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
            sequence = self._next_waiting()
            if not self._admit(sequence):
                break
            self.waiting.remove(sequence)
            self._take_turn(sequence)
            self.running.append(sequence)
            budget -= self._plan(sequence, _num_uncomputed(sequence), budget, plan)
        if self._num_preempted == preempted:
            return plan
        latest = {work[0]: work for work in plan}  # a sequence may have been preempted and admitted again
        return [work for sequence, work in latest.items() if sequence in self.running]

    def _next_waiting(self) -> Sequence:
        """The first waiting sequence of the owner with the fewest running ones, else of the longest without a turn."""
        num_running: dict[str, int] = {}
        for sequence in self.running:
            owner = sequence.request.owner
            num_running[owner] = num_running.get(owner, 0) + 1
        first: dict[str, Sequence] = {}
        for sequence in self.waiting:
            first.setdefault(sequence.request.owner, sequence)
        turns = self._latest_turns
        return min(first.items(), key=lambda item: (num_running.get(item[0], 0), turns.get(item[0], 0)))[1]

    def _take_turn(self, sequence: Sequence) -> None:
        """Remember when the sequence's owner had its latest turn, for as long as others wait."""
        self._num_turns += 1
        self._latest_turns[sequence.request.owner] = self._num_turns
        if not self.waiting:
            self._latest_turns.clear()

    def _plan(self, sequence: Sequence, uncomputed: int, budget: int, plan: list) -> int:
        """Reserve pages, and slots, for up to `budget` tokens of a sequence, and return how many they are."""
        start, drafts, output_ids = sequence.num_computed, sequence.draft_ids, sequence.output_ids
        stop = start + min(budget, uncomputed)
        state = NO_STATE
        saves: tuple[tuple[int, int], ...] = ()
        if self.slots is not None:
            own = self._reserve_slot(sequence)
            if own == NO_STATE:
                return 0
            state, saves = self.slots.begin(sequence, own, stop)
        num_drafts = len(drafts)
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
        fields = (token_ids, start, sequence.pages, num_logits + num_drafts, sequence.request.adapter, state, saves)
        chunk = tuple.__new__(Chunk, fields)  # faster than Chunk()
        plan.append((sequence, chunk))
        return stop - start + num_drafts

    def _trim_drafts(self, sequence: Sequence, spare: int) -> int:
        """Drop draft tokens beyond the first `spare`; return how many are left."""
        drafts = sequence.draft_ids
        if drafts:
            del drafts[max(0, spare) :]
        return len(drafts)

    def _admit(self, sequence: Sequence) -> bool:
        """Start a waiting sequence from the prefix cache; return whether there are pages for all its tokens so far.

        If nothing runs there are always pages: the first in the queue may take those of the sequences behind it.
        """
        if self.prefix_cache is not None and not sequence.pages:
            self._match_prefix(sequence)
        available = self.cache.num_free + (self.prefix_cache.num_idle if self.prefix_cache is not None else 0)
        needed = self._most_pages(len(sequence)) - len(sequence.pages) + bool(sequence.pages)
        has_slot = self.slots is None or self.slots.num_available > 0
        if self.running and (needed > available or not has_slot):
            self._drop_pages(sequence)
            return False
        return True

    def check(self) -> None:
        """Raise AssertionError if a page is miscounted, or a sequence waits and runs at once."""
        assert len(self.running) <= self.max_num_sequence, "too many sequences run"
        self.check_holdings()


def _num_uncomputed(sequence: Sequence) -> int:
    """`Sequence.num_uncomputed` without its three calls: every step needs it for every sequence."""
    return len(sequence.request.prompt_ids) + len(sequence.output_ids) - sequence.num_computed
