"""The token that the sampling kernels choose, and its log-probabilities, are the reference's (N10)."""

import itertools

import numpy as np
import pytest

from verbatim.fastpath.gpu.operations import PEAKS_BYTES, ROW_STATE_BYTES, Operations, parts_of_row
from verbatim.fastpath.gpu.requests import draw_settings, joined
from verbatim.reference.records.errors import NumericsError
from verbatim.reference.records.request import SamplingParams
from verbatim.reference.sampling import rules as reference_sampling

VOCAB = 700
RANDOM = np.random.default_rng(0)
PROMPT, OUTPUT = (3, 5, 5, 699), [7, 7, 8, 3]
SETTINGS = {
    "greedy": {"temperature": 0},
    "plain": {},
    "hot": {"temperature": 1.7},
    "nearly cold": {"temperature": 1e-30},
    "top_k": {"top_k": 5},
    "top_k of one": {"top_k": 1},
    "top_k of all": {"top_k": VOCAB},
    "top_p": {"top_p": 0.6},
    "top_p of nothing": {"top_p": 1e-9},
    "min_p": {"min_p": 0.1},
    "all three": {"top_k": 40, "top_p": 0.9, "min_p": 0.02, "temperature": 1.3},
    "bias": {"logit_bias": {0: 6.0, 13: -100.0, 699: 5.0}},
    "repetition": {"repetition_penalty": 1.4},
    "greedy repetition": {"repetition_penalty": 0.5, "temperature": 0},
    "frequency and presence": {"frequency_penalty": 1.1, "presence_penalty": -0.7},
    "everything": {
        "repetition_penalty": 1.2, "frequency_penalty": 0.3, "presence_penalty": 0.2, "logit_bias": {7: 4.0},
        "top_k": 30, "top_p": 0.95, "min_p": 0.01,
    },
}  # fmt: skip


def logits(shape):
    if shape == "ties":
        return np.round(RANDOM.standard_normal(VOCAB)).astype(np.float32)
    if shape == "equal":
        return np.zeros(VOCAB, np.float32)
    return (RANDOM.standard_normal(VOCAB) * 3).astype(np.float32)


def draw_all(gpu, rows, asked, parts=1):
    """A token for each of `asked`: row, sampling, excluded ids, position, choice; `parts` blocks draw each."""
    settings = {}
    for place, (row, sampling, excluded, position, choice) in enumerate(asked):
        settings[place] = row, draw_settings(
            sampling, prompt_ids=PROMPT, output_ids=OUTPUT, position=position, choice=choice, excluded=excluded
        )  # fmt: skip
    result, address = gpu.buffer(len(asked), dtype=np.int32)
    records, lists = map(gpu.put, joined(settings))
    shape = len(asked), rows.shape[1]
    scratch = gpu.buffer(*shape)[1], gpu.buffer(*shape, dtype=np.uint64)[1]
    states, states_address = gpu.buffer(len(asked), ROW_STATE_BYTES, dtype=np.uint8)
    states[...] = 0
    sizes = {"draws": len(asked), "vocab": rows.shape[1], "parts": parts}
    Operations(gpu.launch).sample_rows(gpu.put(rows), records, lists, *scratch, states_address, address, **sizes)
    return result.tolist()


def draw(gpu, row, sampling, excluded=(), position=17, choice=2, parts=1):
    return draw_all(gpu, row[None], [(0, sampling, excluded, position, choice)], parts)[0]


