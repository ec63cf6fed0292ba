"""An eagle head: a token and the state before it become one row, and the row goes through one decoder layer."""

import json
from dataclasses import replace

import numpy as np
import pytest

from small_models import write_eagle, write_model
from verbatim.reference.checkpoint.families import load_config, load_eagle_config
from verbatim.reference.checkpoint.opening import open_checkpoint, open_eagle
from verbatim.reference.checkpoint.weights import Tensor, load_weights
from verbatim.reference.records.request import Request, SamplingParams
from verbatim.reference.records.sequence import Chunk, Sequence

IDS = tuple(int(i) for i in np.random.default_rng(5).integers(0, 96, 50))
STATES = np.random.default_rng(6).standard_normal((50, 48)).astype(np.float32)


@pytest.fixture
def open_head(part, tmp_path):
    """A function that writes a model and an eagle head for it, and loads both."""

    def load(**settings):
        directory, head = write_model(tmp_path / "model"), write_eagle(tmp_path / "head", **settings)
        config = load_eagle_config(head)
        embedding = open_checkpoint(load_config(directory), load_weights(directory)).embedding
        checkpoint = open_eagle(config, load_weights(head), embedding)
        return part("backend").load_model(directory), part("model.decoder").Model(config, checkpoint), checkpoint

    return load


def nothing(matrix):
    return replace(matrix, weight=Tensor("zeros", "F32", np.zeros(matrix.weight.shape, np.float32)))


def states_of(part, head, sizes):
    cache, found, start = part("cache.pages").PagedCache(head.config, 8), [], 0
    for size in sizes:
        chunk = Chunk(token_ids=IDS[start : start + size], start=start, pages=tuple(range(8)))
        found.append(np.array(head.states([chunk], cache, STATES[start : start + size])))
        start += size
    return np.concatenate(found)


@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_that_adds_nothing_leaves_the_token_and_the_state_joined(part, open_head, bias):
    """The layer's own outputs are zero here; the state that comes out has no last norm."""
    _, head, checkpoint = open_head(bias=bias, seed=2)
    layer = checkpoint.layers[0]
    assert layer.attention_norm is None
    mute = replace(layer, output=nothing(layer.output), mlp=replace(layer.mlp, down=nothing(layer.mlp.down)))
    head = part("model.decoder").Model(head.config, replace(checkpoint, layers=(mute,)))
    joined = np.concatenate([checkpoint.embedding.float32()[list(IDS)], STATES], axis=1)
    expected = part("numerics.arithmetic").linear(joined, checkpoint.fusion.weight.float32())
    if bias:
        expected = expected + checkpoint.fusion.bias.float32()
    np.testing.assert_array_equal(states_of(part, head, [50]), expected)


def test_states_do_not_depend_on_how_they_are_cut_up(part, open_head):
    _, head, _ = open_head(dtype="BF16")
    expected = states_of(part, head, [50])
    for sizes in ([1] * 50, [7, 20, 23], [49, 1]):
        np.testing.assert_array_equal(states_of(part, head, sizes), expected)


def test_an_embedding_of_its_own_is_used(open_head, tmp_path):
    """Official checkpoints bring one; where there is none, the model's is shared."""
    _, _, shared = open_head()
    assert shared.embedding.name == "model.embed_tokens.weight"
    config, weights = load_eagle_config(tmp_path / "head"), load_weights(tmp_path / "head")
    own = load_weights(tmp_path / "model").get("model.embed_tokens.weight", (96, 48))
    weights._tensors["embed_tokens.weight"] = own
    assert open_eagle(config, weights, None).embedding is own


def speculator_of(part, model, head):
    return part("speculation.eagle").EagleSpeculator(model, head, part("cache.pages").PagedCache(head.config, 12))


def drafted(speculator, prompt_ids, last_id, start=0, states=STATES):
    """A sequence of a prompt and one token with five draft tokens behind, if these are the states from `start` on."""
    wanted = Request(request_id="a", prompt_ids=prompt_ids, sampling=SamplingParams(temperature=0))
    sequence, token_ids = Sequence(request=wanted, output_ids=[last_id]), prompt_ids[start:]
    work = [(sequence, Chunk(token_ids=token_ids, start=start, pages=()))]
    speculator.observe(work, states[: len(token_ids)])
    speculator.propose({sequence: 5})
    speculator.check()
    assert len(sequence.draft_ids) == 5
    return sequence


def test_behind_a_cached_beginning_it_starts_anew(part, open_head):
    """As if the text began there: the same states behind another beginning give the same draft tokens."""
    model, head, _ = open_head()
    speculator = speculator_of(part, model, head)
    long, short = drafted(speculator, IDS[:40], 9, start=20), drafted(speculator, IDS[20:40], 9)
    assert long.draft_ids == short.draft_ids
    assert drafted(speculator, IDS[:40], 9).draft_ids != long.draft_ids, "it attends further back"
    for sequence in (long, short):
        speculator.remove(sequence)
    assert speculator.cache.num_free == 12 - 3


def test_rejected_draft_tokens_leave_no_trace(part, open_head):
    """After a pass over rejected draft tokens, the next ones are those of a sequence that never had them."""
    model, head, _ = open_head()
    speculator = speculator_of(part, model, head)
    sequence = drafted(speculator, IDS[:20], 9)
    right, *wrong = sequence.draft_ids
    speculator.observe([(sequence, Chunk(token_ids=(9, right, *wrong), start=20, pages=()))], STATES[20:26])
    sequence.output_ids += [right, 11]
    speculator.propose({sequence: 5})
    speculator.check()
    fresh = drafted(speculator_of(part, model, head), (*IDS[:20], 9, right), 11)
    assert sequence.draft_ids == fresh.draft_ids


def test_the_configuration_is_a_llama_of_one_layer(tmp_path):
    directory = write_eagle(tmp_path)
    config = load_eagle_config(directory)
    assert (config.num_layers, config.norms, config.hidden_size) == (1, "between", 48)
    assert json.loads((directory / "config.json").read_text())["model_type"] == "eagle"
