"""Thoughts in the engines: a budget holds to the token, a grammar begins behind the thought."""

import json

import pytest

from verbatim.demo import MODEL
from verbatim.reference.dialects.thoughts import choose_thoughts
from verbatim.reference.records.grammar_text import json_schema
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import FinishReason, Request, SamplingParams, StoppingParams
from verbatim.reference.text.template import load_template
from verbatim.reference.text.thoughts import ThoughtCounter

SCHEMA = json_schema({"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]})
CLOSE = "</think>"


@pytest.fixture(scope="module")
def engine(backend):
    return backend.load_engine(MODEL, limits=EngineLimits(max_num_sequence=4, max_total_seq_length=4096))


def asked(engine, *, opens, budget=None, grammar=None, max_tokens=40, **sampling):
    """A request for an answer to a greeting; the prompt opens a thought if it `opens` one."""
    pieces = load_template(MODEL, engine.tokenizer).render([{"role": "user", "content": "Hello!"}])
    ids = engine.tokenizer.encode_pieces([*pieces, "<think>"] if opens else pieces)
    thinking = choose_thoughts("<think>").thinking(engine.tokenizer, ids, budget)
    assert thinking.is_open is opens
    return Request(
        request_id="a", prompt_ids=tuple(ids), sampling=SamplingParams(seed=3, logprobs=1, **sampling),
        stopping=StoppingParams(max_tokens=max_tokens), grammar=grammar, thinking=thinking,
    )  # fmt: skip


def answer(engine, request):
    """The text, the ids, and why it ended."""
    engine.add(request)
    text, ids, reason = "", [], None
    while engine.has_work():
        for output in engine.step():
            assert output.error is None
            text, reason = text + output.text, output.finish_reason
            ids += output.token_ids
    engine.check()
    return text, ids, reason


def split(engine, request, text, ids):
    """Thought and answer, and how many tokens the thought has with its marks."""
    counter = ThoughtCounter(engine.tokenizer, request.thinking)
    counter.push(ids)
    thought, _, rest = text.partition(CLOSE)
    return thought, rest, counter.num_tokens


@pytest.mark.parametrize("budget", [0, pytest.param(1, marks=pytest.mark.slow), 5])
@pytest.mark.parametrize("temperature", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_budget_holds_to_the_token(engine, budget, temperature):
    """Tokens in front of the bound are those of an answer without one; behind it only the ending can come."""
    free = asked(engine, opens=True, temperature=temperature)
    bound = asked(engine, opens=True, budget=budget, temperature=temperature)
    _, free_ids, _ = answer(engine, free)
    text, ids, _ = answer(engine, bound)
    assert ids[:budget] == free_ids[:budget]
    thought, _, num_tokens = split(engine, bound, text, ids)
    mark = engine.tokenizer.encode(CLOSE, is_first=False)
    assert ids[budget : budget + len(mark)] == mark and num_tokens == budget + len(mark)
    assert CLOSE not in thought and len(engine.tokenizer.encode(thought, is_first=False)) <= budget


def test_a_grammar_begins_behind_the_thought(engine):
    request = asked(engine, opens=True, budget=4, grammar=SCHEMA, temperature=1)
    text, ids, reason = answer(engine, request)
    thought, rest, num_tokens = split(engine, request, text, ids)
    assert json.loads(rest) in ({"a": 1}, {"a": 2}) and "{" not in thought
    assert reason is FinishReason.STOP and num_tokens < len(ids)


def test_without_a_thought_the_grammar_begins_at_once(engine):
    plain = asked(engine, opens=False, grammar=SCHEMA, temperature=0)
    text, ids, _ = answer(engine, plain)
    assert json.loads(text) in ({"a": 1}, {"a": 2})
    assert split(engine, plain, text, ids)[2] == 0


def test_a_thought_may_be_opened_in_front_of_a_grammar(engine):
    """A bias makes the model write the opening mark; what follows is free until the ending, and then JSON."""
    first = engine.tokenizer.encode("<think>", is_first=False)
    bias = dict.fromkeys(first, 30.0)
    request = asked(engine, opens=False, budget=3, grammar=SCHEMA, temperature=0, logit_bias=bias)
    text, *_ = answer(engine, request)
    assert text.lstrip().startswith("<think>")
    rest = text.partition(CLOSE)[2]
    assert json.loads(rest) in ({"a": 1}, {"a": 2})


def test_a_thought_without_an_end_is_no_end(engine):
    """With a grammar the model cannot end within its thought."""
    bias = dict.fromkeys(engine.config.eos_ids, 100.0)
    text, _, reason = answer(engine, asked(engine, opens=True, grammar=SCHEMA, temperature=0, logit_bias=bias))
    assert CLOSE not in text and reason is FinishReason.LENGTH


def test_engines_agree(engine, request):
    """The same ids and the same bits of log-probabilities in every engine."""
    wanted = asked(engine, opens=True, budget=6, grammar=SCHEMA, temperature=1)
    seen = request.config.stash.setdefault(KEY, {})
    engine.add(wanted)
    outputs = []
    while engine.has_work():
        outputs += engine.step()
    found = [(output.token_ids, output.text, output.logprobs) for output in outputs]
    assert seen.setdefault("answer", found) == found


KEY = pytest.StashKey[dict]()


@pytest.mark.parametrize("mode", ["ngram", pytest.param("small_draft", marks=pytest.mark.slow)])
def test_with_draft_tokens_too(backend, mode):
    from verbatim.demo import DRAFTS

    limits = EngineLimits(max_num_sequence=4, max_total_seq_length=4096)
    alone = backend.load_engine(MODEL, limits=limits)
    limits = EngineLimits(max_num_sequence=4, max_total_seq_length=4096, speculative_mode=mode, spec_draft_length=4)
    drafting = backend.load_engine(MODEL, limits=limits, draft_directory=DRAFTS.get(mode))
    for budget in (0, 3):
        request = asked(alone, opens=True, budget=budget, grammar=SCHEMA, temperature=1)
        assert answer(drafting, request) == answer(alone, request)
