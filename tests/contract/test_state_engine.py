"""An engine over a model with states (N14): where the prefix cache leaves off, and drafts that are taken back."""

import pytest

from family_models import write_family
from small_models import Letters
from verbatim.reference.engine.loop import Engine
from verbatim.reference.records.errors import ModelError, RequestError
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams

PROMPT = tuple((7 * i + 3) % 90 for i in range(40))


@pytest.fixture(scope="module", params=["lfm2", "mamba2", "falcon h1"])
def model(backend, tmp_path_factory, request):
    return backend.load_model(write_family(tmp_path_factory.mktemp("states"), request.param, eos_token_id=None))


@pytest.fixture
def new_engine(backend, model):
    return lambda **limits: Engine(backend.PARTS, model.config, model, Letters(), limits=EngineLimits(**limits))


def say(engine, *prompts, max_tokens=12, **fields):
    """What each prompt is answered, all at once: token ids with their log-probabilities as bits, and cached tokens."""
    for index, prompt in enumerate(prompts):
        sampling, stopping = SamplingParams(seed=0, logprobs=1), StoppingParams(max_tokens=max_tokens)
        engine.add(Request(request_id=str(index), prompt_ids=prompt, sampling=sampling, stopping=stopping, **fields))
    heard = {}
    while engine.has_work():
        for output in engine.step():
            tokens = heard.setdefault((output.request_id, output.choice), [])
            tokens += [(each.chosen.token_id, each.chosen.logprob.hex()) for each in output.logprobs]
            heard[output.request_id, "cached"] = output.num_cached_tokens
        engine.check()
    return heard


def test_the_same_prompt_resumes_behind_its_last_whole_page(new_engine):
    engine = new_engine()
    first, second = say(engine, PROMPT), say(engine, PROMPT)
    assert (first.pop(("0", "cached")), second.pop(("0", "cached"))) == (0, 32)
    assert first == second


def test_a_conversation_resumes_where_the_answer_ended(new_engine):
    engine = new_engine()
    answer = tuple(token_id for token_id, _ in say(engine, PROMPT)["0", 0])
    longer = (*PROMPT, *answer, 5, 6, 7)
    found = say(engine, longer)
    assert found["0", "cached"] == 40 + 11, "its last token was never computed"
    assert found["0", 0] == say(new_engine(prefix_cache_mode="disable"), longer)["0", 0]


def test_where_texts_part_a_state_is_kept_once_two_have_come_by(new_engine):
    engine, prompts = new_engine(), [(*PROMPT[:20], *(end,) * 20) for end in (1, 2, 3)]
    cached = [say(engine, prompt)["0", "cached"] for prompt in prompts]
    assert cached == [0, 0, 16]


def test_choices_of_a_prompt_share_its_state(new_engine):
    found = say(new_engine(max_num_sequence=4), PROMPT, n=4)
    assert len([key for key in found if key[1] != "cached"]) == 4
    assert found["0", 0] == say(new_engine(max_num_sequence=1, prefill_chunk_size=7), PROMPT, n=4)["0", 0]


@pytest.mark.parametrize("history", [None, 1, 0])
def test_rejected_drafts_leave_no_trace(new_engine, history):
    loop = (5, 6, 7) * 12  # n-grams that are often wrong
    engine = new_engine(speculative_mode="ngram", spec_draft_length=4, max_history_size=history)
    found = say(engine, loop, PROMPT, max_tokens=40)
    assert found == say(new_engine(), loop, PROMPT, max_tokens=40)
    stats = engine.stats()
    assert (stats["drafted_tokens"] > stats["accepted_tokens"]) == (history != 0)
    assert stats["total_slots"] == 16 * (1 + {None: 4, 1: 1, 0: 0}[history]) + 16
    assert stats["used_slots"] == 0


def test_what_does_not_suit_states_is_refused_by_name(backend, model, new_engine):
    with pytest.raises(RequestError, match="max_history_size must be at most 16, not 17"):
        EngineLimits(max_history_size=17)
    with pytest.raises(ModelError, match="spec_tree_width must be 1 for a model with states, not 2"):
        new_engine(speculative_mode="small_draft", spec_tree_width=2)
    limits = EngineLimits(speculative_mode="small_draft")
    with pytest.raises(ModelError, match="a draft model must not have states"):
        Engine(backend.PARTS, model.config, model, Letters(), limits=limits, draft_model=model)
