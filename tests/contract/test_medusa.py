"""Medusa heads: blocks over the model's state, scored by its own output layer or by theirs."""

import numpy as np
import pytest

from small_models import write_medusa, write_model
from verbatim.reference.checkpoint.medusa import load_medusa
from verbatim.reference.records.request import Request, SamplingParams
from verbatim.reference.records.sequence import Chunk, Sequence

STATES = np.random.default_rng(3).standard_normal((5, 48)).astype(np.float32)


@pytest.fixture
def model(part, tmp_path):
    return part("backend").load_model(write_model(tmp_path / "model"))


def heads_in(part, directory, **settings):
    return part("speculation.medusa").MedusaHeads(load_medusa(write_medusa(directory, **settings)))


def test_a_head_that_adds_nothing_says_what_the_model_says(part, model, tmp_path):
    heads = heads_in(part, tmp_path, scale=0)
    assert len(heads) == 3
    scores = heads.score(STATES, 2, model)
    assert (scores.dtype, scores.shape) == (np.float32, (2, 5, 96))
    for head in scores:
        np.testing.assert_array_equal(head, model.score(STATES))


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize("has_outputs", [False, True])
def test_scores_are_blocks_and_a_product_in_the_stated_order(part, model, tmp_path, dtype, has_outputs):
    linear, silu = part("numerics.arithmetic").linear, part("numerics.arithmetic").silu
    heads = heads_in(part, tmp_path, dtype=dtype, has_outputs=has_outputs)
    stored, found = load_medusa(tmp_path), heads.score(STATES, 3, model)
    assert len(stored.outputs) == 3 * has_outputs
    for head, blocks in enumerate(stored.blocks):
        x = STATES
        for block in blocks:
            x = x + silu(linear(x, block.weight.float32()) + block.bias.float32())
        expected = linear(x, stored.outputs[head].weight.float32()) if has_outputs else model.score(x)
        np.testing.assert_array_equal(found[head], expected)


def test_a_row_does_not_depend_on_its_neighbours(part, model, tmp_path):
    heads = heads_in(part, tmp_path)
    everything = heads.score(STATES, 3, model)
    for row in range(5):
        np.testing.assert_array_equal(heads.score(STATES[row : row + 1], 3, model)[:, 0], everything[:, row])


def test_draft_tokens_come_from_the_state_of_the_token_before_the_last(part, model, tmp_path):
    """That is the state that the last token was drawn from, wherever in its chunk it lies."""
    heads = heads_in(part, tmp_path)
    speculator = part("speculation.medusa").MedusaSpeculator(model, heads)
    wanted = Request(request_id="a", prompt_ids=(5, 6, 7), sampling=SamplingParams(temperature=0))
    sequence, fork = (Sequence(request=wanted, output_ids=[8]) for _ in range(2))
    speculator.observe([(sequence, Chunk(token_ids=(6, 7, 1, 2), start=1, pages=(0,)))], STATES[:4])
    speculator.branch(sequence, [fork])
    expected = heads.score(STATES[1:2], 3, model)[:, 0].argmax(axis=-1).tolist()
    speculator.propose({sequence: 7, fork: 2})
    assert (sequence.draft_ids, fork.draft_ids) == (expected, expected[:2])
    speculator.propose({sequence: 0})
    assert sequence.draft_ids == []
