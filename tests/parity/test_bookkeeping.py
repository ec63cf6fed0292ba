"""Pages, plans, held bytes: the fast path keeps the same books as the reference, step for step."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference.backend
from reference.request import Request, StoppingParams
from reference.sequence import Sequence

pytest.importorskip("fastpath.model", reason="the fast path is not built")
import fastpath.backend

BOTH = reference.backend.PARTS, fastpath.backend.PARTS
CONFIG = SimpleNamespace(num_layers=1, num_kv_heads=1, head_dim=2)


def life(parts, seed):
    """All that a scheduler decides in a random life of requests, forks, ends and aborts, with its books checked."""
    random = np.random.default_rng(seed)
    num_pages = int(random.integers(4, 20))
    cache = parts.PagedCache(CONFIG, num_pages)
    budget, most = int(random.integers(4, 50)), int(random.integers(1, 5))
    scheduler = parts.Scheduler(cache, max_num_sequences=most, token_budget=budget)
    alive, history = [], []
    for number in range(60):
        if random.random() < 0.4 and number < 40:
            prompt = tuple(range(int(random.integers(1, num_pages * 8))))
            alive.append(Sequence(request=Request(request_id=str(number), prompt_ids=prompt)))
            scheduler.add(alive[-1])
        for sequence, chunk in scheduler.schedule():
            history.append((sequence.request.request_id, sequence.choice, chunk))
            sequence.num_computed += len(chunk.token_ids)
            if chunk.num_logits:
                alive += fork(sequence, scheduler, cache, random)
                sequence.output_ids.append(7)
        for sequence in [one for one in alive if random.random() < 0.05 or len(one) >= num_pages * 16]:
            scheduler.remove(sequence)
            alive.remove(sequence)
        scheduler.check()
        waiting = [one.request.request_id for one in scheduler.waiting]
        history.append((waiting, [one.pages for one in scheduler.running], cache.num_free))
    return history


def fork(sequence, scheduler, cache, random):
    """Now and then a further choice, as the engine makes it when a prompt has been computed."""
    if sequence.output_ids or random.random() < 0.7:
        return []
    same = {"request": sequence.request, "num_computed": sequence.num_computed, "pages": cache.share(sequence.pages)}
    forks = [Sequence(choice=1, output_ids=[9], **same)]
    scheduler.add_forks(forks)
    return forks


@settings(deadline=None, max_examples=150, print_blob=True)
@given(st.integers(0, 2**32))
def test_schedulers_live_the_same_life(seed):
    expected, found = (life(parts, seed) for parts in BOTH)
    assert found == expected


@settings(deadline=None, max_examples=300, print_blob=True)
@given(
    tokens=st.lists(st.tuples(st.integers(0, 12), st.text("abé", max_size=4)), max_size=12),
    strings=st.lists(st.text("abé", min_size=1, max_size=4), max_size=3),
    stop_ids=st.lists(st.integers(0, 12), max_size=2),
    min_tokens=st.integers(0, 4),
    max_tokens=st.one_of(st.none(), st.integers(4, 12)),
    flags=st.tuples(st.booleans(), st.booleans()),
)
def test_stoppers_decide_alike(tokens, strings, stop_ids, min_tokens, max_tokens, flags):
    params = StoppingParams(
        strings=tuple(strings), token_ids=tuple(stop_ids), min_tokens=min_tokens, max_tokens=max_tokens,
        ignore_eos=flags[0], include_stop_string=flags[1],
    )  # fmt: skip
    stoppers = [parts.Stopper(params, eos_ids=(3,), num_prompt=4, context_size=14) for parts in BOTH]
    for token_id, text in tokens:
        excluded = [one.excluded_ids() for one in stoppers]
        decisions = [one.push(token_id, text.encode()) for one in stoppers]
        told = [(d.released, d.finish_reason, d.stop_reason, s.held) for d, s in zip(decisions, stoppers, strict=True)]
        assert excluded[0] == excluded[1]
        assert told[0] == told[1]
        if decisions[0].finish_reason is not None:
            return


@given(st.lists(st.binary(max_size=6), max_size=12))
def test_detokenizers_say_the_same_at_every_step(pieces):
    ours, theirs = (parts.Detokenizer() for parts in BOTH)
    assert [ours.push(piece) for piece in pieces] == [theirs.push(piece) for piece in pieces]
    assert ours.finish() == theirs.finish()