def test_all_rows_of_a_step_at_once(gpu):
    """Each with settings, edits and a mask of its own; two draws may be of one row."""
    rows = np.stack([logits("usual"), logits("ties"), logits("usual")])
    masks = [(), (1, 2, 3, 650), tuple(range(0, VOCAB, 2))]
    names = ["everything", "greedy", "top_p", "bias", "plain"]
    asked = [(i % 3, SamplingParams(seed=i, **SETTINGS[name]), masks[i % 3], i, i) for i, name in enumerate(names)]
    rest = {"prompt_ids": PROMPT, "output_ids": OUTPUT}
    expected = [
        reference_sampling.sample(rows[row], sampling, position=p, choice=c, excluded=mask, **rest).token_id
        for row, sampling, mask, p, c in asked
    ]
    for parts in (1, 2, 3):
        assert draw_all(gpu, rows, asked, parts) == expected


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("shape", ["usual", "ties", "equal"])
@pytest.mark.parametrize("name", SETTINGS)
def test_the_token_drawn(gpu, name, shape, parts):
    """By one block, or by several that share the row."""
    row, excluded = logits(shape), tuple(int(i) for i in np.flatnonzero(RANDOM.random(VOCAB) < 0.3))
    for seed, mask in ((5, excluded), (-1, ())) if parts > 1 else itertools.product((0, -1, 2**63 + 5), ((), excluded)):
        sampling = SamplingParams(seed=seed, **SETTINGS[name])
        expected = reference_sampling.sample(
            row, sampling, prompt_ids=PROMPT, output_ids=OUTPUT, position=17, choice=2, excluded=mask
        )  # fmt: skip
        assert draw(gpu, row, sampling, mask, parts=parts) == expected.token_id


@pytest.mark.parametrize("name", ["hot", "top_k", "top_p", "min_p", "everything"])
def test_more_tokens_than_threads(gpu, name):
    """What one thread has stored another one reads."""
    row = (np.random.default_rng(3).standard_normal(2600) * 3).astype(np.float32)
    sampling = SamplingParams(seed=4, **SETTINGS[name])
    expected = reference_sampling.sample(row, sampling, prompt_ids=PROMPT, output_ids=OUTPUT, position=17, choice=2)
    assert [draw(gpu, row, sampling, parts=parts) for parts in (1, 2)] == [expected.token_id] * 2
    ids, i = gpu.buffer(1, 4, dtype=np.int32)
    logprobs, p = gpu.buffer(1, 4)
    places, tokens = gpu.put(np.array([[0], [0]], np.int32)), gpu.put(np.array([expected.token_id], np.int32))
    Operations(gpu.launch).score_rows(gpu.put(row), places, tokens, i, p, scores=1, vocab=2600, num_top=3)
    scored = reference_sampling.score(row, expected.token_id, 3)
    assert ids[0].tolist() == [expected.token_id, *(token_id for token_id, _ in scored.top)]
    assert logprobs[0].tolist() == [scored.logprob, *(logprob for _, logprob in scored.top)]


@pytest.mark.parametrize("parts", [2, 16])
def test_a_row_whose_tokens_kept_lie_in_one_part_or_in_each(gpu, parts):
    """Ends among equals, whose ranks go across parts; draws that fall into the first and the last part."""
    row, peaked = np.zeros(VOCAB, np.float32), np.full(VOCAB, -9, np.float32)
    peaked[690:] = 0
    for logits_of, top_k in ((row, 650), (peaked, 8)):
        for seed in range(4):
            sampling = SamplingParams(seed=seed, top_k=top_k)
            expected = reference_sampling.sample(
                logits_of, sampling, prompt_ids=PROMPT, output_ids=OUTPUT, position=17, choice=2
            )  # fmt: skip
            assert draw(gpu, logits_of, sampling, parts=parts) == expected.token_id


def test_many_positions_and_choices(gpu):
    row, sampling = logits("usual")[:50], SamplingParams(seed=9, temperature=2.0, top_p=0.97)
    rest = {"prompt_ids": PROMPT[:3], "output_ids": OUTPUT}
    cases = [(position, choice) for position in range(20) for choice in (0, 3)]
    expected = [reference_sampling.sample(row, sampling, position=p, choice=c, **rest).token_id for p, c in cases]
    assert len(set(expected)) > 10
    assert [draw(gpu, row, sampling, position=p, choice=c) for p, c in cases] == expected


