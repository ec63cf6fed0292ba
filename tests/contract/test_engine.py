"""The loop, on every engine: what an answer is made of, and what it must not depend on."""

import dataclasses
import json

import numpy as np
import pytest

from small_models import random_tensors, write_chat_model, write_safetensors
from verbatim.reference.cache.pages import pages_for
from verbatim.reference.records.errors import ContextLengthError, QueueFullError, RequestError
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import FinishReason, Request, SamplingParams, StoppingParams
from verbatim.reference.records.sequence import Chunk

PROMPT = tuple(range(300, 340))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_chat_model(tmp_path_factory.mktemp("model"), eos_token_id=None)


@pytest.fixture
def new_engine(backend, directory):
    return lambda **limits: backend.load_engine(directory, limits=EngineLimits(**limits))


def request(name="a", prompt=PROMPT, n=1, max_tokens=12, sampling=None, **stopping):
    sampling = {"seed": 7, "logprobs": 2} | (sampling or {})
    return Request(
        request_id=name, prompt_ids=prompt, n=n, sampling=SamplingParams(**sampling),
        stopping=StoppingParams(max_tokens=max_tokens, **stopping),
    )  # fmt: skip


def run(engine, *requests):
    """Outputs of every (request, choice), with the books checked after every step."""
    for request in requests:
        engine.add(request)
    outputs = {}
    while engine.has_work():
        for output in engine.step():
            outputs.setdefault((output.request_id, output.choice), []).append(output)
        engine.check()
    assert engine.stats()["used_pages"] == 0
    return outputs


def ids(outputs):
    return [token_id for output in outputs for token_id in output.token_ids]


def text(outputs):
    return "".join(output.text for output in outputs)


def words(outputs):
    """All that an answer says: tokens, text, log-probabilities to the bit."""
    logprobs = [entry for output in outputs for entry in output.logprobs]
    return ids(outputs), text(outputs), logprobs, outputs[-1].finish_reason


def test_control_tokens_are_seen_by_those_who_ask(new_engine):
    hidden = request("hidden", max_tokens=3, sampling={"logit_bias": {3: 100}})
    visible = dataclasses.replace(hidden, request_id="visible", visible_ids=(3, 5))
    outputs = run(new_engine(), hidden, visible)
    assert text(outputs["hidden", 0]) == ""
    assert text(outputs["visible", 0]) == "<|im_start|>" * 3
    assert outputs["visible", 0][0].logprobs[0].chosen.token == b"<|im_start|>"
    with pytest.raises(RequestError, match="visible_ids"):
        new_engine().add(dataclasses.replace(hidden, visible_ids=(10**6,)))


def test_an_answer_has_its_length_counts_and_end(new_engine):
    outputs = run(new_engine(), request())["a", 0]
    assert outputs[-1].finish_reason is FinishReason.LENGTH
    assert all(output.finish_reason is None for output in outputs[:-1])
    assert len(ids(outputs)) == outputs[-1].num_completion_tokens == 12
    assert outputs[-1].num_prompt_tokens == len(PROMPT)


@pytest.mark.parametrize("temperature", [0, 1])
def test_an_answer_depends_on_its_request_alone(new_engine, temperature):
    mine = request(sampling={"temperature": temperature})
    alone = words(run(new_engine(), mine)["a", 0])
    prompts = [tuple(range(300 + i, 310 + 7 * i)) for i in range(15)]
    strangers = [request(f"s{i}", prompt, sampling={"seed": i}, max_tokens=5 + i) for i, prompt in enumerate(prompts)]
    assert words(run(new_engine(max_num_sequence=16, prefill_chunk_size=64), *strangers, mine)["a", 0]) == alone
    assert words(run(new_engine(max_num_sequence=3, prefill_chunk_size=7), *strangers[:5], mine)["a", 0]) == alone
    assert words(run(new_engine(max_num_sequence=1, prefill_chunk_size=1), mine)["a", 0]) == alone


