"""Guessing ahead, on every engine: the answer is what it is without, and some guesses are right."""

import dataclasses

import pytest
from small_models import write_chat_model, write_model

from demo import DRAFT, MODEL
from reference.errors import ModelError, RequestError
from reference.grammar_text import json_schema
from reference.limits import EngineLimits
from reference.request import Request, SamplingParams, StoppingParams
from reference.sequence import Sequence
from reference.template import load_template

MODES = ("ngram", "small_draft")
QUESTION = [{"role": "user", "content": "Repeat: one two three one two three one two three one two"}]


@pytest.fixture(scope="module")
def random_model(tmp_path_factory):
    return write_chat_model(tmp_path_factory.mktemp("model"), seed=1, eos_token_id=None)


@pytest.fixture(scope="module")
def random_draft(tmp_path_factory):
    """Almost the same model: its guesses are often right and often wrong."""
    return write_chat_model(
        tmp_path_factory.mktemp("draft"), seed=1, dtype="BF16", eos_token_id=None, rms_norm_eps=0.05
    )


@pytest.fixture
def new_engine(backend, random_model, random_draft):
    def make(mode="disable", length=0, **limits):
        draft = random_draft if mode == "small_draft" else None
        limits = EngineLimits(speculative_mode=mode, draft_length=length, **limits)
        return backend.load_engine(random_model, limits=limits, draft_directory=draft)

    return make


def requests(temperature):
    sampling = SamplingParams(temperature=temperature, seed=4, logprobs=2, top_p=0.9, frequency_penalty=0.3)
    prompts = [tuple(range(300, 330)), (301, 302, 303) * 7, (305,), tuple(range(310, 320)) * 3]
    return [
        Request(
            request_id=str(i), prompt_ids=ids, sampling=sampling, stopping=StoppingParams(max_tokens=25), n=1 + i % 2
        )
        for i, ids in enumerate(prompts)
    ]


def run(engine, wanted):
    for request in wanted:
        engine.add(request)
    said = {}
    while engine.has_work():
        for output in engine.step():
            ids, texts, logprobs, ends = said.setdefault((output.request_id, output.choice), ([], [], [], []))
            ids.extend(output.token_ids)
            texts.append(output.text)
            logprobs.extend(output.logprobs)
            ends.append(output.finish_reason)
        engine.check()
    assert engine.stats()["used_pages"] == 0
    return {name: (ids, "".join(texts), logprobs, ends[-1]) for name, (ids, texts, logprobs, ends) in said.items()}


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("mode", MODES)
def test_the_answer_is_the_same_whatever_is_guessed(new_engine, mode, temperature):
    expected = run(new_engine(), requests(temperature))
    for length in (0, 1, 3, 16):
        engine = new_engine(mode, length)
        assert run(engine, requests(temperature)) == expected
        assert engine.stats()["drafted_tokens"] >= engine.stats()["accepted_tokens"]
    assert run(new_engine(mode, 4, token_budget=6, max_num_sequences=3), requests(temperature)) == expected
    assert run(new_engine(mode, 4, max_total_tokens=96), requests(temperature)) == expected, "short of pages"


def test_a_likely_draft_is_often_right_and_saves_steps(new_engine):
    plain, fast = new_engine(), new_engine("small_draft", 4)
    assert run(fast, requests(0)) == run(plain, requests(0))
    stats = fast.stats()
    assert stats["accepted_tokens"] > 0.1 * stats["drafted_tokens"] > 0
    assert stats["steps"] < plain.stats()["steps"]


def test_stop_strings_and_limits_cut_what_was_guessed_right(new_engine):
    request = requests(0)[0]
    ((ids, text, _, _),) = run(new_engine(), [request]).values()
    for stopping in (
        StoppingParams(strings=(text[5:8],)), StoppingParams(token_ids=(ids[7],)), StoppingParams(max_tokens=2),
        StoppingParams(max_tokens=1), StoppingParams(max_tokens=25, min_tokens=20, token_ids=(ids[3],)),
    ):  # fmt: skip
        cut = dataclasses.replace(request, stopping=stopping)
        assert run(new_engine("small_draft", 8), [cut]) == run(new_engine(), [cut])