def test_logits_that_are_no_numbers_are_told(gpu):
    row = logits("usual")
    row[690] = np.inf
    assert [draw(gpu, row, SamplingParams(seed=0), parts=parts) for parts in (1, 4)] == [-1, -1]
    row[690], row[699] = 0, 3e38
    punished = SamplingParams(seed=0, repetition_penalty=0.01)
    with pytest.raises(NumericsError, match="penalized"), np.errstate(over="ignore"):
        reference_sampling.sample(row, punished, prompt_ids=PROMPT, output_ids=OUTPUT, position=0, choice=0)
    assert [draw(gpu, row, punished, parts=parts) for parts in (1, 4)] == [-2, -2]
    row[0] = np.nan  # what is wrong before edits is told first, whichever part has it
    assert draw(gpu, row, punished, parts=4) == -1


@pytest.mark.parametrize(
    ("rows", "vocab", "blocks", "parts"),
    [
        (1, 128256, 132, 32), (64, 128256, 132, 2), (64, 128256, 40, 1), (8, 4000, 132, 4), (3, 896, 132, 1),
        (4, 1025, 7, 1),
    ],
)  # fmt: skip
def test_among_how_many_blocks_a_row_is_cut(rows, vocab, blocks, parts):
    """All of a launch must be on the device at once, and each is to have a token for each of its threads."""
    assert parts_of_row(rows, vocab, blocks) == parts


@pytest.mark.parametrize("shape", ["usual", "ties", "equal"])
@pytest.mark.parametrize("times", [1, 5])
def test_peaks(gpu, shape, times):
    """Of a row that one block reads, and of a longer one that several share."""
    rows = np.tile(np.stack([logits(shape), logits(shape), logits("usual")]), times)
    rows[2, 5] = np.nan
    found, address = gpu.buffer(3, 2, dtype=np.int32)
    parts = gpu.buffer(3, PEAKS_BYTES, dtype=np.uint8)[1]
    Operations(gpu.launch).find_peaks(gpu.put(rows), parts, address, rows=3, vocab=rows.shape[1])
    assert found[:2].tolist() == [[int(row.argmax()), 1] for row in rows[:2]]
    assert found[2, 1] == 0


@pytest.mark.parametrize("num_top", [0, 5, 20])
@pytest.mark.parametrize("shape", ["usual", "ties"])
def test_log_probabilities(gpu, shape, num_top):
    rows, tokens, places = np.stack([logits(shape), logits("usual")]), np.array([7, 41, 5]), np.array([[1, 0], [1, 2]])
    ids, i = gpu.buffer(2, 1 + num_top, dtype=np.int32)
    logprobs, p = gpu.buffer(2, 1 + num_top)
    addresses = gpu.put(rows), gpu.put(places.astype(np.int32)), gpu.put(tokens.astype(np.int32)), i, p
    Operations(gpu.launch).score_rows(*addresses, scores=2, vocab=VOCAB, num_top=num_top)
    for at, (row, token) in enumerate(((rows[1], 41), (rows[0], 5))):
        expected = reference_sampling.score(row, token, num_top)
        assert ids[at].tolist() == [token, *(token_id for token_id, _ in expected.top)]
        assert logprobs[at].tolist() == [expected.logprob, *(logprob for _, logprob in expected.top)]


def test_log_probabilities_of_a_row_that_is_no_number(gpu):
    """Nor of a token that could not be drawn."""
    rows = np.stack([logits("usual")] * 2)
    rows[0, 3] = -np.inf
    ids, i = gpu.buffer(2, 1, dtype=np.int32)
    places, tokens = gpu.put(np.array([[0, 1], [0, 1]], np.int32)), gpu.put(np.array([41, -2], np.int32))
    logprobs = gpu.buffer(2, 1)[1]
    Operations(gpu.launch).score_rows(gpu.put(rows), places, tokens, i, logprobs, scores=2, vocab=VOCAB, num_top=0)
    assert ids.tolist() == [[-1], [-1]]