def test_preemption_changes_nothing(new_engine):
    requests = [request(f"r{i}", prompt=PROMPT[i:], sampling={"seed": i}, max_tokens=30) for i in range(4)]
    plenty = run(new_engine(), *requests)
    engine = new_engine(max_total_seq_length=96)  # six pages; one request alone needs five
    scarce = run(engine, *requests)
    assert engine.stats()["steps"] > 60, "nothing was preempted, so nothing was tested"
    for name in plenty:
        assert words(scarce[name]) == words(plenty[name])


def test_choices_share_their_prompt_and_differ_by_index(new_engine):
    engine = new_engine()
    engine.add(request(n=3))
    outputs = engine.step()
    assert sorted(output.choice for output in outputs) == [0, 1, 2]
    engine.check()
    assert engine.stats()["used_pages"] == 3, "40 tokens are three pages, shared by all"
    while engine.has_work():
        outputs += engine.step()
        engine.check()
    answers = [ids([o for o in outputs if o.choice == choice]) for choice in range(3)]
    assert len(set(map(tuple, answers))) > 1
    assert answers[0] == ids(run(new_engine(), request())["a", 0]), "choice 0 is what n = 1 says"


def test_more_choices_than_may_run_at_once_take_turns(new_engine):
    everyone = run(new_engine(), request(n=5))
    few = run(new_engine(max_num_sequence=2, prefill_chunk_size=8), request(n=5))
    assert {name: words(outputs) for name, outputs in few.items()} == {n: words(o) for n, o in everyone.items()}


def test_a_seed_repeats_and_another_differs(new_engine):
    first, again = (words(run(new_engine(), request())["a", 0]) for _ in range(2))
    other = words(run(new_engine(), request(sampling={"seed": 8}))["a", 0])
    assert first == again != other


def test_a_stop_string_cuts_text_and_logprobs(new_engine):
    whole = run(new_engine(), request(max_tokens=24))["a", 0]
    middle = text(whole)[8:11]
    outputs = run(new_engine(), request(max_tokens=24, strings=(middle,)))["a", 0]
    assert outputs[-1].finish_reason is FinishReason.STOP
    assert outputs[-1].stop_reason == middle
    shown = text(outputs)
    assert shown == text(whole)[: text(whole).index(middle)]
    entries = [entry for output in outputs for entry in output.logprobs]
    covered = b"".join(entry.chosen.token for entry in entries)
    assert covered.startswith(shown.encode())
    assert not entries or len(covered) - len(entries[-1].chosen.token) < len(shown.encode())


def test_a_stop_id_is_not_part_of_the_text(new_engine):
    whole = ids(run(new_engine(), request())["a", 0])
    outputs = run(new_engine(), request(token_ids=(whole[5],)))["a", 0]
    at = whole.index(whole[5])
    assert ids(outputs) == whole[: at + 1]
    assert outputs[-1].finish_reason is FinishReason.STOP
    assert outputs[-1].stop_reason == whole[5]
    assert sum(len(output.logprobs) for output in outputs) == at


def test_min_tokens_keeps_the_end_away(new_engine):
    whole = ids(run(new_engine(), request())["a", 0])
    outputs = run(new_engine(), request(token_ids=(whole[0],), min_tokens=6))["a", 0]
    assert whole[0] not in ids(outputs)[:6]
    assert len(ids(outputs)) >= 6


def test_logprobs_add_up_and_the_chosen_is_among_them(new_engine):
    outputs = run(new_engine(), request(sampling={"temperature": 0, "logprobs": 20}))["a", 0]
    entries = [entry for output in outputs for entry in output.logprobs]
    assert len(entries) == 12
    for entry in entries:
        assert entry.chosen == entry.top[0]
        values = [candidate.logprob for candidate in entry.top]
        assert values == sorted(values, reverse=True)
        assert 0 < np.exp(values).sum() <= 1 + 1e-5


def test_logit_bias_forces_and_forbids(new_engine):
    forced = run(new_engine(), request(sampling={"logit_bias": {350: 100}}))["a", 0]
    assert set(ids(forced)) == {350}
    free = ids(run(new_engine(), request(sampling={"temperature": 0}))["a", 0])
    without = ids(run(new_engine(), request(sampling={"temperature": 0, "logit_bias": {free[0]: -100}}))["a", 0])
    assert free[0] not in without


