"""Whole engines on a device equal the reference, bit for bit: the demo with every type of request, and with drafts.

Not collected by itself, as models_on_a_device.py.
"""

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

from receipt_maker import changed, make_receipt, read
from verbatim.demo import DRAFTS, MODEL
from verbatim.fastpath import backend as fastpath_backend
from verbatim.fastpath.gpu import sampling as fastpath_gpu_sampling
from verbatim.reference import backend as reference_backend
from verbatim.reference.commands.replay import recompute
from verbatim.reference.receipts.comparison import compare
from verbatim.reference.receipts.recomputing import limits_for
from verbatim.reference.records.grammar_text import Grammar, GrammarSyntax
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams

TEXT = "Once upon a time there was a little dog who"


def requests(engine, **options):
    """Greedy, sampled in several ways, with a grammar, and with two choices; some prompts begin alike."""
    ids = tuple(engine.tokenizer.encode_prompt(TEXT))
    samplings = [
        {"temperature": 0}, {"top_p": 0.9, "logprobs": 3}, {"top_k": 20, "min_p": 0.01, "logprobs": 0},
        {"repetition_penalty": 1.3, "frequency_penalty": 0.4, "logit_bias": {300: 2.0}}, {"temperature": 1.5},
    ]  # fmt: skip
    made = [
        Request(
            request_id=str(i), prompt_ids=ids[: len(ids) - i], sampling=SamplingParams(seed=i, **sampling),
            stopping=StoppingParams(max_tokens=8), **options,
        )
        for i, sampling in enumerate(samplings)
    ]  # fmt: skip
    made[1] = replace(made[1], prompt_logprobs=2)
    return [*made[:4], replace(made[4], n=2)]


def answers(engine, wanted):
    """An engine's outputs for some requests, joined."""
    for request in wanted:
        engine.add(request)
    found = {}
    while engine.has_work():
        for output in engine.step():
            entry = found.setdefault((output.request_id, output.choice), ([], [], []))
            entry[0].extend(output.token_ids or output.embedding or ())
            entry[1].append(output.text)
            entry[2].extend([*output.prompt_logprobs, *output.logprobs] if output.prompt_logprobs else output.logprobs)
        engine.check()
    return {key: (ids, "".join(texts), logprobs) for key, (ids, texts, logprobs) in found.items()}


@pytest.fixture(scope="module")
def expected():
    """The reference's outputs by a quantisation, each computed once."""

    @cache
    def of(quantization=None):
        engine = reference_backend.load_engine(MODEL, quantization=quantization)
        return answers(engine, requests(engine))

    return of


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param({}, marks=pytest.mark.slow), {"prefill_chunk_size": 7, "max_num_sequence": 2},
        pytest.param({"prefix_cache_mode": "disable", "max_total_seq_length": 2048}, marks=pytest.mark.slow),
        pytest.param({"speculative_mode": "ngram"}, marks=pytest.mark.slow),
        {"speculative_mode": "small_draft", "spec_tree_width": 2, "spec_draft_length": 3},
        {"speculative_mode": "medusa"}, {"speculative_mode": "eagle"},
    ],
    ids=str,
)  # fmt: skip
def test_the_demo_model_says_the_same(expected, limits):
    draft = DRAFTS.get(limits.get("speculative_mode"))
    engine = fastpath_backend.load_engine(MODEL, device="cuda", limits=EngineLimits(**limits), draft_directory=draft)
    assert answers(engine, requests(engine)) == expected()
    assert engine.model.num_replays > 0 or engine.drafts.speculator is not None


def test_a_step_draws_all_its_rows_with_one_launch():
    """With a grammar, penalties and log-probabilities; it waits once for tokens and scores."""
    engine = fastpath_backend.load_engine(MODEL, device="cuda", limits=EngineLimits(max_num_sequence=8))
    wanted, steps, ops = requests(engine), [], engine.model.operations
    grammar = Grammar(syntax=GrammarSyntax.REGEX, source="[a-z ]{30}")
    wanted.append(replace(wanted[4], request_id="9", n=1, grammar=grammar))
    for request in wanted:
        engine.add(request)
    launch, read = ops._launch, engine.model.device.read

    def counting(name, *arguments):
        steps[-1][name] += 1
        launch(name, *arguments)

    def reading(*arguments):
        steps[-1]["reads"] += 1
        return read(*arguments)

    ops._launch, engine.model.device.read = counting, reading
    while engine.has_work():
        steps.append(Counter())
        engine.step()
    decoding = [step for step in steps if not step["attend_rows_float32"]]  # the others prefill
    assert len(decoding) >= 6 and engine.model.latest_graph.num_overlaps > 0
    found = {(step["sample_rows"], step["score_rows"], step["reads"]) for step in decoding}
    assert found <= {(1, 1, 1), (1, 0, 1), (0, 1, 1)} and (1, 1, 1) in found


