"""Every fast function equals its reference function, bit for bit, at every level, in memory full of garbage."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.poison import poisoned
from small_models import stored_bits
from verbatim.reference.checkpoint.weights import Tensor
from verbatim.reference.model import attention as reference_attention
from verbatim.reference.numerics import arithmetic as reference_numerics
from verbatim.reference.numerics import recurrence as reference_recurrence
from verbatim.reference.numerics.quantization import FORMATS, quantize
from verbatim.reference.records.limits import KV_CACHE_DTYPES
from verbatim.reference.records.request import SamplingParams
from verbatim.reference.sampling import rng as reference_rng
from verbatim.reference.sampling import rules as reference_sampling

fast_attention = pytest.importorskip("verbatim.fastpath.model.attention", reason="the fast path is not built")
from verbatim.fastpath.numerics import arithmetic as numerics  # noqa: E402
from verbatim.fastpath.numerics import recurrence  # noqa: E402
from verbatim.fastpath.sampling import rng  # noqa: E402
from verbatim.fastpath.sampling import rules as sampling  # noqa: E402

pytestmark = pytest.mark.usefixtures("level")
PARITY = settings(deadline=None, max_examples=60, print_blob=True)
SEEDS = st.integers(0, 2**32 - 1)
ROWS = st.integers(1, 11)
SIZES = st.one_of(st.integers(1, 80), st.integers(200, 600))
SPREADS = st.sampled_from([0, 1, 8, 30])
STORED = st.sampled_from(list(KV_CACHE_DTYPES))
SPECIAL = np.array([0.0, -0.0, 1e-45, -1e-45, 1e-39, 1.0, -1.0, 2.0**-100, 2.0**-101], np.float32)


def numbers(seed, *shape, spread=1):
    """Normal numbers over 2^±spread, with zeros of both signs and subnormals among them."""
    random = np.random.default_rng([seed, *shape])
    values = random.standard_normal(shape) * np.exp2(random.integers(-spread, spread + 1, shape).astype(float))
    is_special = random.random(shape) < 0.05
    return np.where(is_special, random.choice(SPECIAL, shape), values.astype(np.float32))


def same(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    bits = {4: np.uint32, 8: np.uint64, 2: np.uint16, 1: np.uint8}[found.dtype.itemsize]
    np.testing.assert_array_equal(found.view(bits), expected.view(bits))


def both(name, *arguments):
    """Call the function of that name in both packages, the fast one in poisoned memory, and compare."""
    expected = getattr(reference_numerics, name)(*arguments)
    with poisoned():
        found = getattr(numerics, name)(*arguments)
    same(found, expected)


@PARITY
@given(SEEDS, ROWS, SIZES, SPREADS, STORED)
def test_narrow_and_widen(seed, rows, length, spread, dtype):
    x = numbers(seed, rows, length, spread=spread)
    both("narrow", x, dtype)
    both("widen", reference_numerics.narrow(x, dtype))


@pytest.mark.parametrize("dtype", KV_CACHE_DTYPES)
def test_narrow_on_a_sweep_of_all_floats(dtype):
    x = np.arange(0, 2**32, 4_099, dtype=np.uint64).astype(np.uint32).view(np.float32)
    is_nan = np.isnan(x)
    both("narrow", x[~is_nan], dtype)
    assert np.isnan(numerics.widen(numerics.narrow(x[is_nan], dtype))).all()


@PARITY
@given(SEEDS, ROWS, SIZES, SPREADS)
def test_lane_sum(seed, rows, length, spread):
    both("lane_sum", numbers(seed, rows, length, spread=spread))


@PARITY
@given(SEEDS, ROWS, SIZES, SIZES, SPREADS)
def test_linear(seed, rows, inputs, outputs, spread):
    both("linear", numbers(seed, rows, inputs, spread=spread), numbers(seed, outputs, inputs, spread=spread))


@PARITY
@given(SEEDS, ROWS, SIZES, SIZES, st.sampled_from(["F32", "F16", "BF16"]))
def test_linear_with_weights_as_stored(seed, rows, inputs, outputs, dtype):
    x, weight = numbers(seed, rows, inputs), numbers(seed + 1, outputs, inputs, spread=8)
    tensor = Tensor("w", dtype, stored_bits(weight, dtype))
    with poisoned():
        found = numerics.linear_stored(x, tensor)
    same(found, reference_numerics.linear(x, tensor.float32()))


def test_every_finite_float16_is_widened_exactly():
    bits = np.arange(2**16, dtype=np.uint16)
    halves = bits.view(np.float16)
    halves = halves[np.isfinite(halves) & (bits != 0x8000)][:, None]  # +0 + -0 * 1 is +0
    found = numerics.linear_stored(np.ones((1, 1), np.float32), Tensor("w", "F16", halves))
    same(found[0], halves[:, 0].astype(np.float32))


@PARITY
@given(SEEDS, ROWS, SIZES, SPREADS)
def test_quantize_activations(seed, rows, inputs, spread):
    x = numbers(seed, rows, inputs, spread=spread)
    with poisoned():
        integers, scales = numerics.quantize_activations(x)
    expected_integers, expected_scales = reference_numerics.quantize_activations(x)
    same(integers, expected_integers)
    same(scales, expected_scales)


@PARITY
@given(SEEDS, ROWS, SIZES, SIZES, SPREADS, st.sampled_from(FORMATS))
def test_linear_quantized(seed, rows, inputs, outputs, spread, quantization):
    weight = quantize("w", numbers(seed, outputs, inputs, spread=min(spread, 8)), quantization)
    both("linear_quantized", numbers(seed + 1, rows, inputs, spread=spread), weight)


@pytest.mark.parametrize("quantization", FORMATS)
def test_linear_quantized_at_the_largest_integers(quantization):
    signs = np.sign(numbers(3, 40, 320)) + (numbers(3, 40, 320) == 0)
    weight = quantize("w", signs.astype(np.float32), quantization)
    both("linear_quantized", signs[:5].astype(np.float32), weight)
    lowest = np.full_like(weight.integers, weight.integers.min())
    both("linear_quantized", np.ones((3, 320), np.float32), replace(weight, integers=lowest))


@PARITY
@given(SEEDS, ROWS, SIZES, SPREADS, st.sampled_from([1e-12, 1e-6, 1e-5]))
def test_rms_norm(seed, rows, length, spread, epsilon):
    both("rms_norm", 1 + numbers(seed, rows, length, spread=spread), numbers(seed + 1, length), epsilon)


@PARITY
@given(SEEDS, ROWS, SIZES, SPREADS, st.sampled_from([1e-12, 1e-5]), st.booleans())
def test_layer_norm(seed, rows, length, spread, epsilon, has_bias):
    bias = numbers(seed + 2, length) if has_bias else None
    both("layer_norm", 1 + numbers(seed, rows, length, spread=spread), numbers(seed + 1, length), bias, epsilon)


@PARITY
@given(SEEDS, ROWS, st.integers(1, 9), st.integers(1, 70))
def test_rotate(seed, tokens, heads, half):
    both("rotate", numbers(seed, tokens, heads, 2 * half), numbers(seed, tokens, half), numbers(seed + 1, tokens, half))


@PARITY
@given(SEEDS, SIZES, SPREADS)
def test_exponentials(seed, length, spread):
    x = numbers(seed, length, spread=spread)
    both("exp2", x)
    both("silu", x)
    both("sigmoid", x)
    both("gelu_tanh", x)
    both("tanh", x)
    both("relu2", x)
    both("log2", np.maximum(np.abs(x), np.float32(1e-37)))


@PARITY
@given(SEEDS, SIZES, SPREADS, st.sampled_from([0.3, 7.0]))
def test_clamped_gate(seed, length, spread, limit):
    both("clamped_gate", numbers(seed, length, spread=spread), numbers(seed + 1, length, spread=spread), 1.702, limit)


@PARITY
@given(SEEDS, SIZES, SPREADS, st.sampled_from([1, 2, 3]), st.booleans(), st.booleans())
def test_softplus_and_gated_norms(seed, length, spread, num_groups, norms_first, has_weight):
    x, gate = (numbers(seed + i, 3, num_groups * length, spread=spread) for i in range(2))
    weight = numbers(seed, num_groups * length) if has_weight else None
    with poisoned():
        found = (
            recurrence.softplus(x),
            recurrence.gated_norm(x, gate, weight, 1e-5, num_groups=num_groups, norms_first=norms_first),
        )
    same(found[0], reference_recurrence.softplus(x))
    same(found[1], reference_recurrence.gated_norm(
        x, gate, weight, 1e-5, num_groups=num_groups, norms_first=norms_first
    ))  # fmt: skip


def test_softplus_on_a_sweep_of_all_floats():
    x = np.arange(0, 2**32, 40_009, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = x[np.isfinite(x)]
    with np.errstate(over="ignore"):
        same(recurrence.softplus(x), reference_recurrence.softplus(x))


def test_exponentials_on_a_sweep_of_all_floats():
    x = np.arange(0, 2**32, 40_009, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = x[np.isfinite(x)]
    with np.errstate(over="ignore"):
        both("exp2", x)
        both("silu", x)
        both("tanh", x)
    both("log2", x[x >= np.finfo(np.float32).tiny])


@PARITY
@given(
    SEEDS, st.integers(1, 9), st.integers(1, 3), st.integers(1, 5), st.sampled_from([2, 8, 10, 16, 24, 64, 80, 128]),
    st.integers(1, 200), SPREADS, st.sampled_from([None, 0.1, 1.0]), st.sampled_from([None, 0.7, 50.0]),
    st.one_of(st.none(), st.integers(1, 150)), st.one_of(st.just(0), st.integers(1, 140)), STORED, st.booleans(),
    st.one_of(st.none(), st.integers(1, 150)),
)  # fmt: skip
def test_attention(
    seed,
    tokens,
    kv_heads,
    shared_by,
    head_dim,
    num_keys,
    spread,
    scale,
    cap,
    window,
    sinks,
    dtype,
    has_sink_scores,
    chunk,
):
    shape = (num_keys, kv_heads, head_dim)
    stored = [reference_numerics.narrow(numbers(seed + i, *shape, spread=min(spread, 8)), dtype) for i in range(2)]
    queries = numbers(seed + 2, tokens, kv_heads * shared_by, head_dim, spread=min(spread, 8))
    positions = np.random.default_rng(seed).integers(0, num_keys, tokens)
    positions = np.sort(positions) if seed % 2 else positions
    scores = numbers(seed + 3, kv_heads * shared_by, spread=spread) if has_sink_scores else None
    options = {"scale": scale, "cap": cap, "window": window, "sinks": sinks, "sink_scores": scores}
    if chunk:  # in place of a window
        options |= {"window": None, "sinks": 0, "chunk": chunk}
    with poisoned():
        found = fast_attention.attention(queries, *stored, positions, **options)
    same(found, reference_attention.attention(queries, *stored, positions, **options))


@PARITY
@given(SEEDS, st.integers(1, 9), st.integers(1, 70), st.sampled_from([2, 8, 16]), st.integers(1, 70),
       st.integers(1, 200), SPREADS, st.one_of(st.none(), st.integers(1, 150)), STORED)  # fmt: skip
def test_latent_attention(seed, tokens, heads, rotated, rank, num_keys, spread, window, dtype):
    keys = reference_numerics.narrow(numbers(seed, num_keys, 1, rotated + rank, spread=min(spread, 8)), dtype)
    queries = numbers(seed + 2, tokens, heads, rotated + rank, spread=min(spread, 8))
    positions = np.random.default_rng(seed).integers(0, num_keys, tokens)
    arguments, options = (queries, keys, keys[..., rotated:], positions), {"scale": 0.1, "window": window}
    with poisoned():
        found = fast_attention.attention(*arguments, **options)
    same(found, reference_attention.attention(*arguments, **options))


@PARITY
@given(SEEDS, st.integers(1, 9), st.integers(1, 150), st.sampled_from([None, 0.7]), st.sampled_from([0.002, 0.2]))
def test_attention_over_keys_that_float16_could_not_hold(seed, tokens, num_keys, cap, share):
    """An infinite key weighs nothing or makes its row NaN; rows without NaN are equal, bit for bit."""
    random = np.random.default_rng(seed)
    keys, values = numbers(seed, num_keys, 2, 8), numbers(seed + 1, num_keys, 2, 8)
    keys[random.random(keys.shape) < share / 8] *= np.float32(1e9)
    stored = [reference_numerics.narrow(x, "float16") for x in (keys, values)]
    arguments = numbers(seed + 2, tokens, 6, 8), *stored, random.integers(0, num_keys, tokens)
    with poisoned():
        found = fast_attention.attention(*arguments, cap=cap)
    with np.errstate(all="ignore"):
        expected = reference_attention.attention(*arguments, cap=cap)
    is_number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), ~is_number)
    same(found[is_number], expected[is_number])


@PARITY
@given(st.integers(-(2**63), 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 127))
def test_random_bits(seed, position, choice):
    assert rng.random_bits(seed, position, choice) == reference_rng.random_bits(seed, position, choice)


def logits_with_ties(seed, length, spread):
    values = numbers(seed, length, spread=min(spread, 4)) * 3
    return np.round(values, 1).astype(np.float32) if seed % 2 else values


def choose_params(seed):
    """Random sampling parameters, each often at its neutral value."""
    random = np.random.default_rng(seed)

    def maybe(value, neutral):
        return value if random.random() < 0.5 else neutral

    return SamplingParams(
        temperature=maybe(float(random.choice([0, 1e-30, 0.3, 2])), 1.0), top_p=maybe(random.random() ** 2, 1.0),
        top_k=maybe(int(random.integers(1, 50)), None), min_p=maybe(random.random() ** 3, 0.0),
        repetition_penalty=maybe(random.random() + 0.5, 1.0), frequency_penalty=maybe(random.random(), 0.0),
        presence_penalty=maybe(-random.random(), 0.0), logit_bias=maybe({0: 3.5}, {}), seed=seed,
        logprobs=maybe(int(random.integers(0, 21)), None),
    )  # fmt: skip


@settings(PARITY, max_examples=200)
@given(SEEDS, st.one_of(st.integers(4, 40), st.integers(500, 3000)), SPREADS)
def test_sampling(seed, length, spread):
    random, params = np.random.default_rng(seed), choose_params(seed)
    logits = logits_with_ties(seed, length, spread)
    excluded = tuple(random.choice(length, random.integers(0, 3), replace=False).tolist())
    prompt_ids, output_ids = tuple(random.integers(0, length, 9).tolist()), random.integers(0, length, 7).tolist()
    context = {"prompt_ids": prompt_ids, "output_ids": output_ids}
    found = sampling.sample(logits, params, position=3, choice=1, excluded=excluded, **context)
    expected = reference_sampling.sample(logits, params, position=3, choice=1, excluded=excluded, **context)
    assert (found.token_id, found.logprob, found.top) == (expected.token_id, expected.logprob, expected.top)
    adjusted = reference_sampling.adjust(logits, params, **context)
    same(sampling.adjust(logits, params, **context), adjusted)
    for rule in ("mask", "temperature", "top_k", "top_p", "min_p"):
        expected = reference_sampling.weigh(adjusted, params, excluded, last_rule=rule)
        with poisoned():
            found = sampling.weigh(adjusted, params, excluded, last_rule=rule)
        same(found, expected)
    same(sampling.log_softmax(logits), reference_sampling.log_softmax(logits))


@PARITY
@given(st.lists(st.sampled_from([-np.inf, -3e38, -1.5, -1e-45, -0.0, 0.0, 1e-45, 2.0, 3e38]), min_size=1, max_size=5),
       SEEDS, st.integers(1, 300))  # fmt: skip
def test_the_largest_of_few_values(values, seed, length):
    logits = np.random.default_rng(seed).choice(np.array(values, np.float32), length)
    assert sampling.greedy(logits) == reference_sampling.greedy(logits)


@PARITY
@given(SEEDS, st.integers(1, 200), st.integers(0, 40), st.integers(0, 2**32), st.integers(0, 2**64 - 1))
def test_rules_on_any_weights(seed, length, bits, fraction, random_bits):
    weights = np.random.default_rng(seed).integers(0, 2**bits + 1, length).astype(np.uint64)
    for name, bound in (("keep_top_k", 1 + seed % 70), ("keep_top_p", fraction), ("keep_min_p", fraction)):
        same(getattr(sampling, name)(weights, bound), getattr(reference_sampling, name)(weights, bound))
    assert sampling.draw(weights, random_bits) == reference_sampling.draw(weights, random_bits)
