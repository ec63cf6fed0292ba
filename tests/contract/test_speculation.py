"""Speculative decoding, on every engine: the answer is what it is without, and some draft tokens are accepted."""

import dataclasses

import numpy as np
import pytest

from small_models import write_chat_model, write_eagle, write_medusa, write_model, write_safetensors
from verbatim.demo import DRAFTS, MODEL
from verbatim.reference.records.errors import ModelError, RequestError
from verbatim.reference.records.grammar_text import json_schema
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams
from verbatim.reference.records.sequence import Sequence
from verbatim.reference.text.template import load_template

MODES = {
    "ngram": {"speculative_mode": "ngram"},
    "small_draft": {"speculative_mode": "small_draft"},
    "tree": {"speculative_mode": "small_draft", "spec_tree_width": 3},
    "medusa": {"speculative_mode": "medusa"},
    "eagle": {"speculative_mode": "eagle"},
}
NONE = {"speculative_mode": "disable"}
FEW = dict.fromkeys(range(300, 304), 20.0)  # a logit bias under which even random heads are often right
QUESTIONS = ("Hello!", "Repeat: one two three one two three one two three one two")


@pytest.fixture(scope="module")
def random_model(tmp_path_factory):
    return write_chat_model(tmp_path_factory.mktemp("model"), seed=1, eos_token_id=None)


@pytest.fixture(scope="module")
def random_draft(tmp_path_factory):
    """Almost the same model: its draft tokens are often accepted and often rejected."""
    return write_chat_model(
        tmp_path_factory.mktemp("draft"), seed=1, dtype="BF16", eos_token_id=None, rms_norm_eps=0.05
    )


@pytest.fixture(scope="module")
def drafts(random_draft, tmp_path_factory):
    """The drafts for the random model, by mode; tokens of random heads are hardly ever accepted."""
    sizes = {"vocab_size": 896}  # the demo's
    return {
        "small_draft": random_draft,
        "medusa": write_medusa(tmp_path_factory.mktemp("medusa"), dtype="BF16", **sizes),
        "eagle": write_eagle(tmp_path_factory.mktemp("eagle"), dtype="F16", **sizes),
    }


@pytest.fixture
def new_engine(backend, random_model, drafts):
    def make(mode="disable", length=0, **limits):
        limits = EngineLimits(**(MODES | {"disable": NONE})[mode], spec_draft_length=length, **limits)
        return backend.load_engine(random_model, limits=limits, draft_directory=drafts.get(limits.speculative_mode))

    return make


def requests(temperature, max_tokens=16):
    sampling = SamplingParams(temperature=temperature, seed=4, logprobs=2, top_p=0.9, frequency_penalty=0.3)
    prompts = [tuple(range(300, 330)), (301, 302, 303) * 7, (305,), tuple(range(310, 320)) * 3]
    return [
        Request(
            request_id=str(i), prompt_ids=ids, stopping=StoppingParams(max_tokens=max_tokens), n=1 + i % 2,
            sampling=dataclasses.replace(sampling, logit_bias=FEW if i > 1 else {}),
        )
        for i, ids in enumerate(prompts)
    ]  # fmt: skip


def run(engine, wanted):
    for request in wanted:
        engine.add(request)
    answers = {}
    while engine.has_work():
        for output in engine.step():
            ids, texts, logprobs, ends = answers.setdefault((output.request_id, output.choice), ([], [], [], []))
            ids.extend(output.token_ids)
            texts.append(output.text)
            logprobs.extend(output.logprobs)
            ends.append(output.finish_reason)
        engine.check()
    assert engine.stats()["used_pages"] == 0
    return {name: (ids, "".join(texts), logprobs, ends[-1]) for name, (ids, texts, logprobs, ends) in answers.items()}


@pytest.mark.parametrize("mode", ["ngram", "small_draft"])
def test_the_answer_is_the_same_whatever_is_proposed(new_engine, mode):
    check_answers(new_engine, mode, 1, lengths=(0, 16))


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("mode", MODES)
def test_so_it_is_with_trees_and_heads(new_engine, mode, temperature):
    check_answers(new_engine, mode, temperature, lengths=(0, 1, 3) if mode == "medusa" else (0, 1, 3, 16))


