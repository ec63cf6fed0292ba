"""Generated lives of the page cache, the prefix cache and the scheduler by themselves: every page holds what it should.

No model runs. What a page ought to hold for a token is a number made of the salt and of all tokens up to it, as keys
and values are; so a page that is shared, copied, evicted or handed on wrongly is seen by its content, after every step.
"""

import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from verbatim.reference.records.request import Request, StoppingParams
from verbatim.reference.records.sequence import Sequence

CONFIG = SimpleNamespace(num_layers=1, num_kv_heads=1, head_dim=1)
HYBRID = SimpleNamespace(**vars(CONFIG), mixer=SimpleNamespace(state_size=1), num_stateful_layers=1)
SIZE = 16
SALTS = st.sampled_from(["", "", "tenant"])
TOKENS = st.lists(st.sampled_from([1, 1, 1, 1, 2]), min_size=1, max_size=40).map(tuple)  # beginnings agree often


def content(token_ids, salt=""):
    """What the cache ought to hold of these tokens: one number a token, of it and all before it."""
    found, state = [], zlib.crc32(salt.encode())
    for token_id in token_ids:
        state = zlib.crc32(bytes([token_id]), state)
        found.append(state % 2**20)
    return found


def write(cache, pages, start, numbers):
    rows = np.array(numbers, np.float32).reshape(-1, 1, 1)
    cache.write(0, pages, start, rows, -rows)


def read(cache, pages, count):
    if count == 0:
        return []
    keys, values = cache.read(0, pages, count)
    assert np.array_equal(keys, -values)
    return keys.reshape(-1).astype(int).tolist()


class Holder:
    """Tokens that somebody has computed, and the pages that hold them."""

    def __init__(self, token_ids, pages, salt):
        self.token_ids, self.pages, self.salt = token_ids, pages, salt


class CacheMachine(RuleBasedStateMachine):
    """Holders come, begin with what the tree knows, write on, fork, are remembered and leave."""

    def __init__(self, part, tally):
        super().__init__()
        self.part, self.tally = part, tally
        self.holders = []
        self.known, self.pinned = [], []  # (salt, tokens) in the tree: all of it since the last eviction, and pins

    @initialize(num_pages=st.integers(3, 20))
    def open(self, num_pages):
        self.cache = self.part("cache.pages").PagedCache(CONFIG, num_pages)
        self.tree = self.part("cache.prefix_cache").PrefixCache(self.cache)
        self.is_complete = True

    @rule(token_ids=TOKENS, salt=SALTS, is_done=st.booleans())
    def begin(self, token_ids, salt, is_done):
        pages, count = self.tree.match(token_ids, salt)
        longest = max((common(token_ids, other) for own, other in self.known if own == salt), default=0)
        pinned = max((common(token_ids, other) for own, other in self.pinned if own == salt), default=0)
        assert pinned <= count <= longest
        assert count == longest or not self.is_complete
        assert len(pages) == -(-count // SIZE)
        self.tally["matches"] += count > 0
        holder = Holder(token_ids[:count], pages, salt)
        self.holders.append(holder)
        if self.write(holder, token_ids[count:]) and is_done:
            self.insert(holder, token_ids, is_pinned=False)
            self.remove(holder)

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), more=TOKENS)
    def write_on(self, data, more):
        self.write(self.choose(data), more)

    def write(self, holder, more):
        """Write more tokens as a sequence would, which changes no shared page; False if no page is free."""
        start = len(holder.token_ids)
        last = start // SIZE
        if len(holder.pages) > last and self.cache.is_shared(holder.pages[last]):
            if not self.free_pages():
                return False
            if self.cache.is_shared(holder.pages[last]):  # evicting may have freed its other user
                holder.pages[last] = self.cache.copy(holder.pages[last])
                self.tally["copies"] += 1
        while len(holder.pages) * SIZE < start + len(more):
            if not self.free_pages():
                return False
            holder.pages.append(self.cache.allocate())
        holder.token_ids += more
        write(self.cache, holder.pages, start, content(holder.token_ids, holder.salt)[start:])
        return True

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), is_pinned=st.booleans())
    def remember(self, data, is_pinned):
        """As at the end of a prompt: whole pages only, the last one is still being written to."""
        holder = self.choose(data)
        self.insert(holder, holder.token_ids[: len(holder.token_ids) // SIZE * SIZE], is_pinned)

    def insert(self, holder, token_ids, is_pinned):
        self.tree.insert(token_ids, holder.pages, holder.salt, is_pinned=is_pinned)
        self.known.append((holder.salt, token_ids))
        self.pinned += [(holder.salt, token_ids)] * is_pinned

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def fork(self, data):
        holder = self.choose(data)
        self.holders.append(Holder(holder.token_ids, self.cache.share(holder.pages), holder.salt))

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), is_remembered=st.booleans(), is_pinned=st.sampled_from([False, False, True]))
    def leave(self, data, is_remembered, is_pinned):
        holder = self.choose(data)
        if is_remembered:
            self.insert(holder, holder.token_ids, is_pinned)
        self.remove(holder)

    def remove(self, holder):
        self.holders.remove(holder)
        self.cache.release(holder.pages)

    @rule()
    def evict(self):
        free, idle = self.cache.num_free, self.tree.num_idle
        if self.tree.evict():
            assert idle
            assert self.cache.num_free > free
            self.is_complete = False
            self.tally["evictions"] += 1
        else:
            assert self.cache.num_free == free
            assert not idle or self.holders, "nobody holds a page, so what is idle can go"

    @rule()
    @precondition(lambda self: len(self.known) > 5)
    def clear(self):
        self.tree.clear()
        self.known, self.pinned, self.is_complete = [], [], True
        assert self.tree.pages() == []

    @invariant()
    def the_books_balance(self):
        if hasattr(self, "tree"):
            self.tree.check()
            self.cache.check([self.tree.pages(), *(holder.pages for holder in self.holders)])

    @invariant()
    def everybody_finds_what_is_his(self):
        for holder in self.holders:
            found = read(self.cache, holder.pages, len(holder.token_ids))
            assert found == content(holder.token_ids, holder.salt)

    def choose(self, data):
        return self.holders[data.draw(st.integers(0, len(self.holders) - 1))]

    def free_pages(self):
        while not self.cache.num_free:
            if not self.tree.evict():
                return False
            self.is_complete = False
            self.tally["evictions"] += 1
        return True

    def teardown(self):
        """Everybody leaves and the tree forgets: no page is lost."""
        if hasattr(self, "tree"):
            for holder in self.holders:
                self.cache.release(holder.pages)
            self.tree.clear()
            assert self.cache.num_free == self.cache.num_pages
            self.tally["scenarios"] += 1


