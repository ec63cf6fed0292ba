"""From logits to a token: integer weights, rules that each narrow what the one before left, one stated draw (N10)."""

import math

import numpy as np
import pytest

from verbatim.reference.records.errors import NumericsError
from verbatim.reference.records.request import SamplingParams

WEIGHTS = np.array([5, 0, 30, 20, 30, 15], np.uint64)


def logits_of(*values):
    return np.array(values, np.float32)


def sample(part, logits, position=3, excluded=(), prompt_ids=(), output_ids=(), choice=0, **params):
    return part("sampling.rules").sample(
        logits, SamplingParams(**{"seed": 1} | params), prompt_ids=prompt_ids, output_ids=output_ids, position=position,
        choice=choice, excluded=excluded,
    )  # fmt: skip


def test_greedy_takes_the_largest_and_the_lowest_id_of_equals(part):
    assert sample(part, logits_of(1, 3, 2, 3), temperature=0).token_id == 1
    assert sample(part, logits_of(1, 3, 2, 3), temperature=0, excluded=(1,)).token_id == 3


def test_weights_are_fixed_point_with_the_likeliest_at_two_to_the_40(part):
    logits = logits_of(0, 1, -1, -200)
    weights = part("sampling.rules").weigh(logits, SamplingParams(temperature=0.5))
    assert weights.dtype == np.uint64
    assert weights[1] == 2**40
    assert weights[3] == 0
    np.testing.assert_allclose(weights[:3] / 2**40, np.exp((logits[:3] - 1) * 2.0), rtol=1e-6)


def test_excluded_tokens_weigh_nothing_and_set_no_peak(part):
    weights = part("sampling.rules").weigh(logits_of(9, 1, 0), SamplingParams(), excluded=(0,))
    assert weights[0] == 0
    assert weights[1] == 2**40


def test_top_k_keeps_the_heaviest_and_the_lower_id_of_equals(part):
    keep = part("sampling.rules").keep_top_k
    assert keep(WEIGHTS, 1).tolist() == [0, 0, 30, 0, 0, 0]
    assert keep(WEIGHTS, 3).tolist() == [0, 0, 30, 20, 30, 0]
    assert keep(WEIGHTS, 99).tolist() == WEIGHTS.tolist()


@pytest.mark.parametrize(
    ("numerator", "kept"),
    [
        (0, [0, 0, 30, 0, 0, 0]),  # at least one
        (30, [0, 0, 30, 0, 0, 0]),  # reached exactly
        (31, [0, 0, 30, 0, 30, 0]),
        (80, [0, 0, 30, 20, 30, 0]),
        (81, [0, 0, 30, 20, 30, 15]),
        (100, [5, 0, 30, 20, 30, 15]),
    ],
)
def test_top_p_keeps_the_shortest_prefix(part, numerator, kept):
    fraction = -(-numerator * 2**32 // 100)  # rounded up, so that the product is the numerator again
    assert part("sampling.rules").keep_top_p(WEIGHTS, fraction).tolist() == kept


def test_min_p_keeps_what_weighs_a_part_of_the_heaviest(part):
    keep = part("sampling.rules").keep_min_p
    assert keep(WEIGHTS, 2**31).tolist() == [0, 0, 30, 20, 30, 15]
    assert keep(WEIGHTS, 2**32).tolist() == [0, 0, 30, 0, 30, 0]


def test_rules_apply_in_order_up_to_the_last_one_named(part):
    logits = np.log(logits_of(5, 1, 30, 20, 30, 14))
    params = SamplingParams(top_k=4, top_p=0.6, min_p=0.9)
    kept = {rule: np.flatnonzero(part("sampling.rules").weigh(logits, params, last_rule=rule)).tolist()
            for rule in ("temperature", "top_k", "top_p", "min_p")}  # fmt: skip
    assert kept == {"temperature": [0, 1, 2, 3, 4, 5], "top_k": [2, 3, 4, 5], "top_p": [2, 4], "min_p": [2, 4]}


def test_the_draw_is_the_first_token_whose_running_sum_exceeds_the_threshold(part):
    draw = part("sampling.rules").draw
    counts = np.zeros(6, int)
    for step in range(100):
        counts[draw(WEIGHTS, -(-step * 2**64 // 100))] += 1
    assert counts.tolist() == WEIGHTS.tolist()
    assert draw(WEIGHTS, 0) == 0
    assert draw(WEIGHTS, 2**64 - 1) == 5
    assert draw(np.array([0, 2**60, 0], np.uint64), 2**64 - 1) == 1


def test_draws_follow_the_probabilities(part):
    logits = np.log(logits_of(1, 2, 3, 4))
    counts = np.bincount([sample(part, logits, position=i).token_id for i in range(2000)], minlength=4)
    np.testing.assert_allclose(counts / 2000, [0.1, 0.2, 0.3, 0.4], atol=0.04)


def test_a_draw_depends_on_seed_position_and_choice_alone(part):
    logits = np.zeros(1000, np.float32)
    again = {sample(part, logits).token_id for _ in range(3)}
    assert len(again) == 1
    others = {sample(part, logits, **change).token_id for change in ({"seed": 2}, {"position": 4}, {"choice": 1})}
    assert len(others | again) == 4


def test_penalties_change_what_was_seen_and_said(part):
    params = SamplingParams(logit_bias={3: 2.5}, repetition_penalty=2.0, frequency_penalty=0.5, presence_penalty=0.25)
    adjusted = part("sampling.rules").adjust(
        logits_of(4, -4, 4, 4, 4), params, prompt_ids=(0, 1, 0), output_ids=[1, 2, 2]
    )
    assert adjusted.tolist() == [2, -8 - 0.5 - 0.25, 2 - 1 - 0.25, 6.5, 4]


def test_adjusting_leaves_the_logits_alone(part):
    logits = logits_of(1, 2)
    part("sampling.rules").adjust(logits, SamplingParams(logit_bias={0: 1.0}), prompt_ids=(), output_ids=[1])
    assert logits.tolist() == [1, 2]


def test_logprobs_are_those_of_the_raw_logits(part):
    logits = logits_of(1, 3, 2, 3)
    sampled = sample(part, logits, temperature=0, logit_bias={2: 50.0}, logprobs=3)
    exact = logits - np.log(np.exp(logits.astype(np.float64)).sum())
    assert sampled.token_id == 2
    assert sampled.logprob == pytest.approx(exact[2], abs=1e-6)
    assert [token_id for token_id, _ in sampled.top] == [1, 3, 2]
    assert [logprob for _, logprob in sampled.top] == pytest.approx(exact[[1, 3, 2]], abs=1e-6)
    assert sample(part, logits).logprob is None
    assert sample(part, logits, logprobs=0).top == ()


def test_log_softmax_of_a_large_vocabulary(part):
    logits = np.random.default_rng(0).standard_normal(50_000).astype(np.float32) * 5
    exact = logits.astype(np.float64) - logits.max()
    exact -= math.log(np.exp(exact).sum())
    np.testing.assert_allclose(part("sampling.rules").log_softmax(logits), exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_no_number_is_an_error_with_the_position(part, value):
    with pytest.raises(NumericsError, match="a logit for position 3 is not a finite number"):
        sample(part, logits_of(1, value, 2))