@pytest.mark.parametrize("mode", ["disable", "ngram", pytest.param("small_draft", marks=pytest.mark.slow)])
def test_a_step_waits_once_for_all_that_it_draws_and_scores(mode):
    """Draft tokens of a sequence, the scores of a prompt, and several prompts' first tokens."""
    limits = EngineLimits(max_num_sequence=8, speculative_mode=mode, spec_draft_length=0 if mode == "disable" else 4)
    rest = {"limits": limits, "draft_directory": DRAFTS.get(mode)}
    engine = fastpath_backend.load_engine(MODEL, device="cuda", **rest)
    reference = reference_backend.load_engine(MODEL, **rest)
    ids = tuple(engine.tokenizer.encode_prompt("one two three one two three one two three one"))
    asked = [
        {"temperature": 0}, {"temperature": 0.5, "logprobs": 1}, {"repetition_penalty": 1.05}, {"logit_bias": {5: 1.0}},
    ]  # fmt: skip
    wanted = [
        Request(
            request_id=str(i), prompt_ids=ids, sampling=SamplingParams(seed=i, **params),
            prompt_logprobs=2 if i % 2 else None, stopping=StoppingParams(max_tokens=12),
        )
        for i, params in enumerate(asked)
    ]  # fmt: skip
    reads, read = [], engine.model.device.read
    engine.model.device.read = lambda *arguments: reads.append(1) or read(*arguments)
    step, waits = engine.step, []

    def stepping():
        reads.clear()
        found = step()
        waits.append(len(reads))
        return found

    engine.step = stepping
    assert answers(engine, wanted) == answers(reference, wanted)
    assert max(waits) == (5 if mode == "small_draft" else 1), "and one for each token that a draft model writes ahead"
    assert mode == "disable" or engine.drafts.num_accepted > 0


def test_blocks_that_share_a_row_draw_the_same(expected, monkeypatch):
    """By a cooperative launch, and two draws at most in one. Neither happens to the demo otherwise: it is too small."""
    monkeypatch.setattr(fastpath_gpu_sampling, "MOST_DRAWN", 2)
    monkeypatch.setattr(fastpath_gpu_sampling, "parts_of_row", lambda rows, vocab, blocks: min(3, blocks // rows))
    engine = fastpath_backend.load_engine(MODEL, device="cuda")
    assert answers(engine, requests(engine)) == expected()


@pytest.mark.slow
def test_the_demo_model_in_integers_says_the_same(expected):
    engine = fastpath_backend.load_engine(MODEL, device="auto", quantization="w4a8")
    assert type(engine.model).__module__ == "verbatim.fastpath.gpu.model", "auto takes a GPU where there is one"
    assert answers(engine, requests(engine)) == expected("w4a8")


def test_a_grammar_and_a_pooled_prompt():
    found = []
    for backend, device in ((reference_backend, "cpu"), (fastpath_backend, "cuda")):
        engine = backend.load_engine(MODEL, device=device)
        first, second, *_ = requests(engine)
        grammar = Grammar(syntax=GrammarSyntax.REGEX, source="(yes, of course|no)")
        yes_or_no = replace(first, grammar=grammar, stopping=StoppingParams(max_tokens=20))
        pooled = replace(second, pooling="mean", prompt_logprobs=None, sampling=SamplingParams(seed=0))
        found.append(answers(engine, [yes_or_no, pooled]))
    assert found[0] == found[1]
    assert found[0][("0", 0)][1] in ("yes, of course", "no")


def test_an_engine_whose_pages_and_its_draft_s_are_narrower():
    found = []
    limits = EngineLimits(kv_cache_dtype="bfloat16", speculative_mode="small_draft", spec_draft_length=2)
    for backend, device in ((reference_backend, "cpu"), (fastpath_backend, "cuda")):
        engine = backend.load_engine(MODEL, device=device, limits=limits, draft_directory=DRAFTS["small_draft"])
        assert engine.cache.dtype == engine.drafts.speculator.cache.dtype == "bfloat16"
        found.append(answers(engine, requests(engine)[:2]))
    assert found[0] == found[1]


def test_a_receipt_of_the_reference_is_verified_on_the_device():
    """All tokens at once, and a changed one is named."""
    engine = reference_backend.load_engine(MODEL)
    wanted = [replace(each, sampling=replace(each.sampling, logprobs=0)) for each in requests(engine)]
    receipt = make_receipt(engine, [replace(each, prompt_logprobs=None) for each in wanted])
    for changes, expected in ((receipt, None), (changed(receipt, "answers", 2, "token_ids", 0, value=7), "request 2")):
        parsed = read(changes)
        device = fastpath_backend.load_engine(MODEL, device="cuda", limits=limits_for(parsed))
        found = compare(parsed, recompute(device, parsed, verifies=True))
        assert str(found or "").startswith(expected or "") and (found is None) == (expected is None)