def common(first, second):
    return next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


class SchedulerMachine(RuleBasedStateMachine):
    """A scheduler that is asked for step after step; what an engine would compute is written by hand."""

    def __init__(self, part, tally):
        super().__init__()
        self.part, self.tally = part, tally
        self.scheduler, self.living = None, []
        self.forks = {}

    @initialize(
        num_pages=st.integers(5, 14), sequences=st.integers(1, 5), extra=st.sampled_from([0, 1, 7, 40]),
        has_tree=st.booleans(), max_ended=st.sampled_from([-1, -1, 0, 2]),
        num_slots=st.sampled_from([None, None, 1, 2, 3, 6, 20]),
    )  # fmt: skip
    def open(self, num_pages, sequences, extra, has_tree, max_ended, num_slots):
        config = CONFIG if num_slots is None else HYBRID
        self.cache = self.part("cache.pages").PagedCache(config, num_pages, num_slots=num_slots or 0)
        self.tree = self.part("cache.prefix_cache").PrefixCache(self.cache, max_ended) if has_tree else None
        self.scheduler = self.part("engine.scheduler").Scheduler(
            self.cache, self.tree, max_num_sequence=sequences, prefill_chunk_size=sequences + extra
        )

    @rule(prompt=TOKENS, n=st.integers(1, 3), salt=SALTS, max_tokens=st.integers(1, 40), is_pinned=st.booleans())
    def add(self, prompt, n, salt, max_tokens, is_pinned):
        request = Request(
            request_id=str(len(self.living)), prompt_ids=prompt, n=n, cache_salt=salt, is_pinned=is_pinned,
            stopping=StoppingParams(max_tokens=max_tokens),
        )  # fmt: skip
        sequence = Sequence(request=request, num_forks=n - 1)
        self.living.append(sequence)
        self.scheduler.add(sequence)
        self.scheduler.check()

    @precondition(lambda self: len(self.living) > 1)
    @rule(data=st.data())
    def abort(self, data):
        self.end(self.living[data.draw(st.integers(0, len(self.living) - 1))])
        self.scheduler.check()
        self.tally["aborts"] += 1

    @precondition(lambda self: self.living)
    @rule(drafts=st.lists(st.lists(st.sampled_from([1, 1, 2]), max_size=5), min_size=5, max_size=5))
    def step(self, drafts):
        decoding = [each for each in self.scheduler.running if each.output_ids and each.num_uncomputed == 1]
        self.propose(decoding, drafts)
        computed = {sequence: sequence.num_computed for sequence in self.living}
        known = set(self.tree.pages()) if self.tree is not None else set()
        work = self.scheduler.schedule()
        self.scheduler.check()
        assert work, "somebody waits, so somebody must run"
        assert sum(len(chunk.token_ids) for _, chunk in work) <= self.scheduler.prefill_chunk_size
        served = {sequence for sequence, _ in work}
        assert {each for each in decoding if each in self.scheduler.running} <= served, "decodes come first"
        self.tally["preemptions"] += sum(each.num_computed < count for each, count in computed.items())
        self.tally["evictions"] += len(known - set(self.tree.pages() if self.tree is not None else ()))
        self.tally["steps of both kinds"] += len({each.num_uncomputed == 1 for each in served}) == 2
        for sequence, chunk in work:
            self.compute(sequence, chunk)
        for sequence, chunk in work:
            self.extend(sequence, chunk)
        self.scheduler.check()

    def propose(self, decoding, proposed):
        """Drafts for those that decode, no longer than an engine lets them be."""
        for sequence, drafts in zip(decoding, proposed, strict=False):
            sequence.draft_ids = drafts[: sequence.request.stopping.max_tokens - len(sequence.output_ids) - 1]

    def compute(self, sequence, chunk):
        """Look at what is there, and write what a model would."""
        salt, stop = sequence.request.cache_salt, chunk.start + len(chunk.token_ids)
        everything = (*sequence.tokens(0, chunk.start), *chunk.token_ids)
        expected = content(everything, salt)
        drafts = tuple(sequence.draft_ids)
        assert chunk.start == sequence.num_computed
        assert everything == (sequence.tokens(0, stop - len(drafts)) + drafts)
        assert chunk.num_logits == (stop >= len(sequence)) + len(drafts)
        assert chunk.pages == sequence.pages
        assert not any(map(self.cache.is_shared, chunk.pages[chunk.start // SIZE :])), "others would see it"
        assert read(self.cache, chunk.pages, chunk.start) == expected[: chunk.start]
        write(self.cache, chunk.pages, chunk.start, expected[chunk.start :])
        if self.cache.states is not None:
            self.move_states(chunk, expected)
        self.tally["cached tokens"] += sequence.num_cached if chunk.start == sequence.num_cached else 0

    def move_states(self, chunk, expected):
        """The state before the chunk is that of its tokens; those behind it are written as a model would."""
        states = self.cache.states
        states.check_chunks([chunk])
        assert states.read(0, chunk.state) == (expected[chunk.start - 1] if chunk.start else 0)
        assert not any(states.is_shared(slot) for _, slot in chunk.saves), "others would see it"
        for count, slot in chunk.saves:
            states.write(0, slot, np.float32(expected[chunk.start + count - 1]))
        self.tally["states"] += len(chunk.saves)

    def extend(self, sequence, chunk):
        """What the loop of an engine does after the pass: a token for each accepted draft token, and one more."""
        drafts, sequence.draft_ids = sequence.draft_ids, []
        sequence.num_computed += len(chunk.token_ids) - len(drafts)
        if not chunk.num_logits:
            return
        choices = [sequence]
        if not sequence.output_ids:
            self.scheduler.remember(sequence, sequence.num_computed // SIZE * SIZE)
            choices += self.branch(sequence)
        for choice in choices:
            choice.output_ids.append(1)
        for draft in drafts:
            if draft != 1 or len(sequence.output_ids) >= sequence.request.stopping.max_tokens:
                break
            sequence.num_computed += 1
            sequence.output_ids.append(1)
            self.tally["accepted drafts"] += 1
        for choice in choices:
            if len(choice.output_ids) >= choice.request.stopping.max_tokens:
                self.end(choice)

    def branch(self, sequence):
        forks = [self.scheduler.fork(sequence, choice) for choice in range(1, sequence.num_forks + 1)]
        sequence.num_forks = 0
        self.living += forks
        self.tally["forks"] += len(forks)
        self.scheduler.add_forks(forks)
        return forks

    def end(self, sequence):
        self.scheduler.remove(sequence)
        self.living.remove(sequence)

    def teardown(self):
        """Everybody is served in the end, and no page is lost."""
        if self.scheduler is None:
            return
        for _ in range(3000):
            if not self.living:
                break
            self.step([[]] * 5)
        assert not self.living, "somebody is never served"
        assert self.scheduler.schedule() == []
        if self.tree is not None:
            self.tree.clear()
        assert self.cache.num_free == self.cache.num_pages
        self.tally["scenarios"] += 1


EVENTS = {
    CacheMachine: ("matches", "copies", "evictions"),
    SchedulerMachine: (
        "preemptions", "evictions", "steps of both kinds", "cached tokens", "accepted drafts", "forks", "aborts",
        "states",
    ),
}  # fmt: skip


def run_lives(machine, part, count, steps, capsys, **options):
    """Run that many lives of a machine, in which everything that there is has happened; print how often."""
    tally = dict.fromkeys(("scenarios", *EVENTS[machine]), 0)
    chosen = settings(deadline=None, print_blob=True, max_examples=count, stateful_step_count=steps, **options)
    run_state_machine_as_test(lambda: machine(part, tally), settings=chosen)
    with capsys.disabled():
        counts = ", ".join(f"{number} {event}" for event, number in tally.items())
        print(f"\n{machine.__name__} on {part('cache').__name__.split('.')[0]}: {counts}")
    assert tally["scenarios"] >= count
    assert all(tally.values())


@pytest.mark.parametrize("machine", EVENTS)
def test_lives(part, machine, capsys):
    run_lives(machine, part, 30, 25, capsys, derandomize=True)


@pytest.mark.slow
@pytest.mark.parametrize("machine", EVENTS)
def test_many_lives(part, machine, capsys):
    run_lives(machine, part, 400, 30, capsys)