def check_answers(new_engine, mode, temperature, lengths):
    expected = run(new_engine(), requests(temperature))
    for length in lengths:
        engine = new_engine(mode, length)
        assert run(engine, requests(temperature)) == expected
        assert engine.stats()["drafted_tokens"] > engine.stats()["accepted_tokens"] > 0
    assert run(new_engine(mode, 3, prefill_chunk_size=6, max_num_sequence=3), requests(temperature)) == expected
    assert run(new_engine(mode, 3, max_total_seq_length=96), requests(temperature)) == expected, "short of pages"
    assert run(new_engine(mode, 3, prefill_mode="chunked", prefill_chunk_size=16), requests(temperature)) == expected


@pytest.mark.parametrize("mode", MODES)
def test_with_narrower_pages_too(new_engine, mode):
    limits = {"kv_cache_dtype": "bfloat16", "max_total_seq_length": 160}
    engine = new_engine(mode, 3, **limits)
    wanted = requests(1, max_tokens=25)
    assert run(engine, wanted) == run(new_engine(**limits), wanted) != run(new_engine(), wanted)
    assert engine.stats()["accepted_tokens"] > 0
    draft_cache = getattr(engine.drafts.speculator, "cache", engine.cache)
    assert draft_cache.dtype == engine.cache.dtype == "bfloat16"


@pytest.mark.parametrize("mode", MODES)
def test_a_window_that_lets_go_of_pages_changes_nothing(backend, drafts, tmp_path, mode):
    slides = {"architectures": ["MistralForCausalLM"], "sliding_window": 20, "eos_token_id": None}
    directory = write_chat_model(tmp_path, seed=1, **slides)
    settings = EngineLimits(**MODES[mode], spec_draft_length=3, max_total_seq_length=256)
    draft = drafts.get(settings.speculative_mode)
    engine = backend.load_engine(directory, limits=settings, draft_directory=draft)
    assert run(engine, requests(1)) == run(backend.load_engine(directory), requests(1))
    assert engine.stats()["accepted_tokens"] > 0


@pytest.mark.parametrize("mode", MODES)
def test_a_beginning_that_is_cached_changes_nothing(new_engine, mode):
    first, *others = requests(1)
    longer = dataclasses.replace(first, request_id="again", prompt_ids=(*first.prompt_ids, 7, 8, 9))
    engine = new_engine(mode, 3)
    answers = run(engine, [first, *others]) | run(engine, [longer])
    assert engine.prefix_cache.num_idle > 0
    assert answers == run(new_engine(prefix_cache_mode="disable"), [first, *others, longer])


@pytest.mark.parametrize("mode", MODES)
def test_a_request_that_is_aborted_leaves_nothing_behind(new_engine, mode):
    expected = run(new_engine(), requests(1)[1:3])
    engine = new_engine(mode, 3)
    for request in requests(1):
        engine.add(request)
    answers = {}
    for step in range(200):
        for output in engine.step():
            answers.setdefault((output.request_id, output.choice), []).extend(output.token_ids)
        if step == 5:
            engine.abort("0")
            engine.abort("3")
        engine.check()
    assert not engine.has_work()
    assert engine.stats()["used_pages"] == 0
    assert {name: answers[name] for name in expected} == {name: ids for name, (ids, _, _, _) in expected.items()}
    cache = getattr(engine.drafts.speculator, "cache", None)
    assert cache is None or cache.num_free == cache.num_pages


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_may_fill_the_context(new_engine, mode):
    endless = dataclasses.replace(requests(0)[3], prompt_ids=tuple(range(300, 330)) * 8, stopping=StoppingParams(), n=1)
    answers = run(new_engine(mode, 3), [endless])
    assert answers == run(new_engine(), [endless])
    ((ids, _, _, _),) = answers.values()
    assert len(ids) == 256 - 240


def test_a_draft_with_a_shorter_context_does_not_shorten_the_answer(backend, random_model, tmp_path):
    shapes = {"vocab_size": 896, "max_position_embeddings": 40, "eos_token_id": None}
    expected = run(backend.load_engine(random_model), requests(0))
    for mode, write in (("small_draft", write_model), ("eagle", write_eagle)):
        directory = write(tmp_path / mode, **shapes)
        limits = EngineLimits(speculative_mode=mode, spec_draft_length=2)
        engine = backend.load_engine(random_model, limits=limits, draft_directory=directory)
        assert run(engine, requests(0)) == expected
        assert engine.stats()["drafted_tokens"] > 0


