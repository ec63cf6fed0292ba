"""Which slots for states a sequence begins from and writes to (N14); every engine's scheduler uses it.

A sequence goes on in its own slot. It takes a new one where others use that one too: further choices of a prompt, or
the prefix cache. Behind every draft token a state is kept, so that rejected ones are taken back by going on from an
earlier slot. The prefix cache gets states at the end of a prompt's last whole page, after every SNAPSHOT_TOKENS of its
tokens, where it was found to part from another text, and where an answer ends.
"""

from verbatim.reference.cache.states import NO_STATE
from verbatim.reference.records.sequence import Sequence

SNAPSHOT_TOKENS = 512
States = tuple[tuple[int, int], ...]  # (tokens, slot)


class Slots:
    """The slots of `states` as sequences use them; `prefix_cache` may be None."""

    def __init__(self, states, prefix_cache, page_size: int):
        self.states, self.prefix_cache, self.page_size = states, prefix_cache, page_size

    @property
    def num_available(self) -> int:
        """Slots that are free, or that the prefix cache could give up."""
        return self.states.num_free + (self.prefix_cache.num_idle_states if self.prefix_cache is not None else 0)

    def num_to_remember(self, sequence: Sequence) -> int:
        """Up to which token the prefix cache is to get a sequence with its states; 0 if there is nothing new."""
        found = (count for count, _ in sequence.states if count <= sequence.num_computed)
        return max((count for count in found if self._is_point(sequence, count)), default=0)

    def settle(self, sequence: Sequence) -> None:
        """Release all slots but the one after the sequence's computed tokens."""
        kept = sequence.state()
        self.states.release([slot for count, slot in sequence.states if count != sequence.num_computed])
        sequence.states = kept

    def writable(self, sequence: Sequence) -> int:
        """A slot that the sequence alone uses: that after its computed tokens, or a free one; NO_STATE if none is."""
        before = sequence.state()
        return before[0][1] if before and not self.states.is_shared(before[0][1]) else self._take()

    def begin(self, sequence: Sequence, own: int, stop: int) -> tuple[int, States]:
        """What a chunk of a settled sequence begins from, and its saves: in `own` after the token before `stop`.

        Others are before that, for the prefix cache, and behind each draft token. Without a slot for it a draft token
        is dropped, with those that follow it.
        """
        start, drafts, before = sequence.num_computed, sequence.draft_ids, sequence.state()
        assert before or not start, "computed tokens without a state"
        saves = [(point, slot) for point in self._points(sequence, stop) if (slot := self._take()) != NO_STATE]
        saves.append((stop, own))
        for count in range(len(drafts)):
            slot = self._take()
            if slot == NO_STATE:
                del drafts[count:]
                break
            saves.append((stop + 1 + count, slot))
        state = before[0][1] if before else NO_STATE
        sequence.states = (*(before if state != own else ()), *saves)  # others must not write to it during the pass
        return state, tuple((count - start, slot) for count, slot in saves)

    def release(self, sequence: Sequence) -> None:
        """Release all slots of a sequence."""
        self.states.release([slot for _, slot in sequence.states])
        sequence.states = ()

    def count(self) -> dict[str, int]:
        """Counts for people and metrics."""
        num_idle = self.num_available - self.states.num_free
        used = self.states.num_slots - self.num_available
        return {"used_slots": used, "cached_slots": num_idle, "total_slots": self.states.num_slots}

    def check(self, sequences: list[Sequence]) -> None:
        """Raise AssertionError if a slot is miscounted, or computed tokens have no state."""
        for sequence in sequences:
            furthest = max((count for count, _ in sequence.states), default=0)
            assert furthest >= sequence.num_computed, "computed tokens without a state"
        holdings = [[slot for _, slot in sequence.states] for sequence in sequences]
        kept = self.prefix_cache.snapshots.slots() if self.prefix_cache is not None else []
        self.states.check([*holdings, kept])

    def _take(self) -> int:
        """A free slot, at the cost of the prefix cache's oldest state; NO_STATE if there is none."""
        if self.states.num_free or (self.prefix_cache is not None and self.prefix_cache.evict_state()):
            return self.states.allocate()
        return NO_STATE

    def _points(self, sequence: Sequence, stop: int) -> list[int]:
        """Where within the next chunk, up to token `stop`, the prefix cache is to get a state."""
        first = sequence.num_computed // self.page_size + 1
        places = range(first * self.page_size, min(stop, len(sequence.request.prompt_ids) + 1), self.page_size)
        return [place for place in places if self._is_point(sequence, place)]

    def _is_point(self, sequence: Sequence, place: int) -> bool:
        num_prompt = len(sequence.request.prompt_ids)
        if self.prefix_cache is None or place % self.page_size or not 0 < place <= num_prompt:
            return False
        last = (
            (num_prompt - 1) // self.page_size * self.page_size
        )  # the same prompt again needs its last token's logits
        return place in (sequence.branch_at, last) or place % SNAPSHOT_TOKENS == 0
