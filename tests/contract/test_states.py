"""Slots of states (N14): books that balance, and one state for a text however it was computed."""

import numpy as np
import pytest

from family_models import write_family
from verbatim.reference.cache.states import NO_STATE, StateCache
from verbatim.reference.records.sequence import Chunk

IDS = tuple(np.random.default_rng(3).integers(0, 96, 40).tolist())


@pytest.fixture(scope="module", params=["lfm2", "mamba2", "falcon h1", "nemotron h", "qwen3_next"])
def model(backend, tmp_path_factory, request):
    return backend.load_model(write_family(tmp_path_factory.mktemp("states"), request.param))


@pytest.fixture
def cache(backend, model):
    return backend.PARTS.PagedCache(model.config, 12, num_slots=4)


def run(model, cache, *chunks):
    """The logits of a pass over chunks of the same pages."""
    fields = {"pages": (0, 1, 2)}
    return np.array(model.forward([Chunk(**fields | chunk) for chunk in chunks], cache))


def test_slots_are_counted_by_reference():
    states = StateCache(2, 3, 2)
    slot = states.allocate()
    states.write(1, slot, np.arange(3, dtype=np.float32))
    states.share([slot])
    assert states.is_shared(slot)
    assert states.num_free == 1
    states.release([slot])
    states.check([[slot]])
    assert states.read(1, slot).tolist() == [0, 1, 2]
    assert states.read(0, NO_STATE).tolist() == [0, 0, 0]
    with pytest.raises(AssertionError, match="differ from their counts"):
        states.check([[slot, slot]])
    states.release([slot])
    states.check([])


def test_a_model_has_pages_for_attention_and_states_for_the_rest(model, cache):
    paged, stateful, size = {
        "lfm2": (1, 3, 2 * 48),
        "mamba2": (0, 2, 3 * (96 + 2 * 2 * 19) + 4 * 19 * 24),
        "falcon_h1": (2, 2, 3 * (64 + 2 * 20) + 4 * 20 * 16),
        "nemotron_h": (1, 2, 3 * (80 + 2 * 2 * 17) + 4 * 17 * 20),
        "qwen3_next": (1, 3, 3 * (2 * 2 * 16 + 4 * 72) + 4 * 16 * 72),
    }[model.config.family]
    assert len(cache.keys) == paged
    assert cache.states.numbers.shape == (4, stateful, size)
    assert model.config.state_bytes == 4 * stateful * size


@pytest.mark.parametrize("cut", [1, 2, 3, 17, 39])
def test_a_text_in_two_chunks_has_the_bits_of_one(model, cache, cut):
    whole = run(model, cache, {"token_ids": IDS, "start": 0, "num_logits": 40, "saves": ((40, 0),)})
    first = run(model, cache, {"token_ids": IDS[:cut], "start": 0, "num_logits": cut, "saves": ((cut, 1),)})
    fields = {"start": cut, "num_logits": 40 - cut, "state": 1, "saves": ((40 - cut, 1),)}
    second = run(model, cache, {"token_ids": IDS[cut:], **fields})
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    np.testing.assert_array_equal(cache.states.numbers[1], cache.states.numbers[0])


def test_returning_to_an_earlier_state_is_as_if_nothing_had_been_drafted(model, cache):
    run(model, cache, {"token_ids": IDS[:20], "start": 0, "saves": ((20, 0),)})
    before = cache.states.numbers[0].copy()
    drafted = {"token_ids": (IDS[20], 7, 8, 9), "start": 20, "state": 0, "saves": ((1, 0), (2, 1), (3, 2), (4, 3))}
    run(model, cache, drafted)
    assert len({cache.states.numbers[slot].tobytes() for slot in range(4)} | {before.tobytes()}) == 5
    found = run(model, cache, {"token_ids": IDS[21:23], "start": 21, "state": 0, "saves": ((2, 0),)})
    expected = run(model, cache, {"token_ids": IDS[:23], "start": 0, "saves": ((23, 1),)})
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(cache.states.numbers[0], cache.states.numbers[1])


def test_a_batch_of_chunks_with_and_without_saves(model, cache, backend):
    run(model, cache, {"token_ids": IDS[:5], "start": 0, "saves": ((5, 3),)})
    alone = [run(model, cache, {"token_ids": ids, "start": 0}) for ids in (IDS[:9], IDS[10:13])]
    alone.append(run(model, cache, {"token_ids": (4,), "start": 5, "state": 3}))
    shared = ({"token_ids": IDS[:9], "start": 0, "pages": (3,)}, {"token_ids": IDS[10:13], "start": 0, "pages": (4,)})
    among = run(model, cache, *shared, {"token_ids": (4,), "start": 5, "state": 3, "saves": ((1, 2),)})
    np.testing.assert_array_equal(among[2], alone[2][0])
    np.testing.assert_array_equal(among[:2], np.concatenate(alone[:2]))


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        ({"start": 3, "state": NO_STATE}, "a chunk that begins at position 3 needs the state before it"),
        ({"start": 3, "state": 4}, r"slots must lie in 0\.\.3, not \[4\]"),
        ({"start": 0, "saves": ((2, -1),)}, r"slots must lie in 0\.\.3, not \[-1\]"),
        ({"start": 0, "saves": ((2, 0), (1, 1))}, r"saves must ascend and lie in 1\.\.2"),
        ({"start": 0, "saves": ((3, 0),)}, r"saves must ascend and lie in 1\.\.2"),
        ({"start": 0, "saves": ((0, 0),)}, r"saves must ascend and lie in 1\.\.2"),
    ],
)
def test_what_cannot_be_is_refused(model, cache, chunk, words):
    with pytest.raises(IndexError, match=words):
        run(model, cache, {"token_ids": (1, 2), **chunk})


def test_pages_without_their_states_do_not_travel(cache):
    with pytest.raises(ValueError, match="states do not travel yet"):
        cache.export_pages([0])
    with pytest.raises(ValueError, match="states do not travel yet"):
        cache.import_pages([0], np.zeros(1))
