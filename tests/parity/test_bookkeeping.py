"""Pages, plans, held bytes: the bookkeeping of the fast path equals the reference's, step for step."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from small_models import Letters
from verbatim.reference import backend as reference_backend
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams
from verbatim.reference.records.sequence import Sequence

pytest.importorskip("verbatim.fastpath.model.decoder", reason="the fast path is not built")
from verbatim.fastpath import backend as fastpath_backend

BOTH = reference_backend.PARTS, fastpath_backend.PARTS
CONFIG = SimpleNamespace(num_layers=1, num_kv_heads=1, head_dim=2)


def life(parts, seed):
    """All decisions of a scheduler over random requests, forks, ends and aborts, checked after each step."""
    random = np.random.default_rng(seed)
    num_pages = int(random.integers(4, 20))
    cache = parts.PagedCache(CONFIG, num_pages)
    budget, most = int(random.integers(4, 50)), int(random.integers(1, 5))
    scheduler = parts.Scheduler(cache, max_num_sequence=most, prefill_chunk_size=budget)
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
        for sequence in [old for old in alive if random.random() < 0.05 or len(old) >= num_pages * 16]:
            scheduler.remove(sequence)
            alive.remove(sequence)
        scheduler.check()
        waiting = [sequence.request.request_id for sequence in scheduler.waiting]
        history.append((waiting, [sequence.pages for sequence in scheduler.running], cache.num_free))
    return history


def remembered_life(parts, seed):
    """What a prefix cache holds, finds and evicts while sequences start, share prefixes and end."""
    random = np.random.default_rng(seed)
    num_pages = int(random.integers(4, 24))
    cache = parts.PagedCache(CONFIG, num_pages)
    tree, alive, history = parts.PrefixCache(cache), [], []
    for _ in range(80):
        action = random.random()
        if action < 0.5:
            ids = tuple(map(int, random.integers(0, 2, random.integers(1, 60)) * random.integers(0, 2)))
            salt = str(random.integers(0, 2))
            pages, count = tree.match(ids, salt)
            if count % 16:  # that page reaches further than what is known, and would be written to
                cache.release([pages.pop()])
            while len(pages) < -(-len(ids) // 16) and (cache.num_free or tree.evict()):
                pages.append(cache.allocate())
            if len(pages) * 16 >= len(ids):
                tree.insert(ids, pages, salt, is_pinned=bool(random.random() < 0.05))
            alive.append(pages)
            history.append((count, len(pages)))
        elif action < 0.9 and alive:
            cache.release(alive.pop(random.integers(0, len(alive))))
        elif action < 0.98:
            history.append(tree.evict())
        else:
            tree.clear()
        tree.check()
        cache.check([*alive, tree.pages()])
        history.append((cache.num_free, tree.num_idle, len(tree.pages())))
    return history


def fork(sequence, scheduler, cache, random):
    """Sometimes fork a further choice, as the engine does after a prompt."""
    if sequence.output_ids or random.random() < 0.7:
        return []
    same = {"request": sequence.request, "num_computed": sequence.num_computed}
    forks = [Sequence(choice=1, output_ids=[9], pages=tuple(cache.share(sequence.pages)), **same)]
    scheduler.add_forks(forks)
    return forks


@settings(deadline=None, max_examples=150, print_blob=True)
@given(st.integers(0, 2**32))
def test_schedulers_live_the_same_life(seed):
    expected, found = (life(parts, seed) for parts in BOTH)
    assert found == expected


@settings(deadline=None, max_examples=300, print_blob=True)
@given(st.integers(0, 2**32))
def test_prefix_caches_remember_and_forget_the_same(seed):
    expected, found = (remembered_life(parts, seed) for parts in BOTH)
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
        excluded = [stopper.excluded_ids() for stopper in stoppers]
        decisions = [stopper.push(token_id, text.encode()) for stopper in stoppers]
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


class Pieces(Letters):
    """Words with spaces before them, half characters, and a control token; the first word has a space too many."""

    control_ids = {"<call>": 0}  # noqa: RUF012
    strips_first_space = True

    def token_bytes(self, token_id):
        return (b"", b" a", b" b", b"\xc3", b"\xa9", b"ab ", b" ", b"\xf0\x9f")[token_id]


@settings(deadline=None, max_examples=300, print_blob=True)
@given(
    seed=st.integers(0, 2**32),
    prompt=st.sampled_from([(0,), (0, 3)]),
    strings=st.lists(st.text("ab é", min_size=1, max_size=4), max_size=3),
    visible_ids=st.sampled_from([(), (0,)]),
    sampling=st.sampled_from([{"temperature": 0}, {"logprobs": 2}, {"top_p": 0.9, "frequency_penalty": 1.0}]),
)
def test_answers_are_written_alike(seed, prompt, strings, visible_ids, sampling):
    stopping = StoppingParams(strings=tuple(strings), max_tokens=20)
    request = Request(
        request_id="a", prompt_ids=prompt, sampling=SamplingParams(seed=seed, **sampling), stopping=stopping,
        visible_ids=visible_ids,
    )  # fmt: skip
    answers = []
    for parts in BOTH:
        stopper = parts.Stopper(stopping, eos_ids=(), num_prompt=len(prompt), context_size=99)
        answers.append(parts.Answer(Sequence(request=request), Pieces(), parts.sample, stopper, parts.Detokenizer()))
    assert answers[0].end("timeout", "too long") == answers[1].end("timeout", "too long")
    for logits in np.random.default_rng(seed).normal(0, 2, (25, 8)).astype(np.float32):
        outputs = [answer.extend(logits) for answer in answers]
        assert outputs[0] == outputs[1]
        assert answers[0].sampled == answers[1].sampled
        if outputs[0].finish_reason:
            break
    scored = [[parts.score(logits, token_id, 3) for token_id in range(8)] for parts in BOTH]
    assert answers[0].score(scored[0]) == answers[1].score(scored[1])