@pytest.mark.parametrize("mode", ["small_draft", "medusa", "eagle"])
def test_a_draft_token_from_logits_that_are_not_numbers_is_none(backend, random_model, tmp_path, mode):
    """No request ends because the speculator's numbers are not finite."""
    write = {"small_draft": write_model, "medusa": write_medusa, "eagle": write_eagle}[mode]
    directory = write(tmp_path, vocab_size=896, scale=1e15 if mode == "small_draft" else 1e25)
    limits = EngineLimits(speculative_mode=mode)
    engine = backend.load_engine(random_model, limits=limits, draft_directory=directory)
    with np.errstate(all="ignore"):
        assert run(engine, requests(0)) == run(backend.load_engine(random_model), requests(0))
    assert engine.stats()["drafted_tokens"] == 0


def test_a_likely_draft_is_often_right_and_saves_steps(new_engine):
    plain, fast = new_engine(), new_engine("small_draft", 4)
    assert run(fast, requests(0)) == run(plain, requests(0))
    stats = fast.stats()
    assert stats["accepted_tokens"] > 0.1 * stats["drafted_tokens"] > 0
    assert stats["steps"] < plain.stats()["steps"]


def test_a_wider_tree_is_right_more_often(new_engine):
    """A side line's first draft token is accepted where the main line's is not: fewer steps for the same words."""
    narrow, wide = new_engine("small_draft", 4), new_engine("tree", 4)
    assert run(wide, requests(0)) == run(narrow, requests(0))
    assert wide.stats()["accepted_tokens"] > narrow.stats()["accepted_tokens"]
    assert wide.stats()["drafted_tokens"] > narrow.stats()["drafted_tokens"]
    assert wide.stats()["steps"] < narrow.stats()["steps"]


@pytest.mark.parametrize("mode", MODES)
def test_stop_strings_and_limits_cut_accepted_tokens(new_engine, mode):
    request = requests(0)[0]
    ((ids, text, _, _),) = run(new_engine(), [request]).values()
    for stopping in (
        StoppingParams(strings=(text[5:8],)), StoppingParams(token_ids=(ids[7],)), StoppingParams(max_tokens=2),
        StoppingParams(max_tokens=1), StoppingParams(max_tokens=25, min_tokens=20, token_ids=(ids[3],)),
    ):  # fmt: skip
        cut = dataclasses.replace(request, stopping=stopping)
        assert run(new_engine(mode, 3), [cut]) == run(new_engine(), [cut])


def test_lookup_takes_the_longest_run_and_then_the_latest(part):
    lookup = part("speculation.speculators").lookup
    assert lookup((1, 2, 3, 9, 1, 2, 3), 2) == [9, 1]
    assert lookup((1, 2, 7, 5, 2, 8, 1, 2), 1) == [7], "two tokens agree there, one elsewhere"
    assert lookup((2, 7, 2, 8, 2), 3) == [8, 2], "the latest of equals, and no further than the end"
    assert lookup((1, 2, 3), 4) == []
    assert lookup((1,), 4) == []


def test_fewer_draft_tokens_for_larger_batches(part):
    assert [part("speculation.speculators").adaptive_length(n) for n in (1, 9, 10, 19, 20, 29, 30, 128)] == [
        4,
        4,
        3,
        3,
        2,
        2,
        0,
        0,
    ]


def test_a_sequence_without_room_goes_without(backend, random_draft):
    model = backend.load_model(random_draft)
    speculator = backend.PARTS.DraftSpeculator(model, backend.PARTS.PagedCache(model.config, 2))
    small, large = (Sequence(request=dataclasses.replace(requests(0)[0], prompt_ids=tuple(range(n)))) for n in (5, 40))
    speculator.propose({small: 3, large: 3})
    assert (len(small.draft_ids), len(large.draft_ids)) == (3, 0)
    speculator.check()
    speculator.remove(small)
    speculator.remove(large)
    assert speculator.cache.num_free == 2


def demo_engine(backend, settings):
    limits = EngineLimits(**settings)
    return backend.load_engine(MODEL, limits=limits, draft_directory=DRAFTS.get(limits.speculative_mode))


def test_the_demo_and_its_drafts_agree_with_the_demo_alone(backend):
    answers, max_tokens = [], 40 if backend.PARTS.name == "fastpath" else 14
    for settings in (NONE, *MODES.values()):
        engine = demo_engine(backend, settings)
        template, asked = load_template(MODEL, engine.tokenizer), []
        for question in QUESTIONS:
            pieces = template.render([{"role": "user", "content": question}])
            asked.append(Request(
                request_id=question, prompt_ids=tuple(engine.tokenizer.encode_pieces(pieces)),
                stopping=StoppingParams(max_tokens=max_tokens), sampling=SamplingParams(temperature=0, logprobs=1),
            ))  # fmt: skip
        answers.append(run(engine, asked))
        assert settings == NONE or engine.stats()["accepted_tokens"] > 0, settings
    assert all(answer == answers[0] for answer in answers)