def test_penalties_count_what_was_said(new_engine):
    bias = {"temperature": 0, "logit_bias": {350: 100, 351: 88}}
    assert set(ids(run(new_engine(), request(sampling=bias))["a", 0])) == {350}
    mixed = ids(run(new_engine(), request(sampling=bias | {"frequency_penalty": 2.0}))["a", 0])
    assert {350, 351} <= set(mixed)


def test_the_context_ends_an_answer(new_engine):
    outputs = run(new_engine(), request(prompt=PROMPT * 6, max_tokens=None))["a", 0]
    assert outputs[-1].finish_reason is FinishReason.LENGTH
    assert len(ids(outputs)) == 256 - 240


def test_abort_frees_pages_at_once(new_engine):
    engine = new_engine()
    engine.add(request("kept"))
    engine.add(request("gone", n=2, max_tokens=50))
    kept = engine.step()
    engine.abort("gone")
    engine.abort("gone")
    engine.check()
    assert engine.stats()["used_pages"] == 3
    while engine.has_work():
        kept += engine.step()
    kept = [output for output in kept if output.request_id == "kept"]
    assert words(kept) == words(run(new_engine(), request("kept"))["kept", 0])


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (lambda: request(prompt=PROMPT * 7), ContextLengthError, "280 tokens, but the context holds 256"),
        (lambda: request(prompt=(10**6,)), RequestError, "prompt must be token ids below the vocabulary"),
        (lambda: request(sampling={"logit_bias": {10**6: 1}}), RequestError, "logit_bias"),
        (lambda: request(token_ids=(10**6,)), RequestError, "stop_token_ids"),
        (lambda: request("running"), RequestError, "'running' is in use"),
    ],
)
def test_a_bad_request_is_refused_and_harms_nobody(new_engine, bad, error, message):
    expected = words(run(new_engine(), request("running"))["running", 0])
    engine = new_engine()
    engine.add(request("running"))
    outputs = engine.step()
    with pytest.raises(error, match=message):
        engine.add(bad())
    engine.check()
    while engine.has_work():
        outputs += engine.step()
    assert words(outputs) == expected


def test_a_full_queue_says_so(new_engine):
    engine = new_engine(max_queue=2)
    engine.add(request("a"))
    engine.add(request("b"))
    with pytest.raises(QueueFullError, match="2 sequences wait"):
        engine.add(request("c"))
    assert {name for name, _ in run(engine)} == {"a", "b"}


class Spoiled:
    """A model that makes one logit of certain prompts infinite."""

    def __init__(self, model):
        self.model = model

    def forward(self, chunks, cache):
        return spoil(self.model.forward(chunks, cache), chunks)


def test_logits_that_are_not_finite_end_one_request_only(new_engine):
    calm = run(new_engine(), request("calm"))
    engine = new_engine()
    engine.executor.model = Spoiled(engine.model)
    outputs = run(engine, request("calm"), request("wild", prompt=(333,)))
    assert outputs["wild", 0][-1].finish_reason is FinishReason.ERROR
    assert "position 1 is not a finite number" in outputs["wild", 0][-1].error
    assert words(outputs["calm", 0]) == words(calm["calm", 0])


