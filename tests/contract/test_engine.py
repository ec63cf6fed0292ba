"""The loop, on every engine: what an answer is made of, and what it must not depend on."""

import dataclasses

import numpy as np
import pytest
from small_models import write_chat_model

from reference.errors import ContextLengthError, QueueFullError, RequestError
from reference.limits import EngineLimits
from reference.request import FinishReason, Request, SamplingParams, StoppingParams

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
    for one in requests:
        engine.add(one)
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
    assert words(run(new_engine(max_num_sequences=16, token_budget=64), *strangers, mine)["a", 0]) == alone
    assert words(run(new_engine(max_num_sequences=3, token_budget=7), *strangers[:5], mine)["a", 0]) == alone
    assert words(run(new_engine(max_num_sequences=1, token_budget=1), mine)["a", 0]) == alone


def test_preemption_changes_nothing(new_engine):
    requests = [request(f"r{i}", prompt=PROMPT[i:], sampling={"seed": i}, max_tokens=30) for i in range(4)]
    plenty = run(new_engine(), *requests)
    engine = new_engine(max_total_tokens=96)  # six pages; one request alone needs five
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
    few = run(new_engine(max_num_sequences=2, token_budget=8), request(n=5))
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
    """A model that makes one logit of a certain prompt infinite."""

    def __init__(self, model):
        self.model = model

    def forward(self, chunks, cache):
        return spoil(self.model.forward(chunks, cache), chunks)


def test_logits_that_are_not_finite_end_one_request_only(new_engine):
    calm = run(new_engine(), request("calm"))
    engine = new_engine()
    engine.model = Spoiled(engine.model)
    outputs = run(engine, request("calm"), request("wild", prompt=(333,)))
    assert outputs["wild", 0][-1].finish_reason is FinishReason.ERROR
    assert "position 1 is not a finite number" in outputs["wild", 0][-1].error
    assert words(outputs["calm", 0]) == words(calm["calm", 0])


def spoil(logits, chunks):
    """Put an infinity where the chunk of the one-token prompt ends."""
    rows = [chunk for chunk in chunks if chunk.num_logits]
    logits = np.array(logits)
    for row, chunk in enumerate(rows):
        if chunk.token_ids == (333,):
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
    assert outputs["a", 0][-1].num_cached_tokens == len(PROMPT) + 11, "the last token said was never taken in"
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
    scarce = run(new_engine(max_total_tokens=112, max_num_sequences=3), *requests)
    assert {name: words(outputs) for name, outputs in scarce.items()} == {n: words(o) for n, o in plenty.items()}