def test_lookup_takes_the_longest_run_and_then_the_latest(part):
    lookup = part("speculation").lookup
    assert lookup((1, 2, 3, 9, 1, 2, 3), 2) == [9, 1]
    assert lookup((1, 2, 7, 5, 2, 8, 1, 2), 1) == [7], "two tokens agree there, one elsewhere"
    assert lookup((2, 7, 2, 8, 2), 3) == [8, 2], "the latest of equals, and no further than the end"
    assert lookup((1, 2, 3), 4) == []
    assert lookup((1,), 4) == []


def test_fewer_guesses_for_larger_batches(part):
    assert [part("speculation").adaptive_length(n) for n in (1, 9, 10, 19, 20, 29, 30, 128)] == [4, 4, 3, 3, 2, 2, 0, 0]


def test_a_sequence_without_room_goes_without(backend, random_draft):
    model = backend.load_model(random_draft)
    speculator = backend.PARTS.DraftSpeculator(model, backend.PARTS.PagedCache(model.config, 2))
    small, large = (Sequence(request=dataclasses.replace(requests(0)[0], prompt_ids=tuple(range(n)))) for n in (5, 40))
    speculator.propose({small: 3, large: 3})
    assert (len(small.draft_ids), len(large.draft_ids)) == (3, 0)
    speculator.check()
    speculator.forget(small)
    speculator.forget(large)
    assert speculator.cache.num_free == 2


def test_the_demo_and_its_draft_agree_with_the_demo_alone(backend):
    answers = {}
    for mode in ("disable", *MODES):
        limits = EngineLimits(speculative_mode=mode)
        engine = backend.load_engine(MODEL, limits=limits, draft_directory=DRAFT if mode == "small_draft" else None)
        prompt_ids = tuple(engine.tokenizer.encode_pieces(load_template(MODEL, engine.tokenizer).render(QUESTION)))
        stopping, sampling = StoppingParams(max_tokens=40), SamplingParams(temperature=0, logprobs=1)
        answers[mode] = run(
            engine, [Request(request_id="a", prompt_ids=prompt_ids, stopping=stopping, sampling=sampling)]
        )
    assert answers["ngram"] == answers["disable"] == answers["small_draft"]


def test_a_grammar_holds_for_guesses(backend):
    schema = {
        "type": "object",
        "properties": {"a": {"enum": ["x", "y"]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    answers = []
    for mode in ("disable", *MODES):
        limits = EngineLimits(speculative_mode=mode)
        engine = backend.load_engine(MODEL, limits=limits, draft_directory=DRAFT if mode == "small_draft" else None)
        request = Request(
            request_id="a", prompt_ids=(5, 6, 7), grammar=json_schema(schema), stopping=StoppingParams(max_tokens=60),
            sampling=SamplingParams(seed=2),
        )  # fmt: skip
        answers.append(run(engine, [request]))
    assert answers[0] == answers[1] == answers[2]


def test_what_cannot_be_is_said(backend, random_model, tmp_path):
    with pytest.raises(RequestError, match="speculative_mode must be one of disable, ngram, small_draft, not 'eagle'"):
        EngineLimits(speculative_mode="eagle")
    with pytest.raises(RequestError, match="draft_length must be at most 16"):
        EngineLimits(draft_length=17)
    limits = EngineLimits(speculative_mode="small_draft")
    with pytest.raises(ModelError, match="needs a draft model"):
        backend.load_engine(random_model, limits=limits)
    other = write_model(tmp_path, vocab_size=50)
    with pytest.raises(ModelError, match="must have the model's vocabulary, but it has 50 tokens"):
        backend.load_engine(random_model, limits=limits, draft_directory=other)