@pytest.fixture(scope="module")
def reaching(tmp_path_factory):
    """A model whose values of token 400, and of no other, lie far beyond what float16 holds."""
    directory = write_chat_model(tmp_path_factory.mktemp("reaching"), eos_token_id=None)
    tensors = random_tensors(json.loads((directory / "config.json").read_text()), seed=0, scale=0.3)
    embedding = tensors["model.embed_tokens.weight"]
    embedding[:, 0] = np.arange(len(embedding)) == 400
    tensors["model.layers.0.self_attn.v_proj.weight"][0, 0] = 1e7
    write_safetensors(directory / "model.safetensors", tensors, "F32")
    return directory


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_what_float16_cannot_hold_ends_one_request_only(backend, reaching, dtype):
    engine = backend.load_engine(reaching, limits=EngineLimits(kv_cache_dtype=dtype))
    near, far = (request(name, prompt, sampling={"logit_bias": {400: -100}}) for name, prompt in
                 [("near", PROMPT), ("far", (*PROMPT, 400))])  # fmt: skip
    alone = run(engine, near)["near", 0]
    with np.errstate(all="ignore"):
        outputs = run(engine, far, near)
    assert words(outputs["near", 0]) == words(alone)
    assert alone[-1].finish_reason is FinishReason.LENGTH
    if dtype == "float16":
        assert outputs["far", 0][-1].finish_reason is FinishReason.ERROR
        assert "is not a finite number" in outputs["far", 0][-1].error
    else:
        assert outputs["far", 0][-1].finish_reason is FinishReason.LENGTH


def test_an_unknown_way_to_store_keys_is_refused():
    with pytest.raises(RequestError, match="kv_cache_dtype must be one of float32, float16, bfloat16, not 'fp8'"):
        EngineLimits(kv_cache_dtype="fp8")


def spoil(logits, chunks):
    """Put an infinity behind the first token of the prompts that begin with a certain one."""
    logits = np.array(logits)
    for row, chunk in zip(np.cumsum([0] + [chunk.num_logits for chunk in chunks]), chunks, strict=False):
        if chunk.token_ids[0] == 333:
            logits[row, 5] = np.inf
    return logits


def test_a_known_beginning_is_not_computed_again_and_changes_nothing(new_engine):
    fresh = run(new_engine(prefix_cache_mode="disable"), request())["a", 0]
    assert fresh[-1].num_cached_tokens == 0
    engine = new_engine()
    assert words(run(engine, request())["a", 0]) == words(fresh)
    again = run(engine, request())["a", 0]
    assert again[-1].num_cached_tokens == len(PROMPT) - 1
    assert words(again) == words(fresh)
    longer = PROMPT + tuple(ids(fresh)) + (333,)
    expected = words(run(new_engine(), request(prompt=longer))["a", 0])
    outputs = run(engine, request(prompt=longer, n=2))
    assert words(outputs["a", 0]) == expected
    assert outputs["a", 0][-1].num_cached_tokens == len(PROMPT) + 11, "the last sampled token was never computed"
    assert outputs["a", 1][-1].num_cached_tokens == 0, "the prompt is counted once"


def test_salts_keep_answers_apart_in_the_cache(new_engine):
    engine = new_engine()
    run(engine, request())
    salted = run(engine, dataclasses.replace(request("b"), cache_salt="tenant"))["b", 0]
    assert salted[-1].num_cached_tokens == 0


def test_a_cache_that_must_forget_changes_nothing(new_engine):
    prompts = [PROMPT[: 20 + i] + tuple(range(400, 410 + 3 * i)) for i in range(6)]
    requests = [request(f"r{i}", prompt, sampling={"seed": i}, max_tokens=20) for i, prompt in enumerate(prompts * 2)]
    plenty = run(new_engine(prefix_cache_mode="disable"), *requests)
    scarce = run(new_engine(max_total_seq_length=112, max_num_sequence=3), *requests)
    assert {name: words(outputs) for name, outputs in scarce.items()} == {n: words(o) for n, o in plenty.items()}


def test_a_prompt_that_fills_all_pages_can_be_asked_again(new_engine):
    engine = new_engine(max_total_seq_length=64)
    prompt = tuple(range(300, 360))
    first = run(engine, request(prompt=prompt, max_tokens=3))["a", 0]
    again = run(engine, request(prompt=prompt, max_tokens=3))["a", 0]
    assert words(again) == words(first)
    assert again[-1].num_cached_tokens == 59


