"""A million draws follow the distribution that N10 defines, worked out beside it in decimals of fifty digits.

The chance that a right sampler fails one of the chi-square tests is one in a million, and the seeds are fixed: what
passes once passes always. Integer totals are checked exactly, since nothing about them is left to chance.
"""

import importlib
import math
from decimal import Decimal, localcontext

import numpy as np
import pytest

from verbatim.reference.records.request import SamplingParams

MILLION = 10**6
FEW = 20_000  # draws of the reference in `make test`; all of them in `make test-all`
SMALLEST_CELL = 10  # rarer tokens are counted together, as a chi-square asks for
MOST_Z = 4.7534  # what a standard normal exceeds once in a million
LOGITS = (np.random.default_rng(5).standard_normal(40) * 2).astype(np.float32)
PROMPT_IDS, OUTPUT_IDS, EXCLUDED = (1, 4, 4, 9), [4, 7, 7, 7, 12], (3, 11)
SETTINGS = {
    "plain": {},
    "cold": {"temperature": 0.6},
    "top_k": {"top_k": 7},
    "top_p": {"top_p": 0.83},
    "min_p": {"min_p": 0.07},
    "penalties": {"repetition_penalty": 1.3, "frequency_penalty": 0.7, "presence_penalty": -0.4},
    "everything": {
        "temperature": 1.4, "top_k": 20, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 0.8,
        "frequency_penalty": -0.2, "presence_penalty": 0.6, "logit_bias": {0: 3.5, 20: -4.0},
    },
}  # fmt: skip


def probabilities(params):
    """What every token's chance is by the words of N10, as decimals; rounding is not part of it."""
    with localcontext(prec=50):
        logits = [Decimal(float(logit)) for logit in LOGITS]
        for token_id, bias in params.logit_bias.items():
            logits[token_id] += Decimal(bias)
        for token_id in {*PROMPT_IDS, *OUTPUT_IDS}:
            penalty = Decimal(params.repetition_penalty)
            logits[token_id] = logits[token_id] * penalty if logits[token_id] < 0 else logits[token_id] / penalty
        for token_id in set(OUTPUT_IDS):
            logits[token_id] -= OUTPUT_IDS.count(token_id) * Decimal(params.frequency_penalty)
            logits[token_id] -= Decimal(params.presence_penalty)
        weights = {i: (logit / Decimal(params.temperature)).exp() for i, logit in enumerate(logits)}
        for token_id in EXCLUDED:
            del weights[token_id]
        order = sorted(weights, key=weights.get, reverse=True)[: params.top_k]
        total, running, kept = sum(weights[i] for i in order), Decimal(0), []
        for token_id in order:
            if running < Decimal(params.top_p) * total:
                kept.append(token_id)
            running += weights[token_id]
        kept = [i for i in kept if weights[i] >= Decimal(params.min_p) * weights[order[0]]]
        total = sum(weights[i] for i in kept)
        return np.array([float(weights[i] / total) if i in kept else 0.0 for i in range(len(logits))])


def z_of(counts, chances):
    """How far counts lie from their chances, in standard deviations: chi-square through Wilson and Hilferty's root."""
    assert counts[chances == 0].sum() == 0, "a token was drawn that cannot be"
    expected = chances * counts.sum()
    is_rare = expected < SMALLEST_CELL
    cells = np.append(expected[~is_rare], expected[is_rare].sum())
    found = np.append(counts[~is_rare], counts[is_rare].sum())
    cells, found = cells[cells > 0], found[cells > 0]
    freedom = len(cells) - 1
    chi_square = ((found - cells) ** 2 / cells).sum()
    spread = 2 / (9 * freedom)
    return (math.cbrt(chi_square / freedom) - 1 + spread) / math.sqrt(spread)


def num_draws(part):
    """A million, but fewer of the reference, which takes its time."""
    return FEW if part("sampling.rng").__name__.startswith("verbatim.reference") else MILLION


