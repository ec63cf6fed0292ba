"""Who computes what: decodes first, prefill in the rest of the budget, and books that balance under preemption."""

from types import SimpleNamespace

import numpy as np

from verbatim.reference.records.request import Request
from verbatim.reference.records.sequence import Sequence

CONFIG = SimpleNamespace(num_layers=1, num_kv_heads=1, head_dim=2)


def new_scheduler(part, *, pages=64, sequences=4, budget=32, **settings):
    cache = part("cache.pages").PagedCache(CONFIG, pages)
    return part("engine.scheduler").Scheduler(cache, max_num_sequence=sequences, prefill_chunk_size=budget, **settings)


def sequence(name, num_prompt, **fields):
    return Sequence(request=Request(request_id=name, prompt_ids=tuple(range(num_prompt))), **fields)


def step(scheduler):
    """Schedule, pretend to compute and to sample; the plan as (name, start, tokens, logits)."""
    work = scheduler.schedule()
    scheduler.check()
    plan = []
    for served, chunk in work:
        assert chunk.token_ids == served.tokens(chunk.start, chunk.start + len(chunk.token_ids))
        assert chunk.pages == served.pages
        assert len(chunk.pages) * 16 >= chunk.start + len(chunk.token_ids)
        served.num_computed += len(chunk.token_ids)
        if chunk.num_logits:
            served.output_ids.append(7)
        plan.append((served.request.request_id, chunk.start, len(chunk.token_ids), chunk.num_logits))
    scheduler.check()
    return plan


def test_a_long_prompt_is_cut_by_the_budget_and_asks_for_logits_at_its_end(part):
    scheduler = new_scheduler(part)
    scheduler.add(sequence("a", 70))
    assert [step(scheduler) for _ in range(4)] == [
        [("a", 0, 32, 0)], [("a", 32, 32, 0)], [("a", 64, 6, 1)], [("a", 70, 1, 1)],
    ]  # fmt: skip


def test_decodes_go_first_and_prefill_fills_the_rest(part):
    scheduler = new_scheduler(part)
    for name, length in (("a", 5), ("b", 100), ("c", 3)):
        scheduler.add(sequence(name, length))
    assert step(scheduler) == [("a", 0, 5, 1), ("b", 0, 27, 0)]
    assert step(scheduler) == [("a", 5, 1, 1), ("b", 27, 31, 0)]


def test_in_chunked_mode_prefill_and_decodes_take_turns(part):
    scheduler = new_scheduler(part, prefill_mode="chunked")
    for name, length in (("a", 5), ("b", 70), ("c", 3)):
        scheduler.add(sequence(name, length))
    assert [step(scheduler) for _ in range(7)] == [
        [("a", 0, 5, 1), ("b", 0, 27, 0)], [("a", 5, 1, 1)],
        [("b", 27, 32, 0)], [("a", 6, 1, 1)],
        [("b", 59, 11, 1), ("c", 0, 3, 1)], [("a", 7, 1, 1), ("b", 70, 1, 1), ("c", 3, 1, 1)],
        [("a", 8, 1, 1), ("b", 71, 1, 1), ("c", 4, 1, 1)],
    ], "with nothing left to prefill, every step is one of decodes"  # fmt: skip


def test_no_more_sequences_run_than_may(part):
    scheduler = new_scheduler(part, sequences=2)
    sequences = [sequence(name, 2) for name in "abc"]
    for each in sequences:
        scheduler.add(each)
    assert [name for name, *_ in step(scheduler)] == ["a", "b"]
    scheduler.remove(sequences[0])
    assert [name for name, *_ in step(scheduler)] == ["b", "c"]


def test_removing_frees_pages_whether_it_runs_or_waits(part):
    scheduler = new_scheduler(part, sequences=1)
    running, waiting = sequence("a", 20), sequence("b", 20)
    scheduler.add(running)
    scheduler.add(waiting)
    step(scheduler)
    scheduler.remove(waiting)
    scheduler.remove(running)
    scheduler.check()
    assert scheduler.cache.num_free == 64
    assert scheduler.schedule() == []