def test_what_takes_too_long_ends_and_frees_its_pages(new_engine):
    engine = new_engine(max_num_sequence=1)
    slow = dataclasses.replace(request("slow", n=2), timeout=2.5)
    waiting = dataclasses.replace(request("waiting", n=2), timeout=3)
    engine.add(slow, now=10)
    engine.add(waiting, now=10)
    engine.add(request("patient", max_tokens=3), now=10)
    ended = {}
    for now in (10, 11, 12, 12.5, 13):
        for output in engine.step(now=now):
            if output.finish_reason:
                ended[output.request_id, output.choice] = now, output.finish_reason
        engine.check()
    assert ended == {
        ("slow", 0): (12.5, FinishReason.TIMEOUT), ("slow", 1): (12.5, FinishReason.TIMEOUT),
        ("waiting", 0): (13, FinishReason.TIMEOUT), ("waiting", 1): (13, FinishReason.TIMEOUT),
    }  # fmt: skip
    assert run(engine)["patient", 0][-1].finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize(
    "limits", [{}, {"prefill_chunk_size": 16}, {"max_total_seq_length": 96, "prefill_chunk_size": 16}]
)
def test_log_probabilities_of_the_prompt_are_those_of_saying_it(new_engine, limits):
    """A prompt's token is scored as if it had been forced by a bias; cached, in chunks and after preemption, too."""
    engine, count = new_engine(**limits), 5
    scored = dataclasses.replace(request(n=2, max_tokens=4), prompt_logprobs=2)
    others = [request(str(i), prompt=PROMPT[i:], max_tokens=20) for i in (1, 2)]
    outputs = run(engine, *others, scored)
    entries = [entry for output in outputs["a", 0] for entry in output.prompt_logprobs]
    assert [entry.chosen.token_id for entry in entries] == list(PROMPT[1:])
    assert not any(output.prompt_logprobs for output in outputs["a", 1])
    assert words(outputs["a", 1]) == words(run(new_engine(), request(n=2, max_tokens=4))["a", 1])
    for place in range(1, count):
        forced = {"logit_bias": {PROMPT[place]: 100}, "temperature": 0}
        found = run(new_engine(), request(prompt=PROMPT[:place], max_tokens=1, sampling=forced))["a", 0]
        assert found[0].logprobs[0] == entries[place - 1]


def test_a_choice_that_begins_again_does_not_score_the_prompt_again(new_engine):
    """Found by the stateful tests: the second choice gave its pages back, and its prompt was scored with it."""
    engine = new_engine(max_total_seq_length=64, max_num_sequence=1)
    outputs = run(engine, dataclasses.replace(request(n=2, max_tokens=20), prompt_logprobs=1))
    assert sum(len(output.prompt_logprobs) for output in outputs["a", 0]) == len(PROMPT) - 1
    assert not any(output.prompt_logprobs for output in outputs["a", 1])


def test_a_prompt_can_be_scored_without_an_answer(new_engine):
    engine = new_engine()
    run(engine, request())
    scored = dataclasses.replace(request(), prompt_logprobs=0, stopping=StoppingParams(max_tokens=0))
    outputs = run(engine, scored)["a", 0]
    assert (ids(outputs), text(outputs), outputs[-1].finish_reason) == ([], "", FinishReason.LENGTH)
    assert sum(len(output.prompt_logprobs) for output in outputs) == len(PROMPT) - 1
    assert outputs[-1].num_cached_tokens == 0, "what is scored has to be computed"


def test_who_ends_without_an_answer_leaves_the_others_their_logits(new_engine):
    """Found by the conformance suite under load: the row that nobody had taken was taken by the next sequence."""
    mute = dataclasses.replace(request("mute"), prompt_logprobs=0, stopping=StoppingParams(max_tokens=0))
    other = request("other", prompt=PROMPT[5:])
    outputs = run(new_engine(), mute, other, request())
    assert words(outputs["a", 0]) == words(run(new_engine(), request())["a", 0])
    assert words(outputs["other", 0]) == words(run(new_engine(), other)["other", 0])


def test_a_score_that_is_not_finite_ends_one_request_only(new_engine):
    calm = run(new_engine(), request("calm"))
    engine = new_engine()
    engine.executor.model = Spoiled(engine.model)
    wild = dataclasses.replace(request("wild", prompt=(333, 334)), prompt_logprobs=0)
    outputs = run(engine, wild, request("calm"))
    assert outputs["wild", 0][-1].finish_reason is FinishReason.ERROR
    assert words(outputs["calm", 0]) == words(calm["calm", 0])