def test_a_grammar_holds_for_draft_tokens(backend):
    schema = {
        "type": "object",
        "properties": {"a": {"enum": ["x", "y"]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    answers = []
    for settings in (NONE, *MODES.values()):
        engine = demo_engine(backend, settings)
        request = Request(
            request_id="a", prompt_ids=(5, 6, 7), grammar=json_schema(schema), stopping=StoppingParams(max_tokens=60),
            sampling=SamplingParams(seed=2),
        )  # fmt: skip
        answers.append(run(engine, [request]))
    assert all(answer == answers[0] for answer in answers)


def test_what_cannot_be_is_said(backend, random_model, tmp_path):
    with pytest.raises(RequestError, match="must be one of disable, ngram, small_draft, medusa, eagle, not 'eagles'"):
        EngineLimits(speculative_mode="eagles")
    with pytest.raises(RequestError, match="spec_tree_width must be at most 8, not 9"):
        EngineLimits(speculative_mode="small_draft", spec_tree_width=9)
    with pytest.raises(RequestError, match="spec_tree_width must be 1 in speculative mode eagle"):
        EngineLimits(speculative_mode="eagle", spec_tree_width=2)
    with pytest.raises(RequestError, match="spec_draft_length must be at most 16"):
        EngineLimits(spec_draft_length=17)
    limits = EngineLimits(speculative_mode="small_draft")
    other = write_model(tmp_path, vocab_size=50)
    with pytest.raises(ModelError, match="vocab_size of the draft model must be 896, as the model's, not 50"):
        backend.load_engine(random_model, limits=limits, draft_directory=other)


@pytest.mark.parametrize(
    ("mode", "changes", "message"),
    [
        ("medusa", {"vocab_size": 50}, "vocab_size of the medusa heads must be 896, as the model's, not 50"),
        ("medusa", {"hidden_size": 50}, "hidden_size of the medusa heads must be 48, as the model's, not 50"),
        ("medusa", {"medusa_num_heads": 2}, "spec_draft_length must be at most 2, the medusa heads, not 3"),
        ("medusa", {"medusa_num_layers": 0}, "medusa_num_layers must be a positive integer, not 0"),
        ("medusa", {"model_type": "eagle"}, "model_type must be 'medusa', not 'eagle'"),
        ("eagle", {"vocab_size": 50}, "vocab_size of the eagle head must be 896, as the model's, not 50"),
        ("eagle", {"hidden_size": 50}, "hidden_size of the eagle head must be 48, as the model's, not 50"),
        ("eagle", {"num_hidden_layers": 2}, "an eagle head has 1 layer, num_hidden_layers is 2"),
        ("eagle", {"model_type": "llama"}, "model_type must be 'eagle', not 'llama'"),
    ],
)
def test_heads_that_do_not_suit_the_model_are_refused(backend, random_model, tmp_path, mode, changes, message):
    write = {"medusa": write_medusa, "eagle": write_eagle}[mode]
    directory = write(tmp_path, **{"vocab_size": 896} | changes)
    limits = EngineLimits(speculative_mode=mode, spec_draft_length=3)
    with pytest.raises(ModelError, match=message):
        backend.load_engine(random_model, limits=limits, draft_directory=directory)


@pytest.mark.parametrize("mode", ["small_draft", "medusa", "eagle"])
def test_a_directory_that_is_missing_or_incomplete_is_named(backend, random_model, tmp_path, mode):
    limits = EngineLimits(speculative_mode=mode)
    with pytest.raises(ModelError, match=f"speculative mode {mode} needs a draft model: "):
        backend.load_engine(random_model, limits=limits)
    with pytest.raises(ModelError, match=r"nowhere.* does not exist"):
        backend.load_engine(random_model, limits=limits, draft_directory=tmp_path / "nowhere")
    if mode == "small_draft":
        return
    directory = {"medusa": write_medusa, "eagle": write_eagle}[mode](tmp_path, vocab_size=896)
    write_safetensors(directory / "model.safetensors", {"other": np.zeros(3, np.float32)}, "F32")
    with pytest.raises(ModelError, match=r"tensor (medusa_head.0.0.linear|layers.0.self_attn.q_proj|fc).* is missing"):
        backend.load_engine(random_model, limits=limits, draft_directory=directory)