def test_the_latest_gives_its_pages_back_and_starts_again_with_what_it_said(part):
    scheduler = new_scheduler(part, pages=4)
    first, second = sequence("a", 30), sequence("b", 30)
    scheduler.add(first)
    scheduler.add(second)
    assert step(scheduler) == [("a", 0, 30, 1), ("b", 0, 2, 0)]
    assert step(scheduler) == [("a", 30, 1, 1), ("b", 2, 28, 1)]
    assert step(scheduler) == [("a", 31, 1, 1), ("b", 30, 1, 1)]
    assert step(scheduler) == [("a", 32, 1, 1)], "its third page is one of the other's"
    assert (second.num_computed, second.pages, len(second.output_ids)) == (0, (), 2)
    scheduler.remove(first)
    assert step(scheduler) == [("b", 0, 32, 1)]


def test_forks_share_pages_until_one_writes(part):
    scheduler = new_scheduler(part, sequences=3)
    first = sequence("a", 20)
    scheduler.add(first)
    step(scheduler)
    fork = sequence("a", 20, choice=1, num_computed=20, pages=tuple(scheduler.cache.share(first.pages)), output_ids=[9])
    scheduler.add_forks([fork])
    keys = np.ones((1, 1, 2), np.float32)
    scheduler.cache.write(0, first.pages, 19, keys, keys)
    assert step(scheduler) == [("a", 20, 1, 1), ("a", 20, 1, 1)]
    assert fork.pages[0] == first.pages[0], "the full page stays shared"
    assert fork.pages[1] != first.pages[1], "the one that is written to is not"
    copied = scheduler.cache.read(0, fork.pages, 20)[0][19]
    assert copied.tolist() == keys[0].tolist()


def test_forks_without_room_wait_at_the_front(part):
    scheduler = new_scheduler(part, sequences=2)
    first = sequence("a", 4)
    scheduler.add(first)
    scheduler.add(sequence("b", 4))
    scheduler.schedule()
    pages = [tuple(scheduler.cache.share(first.pages)) for _ in range(2)]
    forks = [sequence("a", 4, choice=i, num_computed=4, pages=pages[i - 1]) for i in (1, 2)]
    scheduler.add_forks(forks)
    assert list(scheduler.waiting)[:2] == forks
    scheduler.check()


def test_everyone_is_served_however_few_the_pages(part):
    random = np.random.default_rng(3)
    scheduler = new_scheduler(part, pages=6, sequences=3, budget=10)
    unfinished = [sequence(str(i), int(random.integers(1, 60))) for i in range(8)]
    for each in unfinished:
        scheduler.add(each)
    for _ in range(2000):
        plan = step(scheduler)
        assert plan, "somebody waits, so somebody must run"
        assert sum(tokens for _, _, tokens, _ in plan) <= 10
        for long in [each for each in unfinished if len(each.output_ids) >= 25]:
            scheduler.remove(long)
            unfinished.remove(long)
        if not unfinished:
            break
    assert unfinished == []
    assert scheduler.cache.num_free == 6


def owned(name, owner, num_prompt=2):
    return Sequence(request=Request(request_id=name, prompt_ids=tuple(range(num_prompt)), owner=owner))


def test_owners_take_turns_and_each_of_theirs_in_order(part):
    """The owner with the fewest running sequences comes next: one with many makes nobody else wait."""
    scheduler = new_scheduler(part, sequences=2)
    sequences = [owned(f"a{index}", "a") for index in range(5)] + [owned("b0", "b"), owned("b1", "b"), owned("c0", "c")]
    for each in sequences:
        scheduler.add(each)
    started = []
    while scheduler.running or scheduler.waiting:
        for name, start, *_ in step(scheduler):
            if start == 0:
                started.append(name)
        scheduler.remove(scheduler.running[0])
    assert started == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", "a4"], "c does not wait for the crowd of a and b"