def counters(number):
    """(seed, position, choice) of each of `number` draws: many seeds, positions and choices, none of them twice."""
    return ((index // 5000, index // 5 % 1000, index % 5) for index in range(number))


@pytest.mark.parametrize("name", SETTINGS)
def test_draws_follow_the_exact_distribution(part, name):
    check_draws(part, num_draws(part), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_a_million_draws_of_the_reference(name):
    check_draws(lambda module: importlib.import_module(f"verbatim.reference.{module}"), MILLION, name)


def check_draws(part, number, name):
    sampling, random_bits = part("sampling.rules"), part("sampling.rng").random_bits
    params = SamplingParams(seed=0, **SETTINGS[name])
    weights = sampling.weigh(
        sampling.adjust(LOGITS, params, prompt_ids=PROMPT_IDS, output_ids=OUTPUT_IDS), params, EXCLUDED
    )
    draw = sampling.draw
    drawn = [draw(weights, random_bits(*counter)) for counter in counters(number)]
    counts, chances = np.bincount(drawn, minlength=len(LOGITS)), probabilities(params)
    assert counts.sum() == number
    assert abs(z_of(counts, chances)) < MOST_Z
    whole = [sample(part, params, counter) for counter in counters(200)]
    assert whole == drawn[:200], "`sample` is these steps"


def sample(part, params, counter):
    seed, position, choice = counter
    params = SamplingParams(**{name: getattr(params, name) for name in params.__slots__} | {"seed": seed})
    sampled = part("sampling.rules").sample(
        LOGITS, params, prompt_ids=PROMPT_IDS, output_ids=OUTPUT_IDS, position=position, choice=choice,
        excluded=EXCLUDED,
    )  # fmt: skip
    return sampled.token_id


def test_the_statistic_sees_a_small_mistake():
    """Seven draws in a thousand too many of the likeliest token, and one of an impossible one."""
    chances = probabilities(SamplingParams(seed=0))
    right = np.random.default_rng(1).multinomial(MILLION, chances)
    assert abs(z_of(right, chances)) < MOST_Z
    bent = chances.copy()
    bent[chances.argmax()] += 0.007
    assert z_of(np.random.default_rng(1).multinomial(MILLION, bent / bent.sum()), chances) > MOST_Z
    right[EXCLUDED[0]] = 1
    with pytest.raises(AssertionError, match="cannot be"):
        z_of(right, chances)


@pytest.mark.parametrize("neighbour", [(0, 1, 0), (0, 0, 1), (1, 0, 0), (0, 64, 0), (2**32, 0, 0), (0, 7, 1)])
def test_neighbouring_draws_know_nothing_of_each_other(part, neighbour):
    draw, random_bits = part("sampling.rules").draw, part("sampling.rng").random_bits
    weights = np.array([50, 20, 1, 30, 0, 25, 40, 9], np.uint64) << np.uint64(30)
    chances, pairs = weights / weights.sum(), np.zeros((8, 8), int)
    for seed, position, choice in counters(num_draws(part) // 4):
        here = 2 * seed, 2 * position, 2 * choice  # so that no draw is in two pairs
        there = (counter + step for counter, step in zip(here, neighbour, strict=True))
        pairs[draw(weights, random_bits(*here)), draw(weights, random_bits(*there))] += 1
    assert abs(z_of(pairs.ravel(), np.outer(chances, chances).ravel())) < MOST_Z


def test_weights_are_the_probabilities_in_forty_binary_places(part):
    logits = (np.random.default_rng(2).standard_normal(3000) * 4).astype(np.float32)
    weights = part("sampling.rules").weigh(logits, SamplingParams(temperature=0.7, seed=0))
    assert int(weights.max()) == 2**40
    with localcontext(prec=50):
        peak = Decimal(float(logits.max()))
        exact = [int(2**40 * ((Decimal(float(logit)) - peak) / Decimal("0.7")).exp()) for logit in logits]
    assert all(abs(int(ours) - weight) <= 1 + weight / 2**18 for ours, weight in zip(weights, exact, strict=True))


def test_every_token_owns_just_its_part_of_the_random_numbers(part):
    """Of the 2^64 values of R a token has those from ceil(2^64 * before / total) on, up to the next token's."""
    random = np.random.default_rng(3)
    for weights in (
        random.integers(0, 2**40, 50, np.uint64), np.array([0, 0, 1, 0, 2**40, 1, 0], np.uint64),
        random.integers(0, 3, 200).astype(np.uint64), np.array([2**40] * 7, np.uint64),
    ):  # fmt: skip
        total, before = sum(map(int, weights)), 0
        for token_id, weight in enumerate(map(int, weights)):
            first, past = -(-(before << 64) // total), -(-(before + weight << 64) // total)
            if weight:
                assert part("sampling.rules").draw(weights, first) == token_id
                assert part("sampling.rules").draw(weights, past - 1) == token_id
            before += weight
        assert before == total


def test_the_total_of_a_million_equal_tokens_is_exact(part):
    size = 2**20
    sampling = part("sampling.rules")
    weights = sampling.weigh(np.full(size, 3.25, np.float32), SamplingParams(seed=0))
    assert sum(map(int, weights)) == 2**60
    for bits in (0, 2**44 - 1, 2**44, 2**63, 2**64 - 2**44 - 1, 2**64 - 2**44, 2**64 - 1):
        assert sampling.draw(weights, bits) == bits >> 44
    half = sampling.keep_top_p(weights, sampling.fixed_point(0.5))
    assert (int(np.count_nonzero(half)), int(np.flatnonzero(half)[-1])) == (size // 2, size // 2 - 1)


def test_totals_do_not_depend_on_the_order_of_the_tokens(part):
    random = np.random.default_rng(4)
    logits = (random.standard_normal(2000) * 3).astype(np.float32)
    params = SamplingParams(seed=0, top_p=0.9, min_p=0.001)
    weights = part("sampling.rules").weigh(logits, params)
    for _ in range(5):
        order = random.permutation(2000)
        shuffled = part("sampling.rules").weigh(np.ascontiguousarray(logits[order]), params)
        assert sum(map(int, shuffled)) == sum(map(int, weights))
        assert shuffled.tolist() == weights[order].tolist()
