"""LoRA adapters in the engine: an answer depends on its request and its adapter alone, however it is computed."""

import pytest

from lora_adapters import shapes_in, write_adapter
from small_models import write_chat_model, write_medusa
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.engine.adapters import LoadedAdapters
from verbatim.reference.records.errors import BackendError, ModelError, RequestError
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams

PROMPT = tuple(range(300, 340))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, three adapters, a smaller draft model and medusa heads."""
    place = tmp_path_factory.mktemp("adapters")
    directory = write_chat_model(place / "model", eos_token_id=None)
    for seed in range(3):
        write_adapter(place / str(seed), shapes_in(directory), rank=4, seed=seed)
    write_chat_model(place / "small_draft", seed=5, num_hidden_layers=1)
    shape = shapes_in(directory)["model.embed_tokens.weight"]
    write_medusa(place / "medusa", vocab_size=shape[0], hidden_size=shape[1])
    return place


@pytest.fixture
def new_engine(backend, place):
    """An engine with three adapters, and the keys of these; "" stands before them for none."""

    def make(draft=None, **limits):
        engine = backend.load_engine(place / "model", limits=EngineLimits(**limits), draft_directory=draft)
        return engine, ["", *(engine.adapters.load(place / str(seed)).key for seed in range(3))]

    return make


def request(name, n=1, max_tokens=12, temperature=1.0, **fields):
    return Request(
        request_id=name, prompt_ids=PROMPT, n=n, stopping=StoppingParams(max_tokens=max_tokens),
        sampling=SamplingParams(seed=7, logprobs=2, temperature=temperature), **fields,
    )  # fmt: skip


def run(engine, *requests):
    """Outputs of every (request, choice), with the books checked after every step."""
    for each in requests:
        engine.add(each)
    outputs = {}
    while engine.has_work():
        for output in engine.step():
            outputs.setdefault((output.request_id, output.choice), []).append(output)
        engine.check()
    return outputs


def ids(outputs):
    return [token_id for output in outputs for token_id in output.token_ids]


def words(outputs):
    """All that an answer says: tokens, text, log-probabilities to the bit."""
    logprobs = [entry for output in outputs for entry in output.logprobs]
    return ids(outputs), "".join(output.text for output in outputs), logprobs


def all_words(outputs):
    return {name: words(found) for name, found in outputs.items()}


def adapted(keys, n=1, max_tokens=12, temperature=1.0):
    """A request for each of the adapters, and for the model itself, all with the same prompt."""
    settings = {"n": n, "max_tokens": max_tokens, "temperature": temperature}
    return [request(f"r{i}", adapter=key, **settings) for i, key in enumerate(keys)]


def test_adapters_share_a_batch_and_no_page(new_engine):
    """The same prompt with three adapters and none: each answer is that of an engine which knows no other."""
    alone = {}
    for index in range(4):
        engine, keys = new_engine()
        alone |= run(engine, adapted(keys)[index])
    engine, keys = new_engine()
    together = run(engine, *adapted(keys))
    assert all_words(together) == all_words(alone)
    assert len({tuple(ids(outputs)) for outputs in together.values()}) == 4
    assert all(outputs[-1].num_cached_tokens == 0 for outputs in together.values())
    again = run(engine, *adapted(keys))
    assert all_words(again) == all_words(alone)
    assert all(outputs[-1].num_cached_tokens == len(PROMPT) - 1 for outputs in again.values())


def test_a_salt_cannot_name_another_adapters_pages(new_engine):
    """What a caller says of its pages is never taken for the key of an adapter."""
    engine, keys = new_engine()
    run(engine, request("first", adapter=keys[1], cache_salt="x"))
    for number, salt in enumerate((f"{keys[1]}/x", f"{keys[1]}x", "x", "")):
        outputs = run(engine, request(f"salt{number}", cache_salt=salt))
        assert outputs[f"salt{number}", 0][-1].num_cached_tokens == 0


@pytest.mark.parametrize(
    ("limits", "n"),
    [
        ({"max_num_sequence": 3, "prefill_chunk_size": 7}, 1),
        ({"max_total_seq_length": 96}, 1),
        ({"max_num_sequence": 16}, 3),
        ({"prefix_cache_mode": "disable", "prefill_mode": "chunked"}, 1),
    ],
    ids=["chunks", "preemption", "choices", "no cache"],
)
def test_how_it_is_computed_changes_nothing(new_engine, limits, n):
    engine, keys = new_engine()
    expected = run(engine, *adapted(keys, n=n, max_tokens=25))
    engine, keys = new_engine(**limits)
    found = run(engine, *adapted(keys, n=n, max_tokens=25))
    assert all_words(found) == all_words(expected)


@pytest.mark.parametrize("mode", ["ngram", "small_draft", "medusa"])
def test_drafts_are_verified_by_the_adapted_model(new_engine, place, mode):
    engine, keys = new_engine()
    expected = run(engine, *adapted(keys, max_tokens=25, temperature=0))
    draft = None if mode == "ngram" else place / mode
    width = 3 if mode == "small_draft" else 1
    engine, keys = new_engine(draft, speculative_mode=mode, spec_draft_length=3, spec_tree_width=width)
    found = run(engine, *adapted(keys, max_tokens=25, temperature=0))
    assert engine.stats()["drafted_tokens"] > 0
    assert all_words(found) == all_words(expected)


def test_an_adapter_leaves_when_its_last_request_has_ended(new_engine):
    engine, keys = new_engine()
    expected = words(run(engine, *adapted(keys)[1:2])["r1", 0])
    engine.add(adapted(keys)[1])
    outputs = engine.step()
    engine.adapters.unload(keys[1])
    with pytest.raises(RequestError, match="is not loaded, or no longer") as refusal:
        engine.add(request("late", adapter=keys[1]))
    assert (refusal.value.code, refusal.value.field) == ("model_not_found", "model")
    assert keys[1] in engine.model.adapters
    while engine.has_work():
        outputs += engine.step()
    assert words(outputs) == expected
    assert keys[1] not in engine.model.adapters
    with pytest.raises(RequestError, match="is not loaded"):
        engine.add(request("later", adapter=keys[1]))


def test_an_adapter_that_comes_back_is_the_same(new_engine, place):
    engine, keys = new_engine()
    expected = words(run(engine, *adapted(keys)[1:2])["r1", 0])
    engine.add(adapted(keys)[2])
    for key in keys[1:]:
        engine.adapters.unload(key)
    assert [engine.adapters.load(place / str(seed)).key for seed in range(3)] == keys[1:]
    while engine.has_work():
        engine.step()
    assert all(key in engine.model.adapters for key in keys[1:])
    outputs = run(engine, *adapted(keys)[1:2])["r1", 0]
    assert words(outputs) == expected
    assert outputs[-1].num_cached_tokens == len(PROMPT) - 1, "its pages were kept under its key"


def test_a_model_without_adapters_refuses_them_by_name(place):
    """As that on a GPU has none."""
    adapters = LoadedAdapters(object(), open_source(place / "model").config())
    with pytest.raises(BackendError, match="a model on a GPU has no adapters; use --device cpu"):
        adapters.load(place / "0")
    with pytest.raises(RequestError, match="is not loaded"):
        adapters.check(request("a", adapter="0" * 64))
    adapters.check(request("a"))


def test_what_is_no_adapter_is_refused(new_engine, tmp_path):
    engine, _ = new_engine()
    with pytest.raises(ModelError, match="does not exist"):
        engine.adapters.load(tmp_path / "nowhere")
    with pytest.raises(RequestError, match="is not loaded"):
        engine.add(request("a", adapter="0" * 64))