def test_nothing_to_say_and_nothing_to_score_is_refused():
    with pytest.raises(RequestError, match="max_tokens must be at least 1, not 0"):
        request(max_tokens=0)


def test_one_request_alone_is_always_served_whatever_the_cache_holds(new_engine):
    pinned = dataclasses.replace(request("pinned"), is_pinned=True)
    known = request("known", PROMPT + tuple(range(400, 422)), max_tokens=1)  # all of the context but two tokens
    for first, second in ((pinned, request("other", PROMPT[::-1])), (known, dataclasses.replace(known, n=2))):
        engine = new_engine(max_total_seq_length=64)
        for added in (first, second):
            outputs = {}
            engine.add(added)
            for _ in range(100):
                for output in engine.step():
                    outputs.setdefault((output.request_id, output.choice), []).append(output)
                engine.check()
            assert not engine.has_work(), "it waits for ever"
        expected = run(new_engine(max_total_seq_length=64, prefix_cache_mode="disable"), second)
        assert {name: words(o) for name, o in outputs.items()} == {name: words(o) for name, o in expected.items()}


def pooled(name, pooling, prompt=PROMPT):
    return Request(request_id=name, prompt_ids=prompt, pooling=pooling)


def vectors(outputs):
    """The vector of every request, which comes with its end and without a token."""
    for parts in outputs.values():
        assert [len(part.embedding) > 0 for part in parts] == [True]
        assert (parts[0].finish_reason, parts[0].token_ids) == (FinishReason.STOP, ())
    return {name: parts[0].embedding for (name, _), parts in outputs.items()}


def test_a_prompt_becomes_a_vector(new_engine, backend, directory):
    model = backend.load_model(directory)
    pages = tuple(range(pages_for(len(PROMPT))))
    cache = backend.PARTS.PagedCache(model.config, len(pages))
    states = np.array(model.states([Chunk(token_ids=PROMPT, start=0, pages=pages)], cache), np.float64)
    found = vectors(run(new_engine(), pooled("m", "mean"), pooled("l", "last")))
    for name, expected in {"m": states.mean(axis=0), "l": states[-1]}.items():
        np.testing.assert_allclose(found[name], expected / np.linalg.norm(expected), rtol=1e-6)
        assert found[name] == tuple(np.float32(found[name]).tolist())
    assert found["m"] != found["l"]


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"prefill_chunk_size": 7, "max_num_sequence": 5},
        {"prefill_chunk_size": 1, "max_num_sequence": 1},
        {"prefix_cache_mode": "disable"},
        {"prefill_mode": "chunked"},
        {"speculative_mode": "ngram"},
        {"max_total_seq_length": 96, "prefill_chunk_size": 16},
    ],
)
def test_a_vector_depends_on_its_prompt_alone(new_engine, limits):
    """In chunks, after others that begin alike, beside answers under way, and after preemption."""
    alone = vectors(run(new_engine(), pooled("m", "mean"), pooled("l", "last")))
    engine = new_engine(**limits)
    run(engine, request("before", prompt=PROMPT[:35], max_tokens=2))
    answering = [request(str(i), prompt=PROMPT[i:], max_tokens=20) for i in range(3)]
    outputs = run(engine, *answering, pooled("m", "mean"), pooled("l", "last"))
    found = {key: outputs.pop(key) for key in [(str(i), 0) for i in range(3)]}
    assert vectors(outputs) == alone
    plain = run(new_engine(), *answering)
    assert all(words(found[key]) == words(plain[key]) for key in found)


def test_pooling_refuses_what_it_cannot_be_with(new_engine):
    for changes in ({"pooling": "cls"}, {"n": 2}, {"prompt_logprobs": 1}):
        with pytest.raises(RequestError, match=next(iter(changes))):
            dataclasses.replace(pooled("a", "mean"), **changes)
