"""Every .cu kernel is its reference function, bit for bit, on the CPU emulator, in whatever order its threads run."""

import itertools

import numpy as np
import pytest

from gpu.kernel_inputs import numbers, on_device, same
from small_models import stored_bits
from verbatim.fastpath.gpu.formats import FLOATS as DTYPES
from verbatim.fastpath.gpu.formats import LAYOUTS, SHARED_BYTES, few_rows
from verbatim.fastpath.gpu.matrices import DeviceMatrix
from verbatim.fastpath.gpu.operations import Heads, Operations, Places
from verbatim.fastpath.gpu.packing import pack_floats, pack_integers
from verbatim.reference.checkpoint.weights import Tensor
from verbatim.reference.model import attention as reference_attention
from verbatim.reference.model import experts as reference_experts
from verbatim.reference.numerics import arithmetic as reference_numerics
from verbatim.reference.numerics.quantization import FORMATS, quantize
from verbatim.reference.records.experts import Experts
from verbatim.reference.records.limits import KV_CACHE_DTYPES


@pytest.mark.parametrize("dtype", DTYPES)
def test_embed(gpu, dtype):
    table = Tensor("embedding", dtype, stored_bits(numbers(1, 9, 37), dtype))
    ids = np.array([3, 0, 8, 3], np.int32)
    found, y = gpu.buffer(4, 37)
    Operations(gpu.launch).embed(DTYPES[dtype], gpu.put(ids), gpu.put(table.bits), y, rows=4, hidden=37, scale=1.5)
    same(found, table.float32()[ids] * np.float32(1.5))


def test_join(gpu):
    a, b = numbers(1, 3, 20), numbers(2, 3, 20)
    found, y = gpu.buffer(3, 40)
    Operations(gpu.launch).join(gpu.put(a), gpu.put(b), y, rows=3, hidden=20)
    same(found, np.concatenate([a, b], axis=1))


@pytest.mark.parametrize("size", [1, 31, 64, 333])
def test_rms_norm(gpu, size):
    x, weight, wanted = numbers(1, 7, size), numbers(2, size), np.array([6, 0, 3], np.int32)
    found, y = gpu.buffer(3, size)
    numbers_of = {"rows": 3, "size": size, "epsilon": 1e-5, "wanted": gpu.put(wanted)}
    Operations(gpu.launch).norm(gpu.put(x), gpu.put(weight), y, **numbers_of)
    same(found, reference_numerics.rms_norm(x[wanted], weight, 1e-5))
    Operations(gpu.launch).norm(gpu.put(x), 0, y, **numbers_of)
    same(found, x[wanted])


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("size", [1, 64, 333])
def test_layer_norm(gpu, size, has_bias):
    x, weight, bias = numbers(1, 3, size), numbers(2, size), numbers(3, size) if has_bias else None
    found, y = gpu.buffer(3, size)
    places, check = rounded(gpu, 3, size)
    shape = {"rows": 3, "size": size, "epsilon": 1e-5, "norm_type": "layer", "bias": gpu.put(bias), "rounded": places}
    Operations(gpu.launch).norm(gpu.put(x), gpu.put(weight), y, **shape)
    expected = reference_numerics.layer_norm(x, weight, bias, 1e-5)
    same(found, expected)
    check(expected)


def rounded(gpu, rows, inputs):
    """Where a kernel leaves integers and scales, and a check that they are what the reference makes of rows."""
    groups = -(-inputs // 32)
    (integers, q), (scales, s) = gpu.buffer(rows, groups, 32, dtype=np.int8), gpu.buffer(rows, groups)

    def check(x):
        for found, expected in zip((integers, scales), reference_numerics.quantize_activations(x), strict=True):
            same(found, expected)

    return (q, s), check


@pytest.mark.parametrize("size", [5, 64, 1100])
def test_rms_norm_rounds_on_its_way_out(gpu, size):
    x, weight = numbers(1, 2, size), numbers(2, size)
    found, y = gpu.buffer(2, size)
    places, check = rounded(gpu, 2, size)
    shape = {"rows": 2, "size": size, "epsilon": 1e-5, "rounded": places}
    Operations(gpu.launch).norm(gpu.put(x), gpu.put(weight), y, **shape)
    expected = reference_numerics.rms_norm(x, weight, 1e-5)
    same(found, expected)
    check(expected)


def test_rms_norm_of_heads_in_place(gpu):
    x, weight = numbers(3, 5, 100), numbers(4, 16)
    found, y = gpu.buffer(5, 100)
    found[...] = x
    shape = {"rows": 5, "heads": 3, "size": 16, "from_stride": 100, "to_stride": 100, "epsilon": 1e-6}
    Operations(gpu.launch).norm(y, gpu.put(weight), y, **shape)
    expected = x.copy()
    heads = reference_numerics.rms_norm(x[:, :48].reshape(5, 3, 16), weight, 1e-6)
    expected[:, :48] = heads.reshape(5, 48)
    same(found, expected)


def test_add_scaled(gpu):
    x, y = numbers(1, 300), numbers(2, 300)
    found, address = gpu.buffer(300)
    found[...] = x
    Operations(gpu.launch).add_scaled(address, gpu.put(y), scale=0.3, count=300)
    same(found, x + y * np.float32(0.3))


@pytest.mark.parametrize("spread", [0, 60])
@pytest.mark.parametrize("inputs", [1, 32, 100])
def test_quantize(gpu, inputs, spread):
    x = numbers(5, 6, inputs, spread=spread)
    groups = -(-inputs // 32)
    integers, q = gpu.buffer(6, groups, 32, dtype=np.int8)
    scales, s = gpu.buffer(6, groups)
    Operations(gpu.launch).quantize(gpu.put(x), q, s, rows=6, inputs=inputs)
    expected = reference_numerics.quantize_activations(x)
    same(integers, expected[0])
    same(scales, expected[1])


# rows, outputs, inputs
SHAPES = [(1, 5, 7), (1, 40, 2090), (2, 40, 256), (3, 33, 600), (8, 64, 300), (9, 70, 264), (70, 31, 520)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "outputs", "inputs"), SHAPES)
def test_linear(gpu, rows, outputs, inputs, dtype):
    stored = Tensor("w", dtype, stored_bits(numbers(1, outputs, inputs, spread=2), dtype))
    bias, x = numbers(2, outputs), numbers(3, rows, inputs)
    found, y = gpu.buffer(rows, outputs)
    Operations(gpu.launch).linear(on_device(gpu, pack_floats([stored], bias)), gpu.put(x), 0, y, rows=rows)
    same(found, reference_numerics.linear(x, stored.float32()) + bias)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("rows", "outputs", "inputs"), SHAPES)
def test_linear_of_integers(gpu, rows, outputs, inputs, format):
    weight, x = quantize("w", numbers(1, outputs, inputs, spread=2), format), numbers(3, rows, inputs)
    residual = numbers(4, rows, outputs)
    integers, scales = reference_numerics.quantize_activations(x)
    found, y = gpu.buffer(rows, outputs)
    found[...] = residual
    matrix = on_device(gpu, pack_integers([weight]))
    after = {"residual": y, "scale": 0.5}
    Operations(gpu.launch).linear(matrix, gpu.put(integers), gpu.put(scales), y, rows=rows, **after)
    same(found, residual + reference_numerics.linear_quantized(x, weight) * np.float32(0.5))


def test_stacked_matrices_are_their_parts(gpu):
    parts = [Tensor("a", "BF16", stored_bits(numbers(1, 40, 64), "BF16")), Tensor("b", "F32", numbers(2, 9, 64))]
    x = numbers(3, 4, 64)
    found, y = gpu.buffer(4, 49)
    Operations(gpu.launch).linear(on_device(gpu, pack_floats(parts)), gpu.put(x), 0, y, rows=4)
    same(found, np.concatenate([reference_numerics.linear(x, part.float32()) for part in parts], axis=1))


def stored(format, values):
    """A matrix's values as they are multiplied, and packed."""
    if format in FORMATS:
        weight = quantize("w", values, format)
        return weight, pack_integers([weight])
    dtype = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[format]
    tensor = Tensor("w", dtype, stored_bits(values, dtype))
    return tensor.float32(), pack_floats([tensor])


def product(x, weight):
    """The reference's, float or integer."""
    is_float = isinstance(weight, np.ndarray)
    return reference_numerics.linear(x, weight) if is_float else reference_numerics.linear_quantized(x, weight)


def operand(gpu, x, format):
    """Addresses of rows as a product takes them: floats, or integers and scales."""
    if format not in FORMATS:
        return gpu.put(x), 0
    return tuple(gpu.put(part) for part in reference_numerics.quantize_activations(x))


@pytest.mark.parametrize("format", ["float32", *FORMATS])
def test_rows_that_did_not_choose_an_expert_are_left_alone(gpu, format):
    rows, gates = 20, np.zeros((20, 2), np.float32)
    x, (weight, packed) = numbers(2, rows, 64), stored(format, numbers(1, 40, 64))
    gates[1, 1] = gates[2, 1] = 0.5
    found, y = gpu.buffer(rows, 40)
    untouched = found.copy()
    choice = {"gates": gpu.put(gates) + 4, "stride": 2}
    Operations(gpu.launch).linear(on_device(gpu, packed), *operand(gpu, x, format), y, rows=rows, **choice)
    same(found, np.where(gates[:, 1:] != 0, product(x, weight), untouched))


@pytest.mark.parametrize("share", [1, 2])
@pytest.mark.parametrize("format", ["float32", "bfloat16", *FORMATS])
def test_each_row_by_the_matrix_that_it_chose(gpu, format, share):
    """A stack of experts, of which the chosen ones alone are read."""
    experts = [stored(format, numbers(seed, 40, 300)) for seed in range(3)]
    x, chosen = numbers(9, 4 // share, 300), np.array([2, 0, 2, 1], np.int32)
    parts = [part for _, part in experts]
    weights = gpu.put(np.concatenate([part.weights for part in parts]))
    scales = gpu.put(np.concatenate([part.scales for part in parts]) if parts[0].scales is not None else None)
    biases = numbers(10, 3, 40)
    matrix = DeviceMatrix(format=format, outputs=40, inputs=300, weights=weights, scales=scales, bias=gpu.put(biases))
    found, y = gpu.buffer(4, 40)
    choice = {"chosen": gpu.put(chosen), "share": share}
    Operations(gpu.launch).linear(matrix, *operand(gpu, x, format), y, rows=4, **choice)
    for row, expert in enumerate(chosen):
        mine = x[row // share : row // share + 1]
        same(found[row : row + 1], product(mine, experts[expert][0]) + biases[expert])


def test_a_product_with_many_inputs_keeps_to_its_shared_memory():
    assert [few_rows(rows, 2048, "bfloat16")[:2] for rows in (1, 2, 3, 8)] == [(1, 4), (2, 4), (4, 4), (8, 4)]
    for rows, inputs, format in itertools.product((1, 8), (64, 14336, 28672, 53248), LAYOUTS):
        most, warps, shared = few_rows(rows, inputs, format)
        assert 1 <= most <= rows and 1 <= warps <= -(-inputs // 256) and 0 < shared <= SHARED_BYTES


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_gate(gpu, activation):
    both = numbers(1, 5, 2, 70, spread=7)
    found, y = gpu.buffer(5, 70)
    places, check = rounded(gpu, 5, 70)
    expected = reference_numerics.ACTIVATIONS[activation](both[:, 0]) * both[:, 1]
    Operations(gpu.launch).gate(activation, gpu.put(both), y, rows=5, intermediate=70, rounded=places)
    same(found, expected)
    check(expected)
    found[...] = 0
    Operations(gpu.launch).gate(activation, gpu.put(both), y, rows=5, intermediate=70)
    same(found, expected)


def test_activation_without_a_gate(gpu):
    up = numbers(1, 5, 70, spread=7)
    found, y = gpu.buffer(5, 70)
    Operations(gpu.launch).gate("gelu_tanh", gpu.put(up), y, rows=5, intermediate=70, has_gate=False)
    same(found, reference_numerics.gelu_tanh(up))


def test_clamped_gate(gpu):
    both = numbers(1, 5, 2, 70, spread=7)
    found, y = gpu.buffer(5, 70)
    limits = {"alpha": 1.702, "limit": 7.0}
    expected = reference_numerics.clamped_gate(both[:, 0], both[:, 1], **limits)
    Operations(gpu.launch).clamped_gate(gpu.put(both), y, rows=5, intermediate=70, **limits)
    same(found, expected)
    both[2, 1, 3] = np.nan
    Operations(gpu.launch).clamped_gate(gpu.put(both), y, rows=5, intermediate=70, **limits)
    assert np.flatnonzero(np.isnan(found)).tolist() == [2 * 70 + 3], "a clamp does not hide it"


def test_add_silu(gpu):
    x, y = numbers(1, 300), numbers(2, 300, spread=7)
    found, address = gpu.buffer(300)
    found[...] = x
    Operations(gpu.launch).add_silu(address, gpu.put(y), count=300)
    same(found, x + reference_numerics.silu(y))


@pytest.mark.parametrize("cap", [0.0, 30.0])
def test_finish_logits(gpu, cap):
    x = numbers(1, 300, spread=7)
    found, address = gpu.buffer(300)
    found[...] = x
    Operations(gpu.launch).finish_logits(address, divisor=3.0, cap=cap, count=300)
    same(found, reference_attention.softcap(x / np.float32(3), cap))


@pytest.mark.parametrize("is_normalized", [True, False])
@pytest.mark.parametrize(("experts", "per_token"), [(2, 1), (8, 2), (40, 8)])
def test_weigh_experts(gpu, experts, per_token, is_normalized):
    scores = np.round(numbers(1, 6, experts), 1)  # with ties
    found, y = gpu.buffer(6, experts)
    ids, chosen = gpu.buffer(6, per_token, dtype=np.int32)
    shape = {"rows": 6, "experts": experts, "per_token": per_token, "is_normalized": is_normalized}
    Operations(gpu.launch).weigh_experts(gpu.put(scores), y, chosen, **shape)
    settings = Experts(
        num_experts=experts, num_per_token=per_token, intermediate_size=1, is_normalized=is_normalized
    )  # fmt: skip
    expected = reference_experts.expert_weights(scores, settings)
    same(found, expected)
    assert [list(row) for row in ids] == [list(np.flatnonzero(row)) for row in expected]
    scores[2:4] = np.nan
    Operations(gpu.launch).weigh_experts(gpu.put(scores), y, chosen, **shape)
    assert ids.min() >= 0 and ids.max() < experts, "what follows reads there, whatever the scores are"


@pytest.mark.parametrize(("experts", "per_token"), [(2, 1), (16, 2), (40, 8)])
def test_weigh_sparsemixer(gpu, experts, per_token):
    scores = np.round(numbers(1, 6, experts), 1)  # with ties
    scores[5] = 0
    found, y = gpu.buffer(6, experts)
    ids, chosen = gpu.buffer(6, per_token, dtype=np.int32)
    shape = {"rows": 6, "experts": experts, "per_token": per_token, "tolerance": 0.02}
    Operations(gpu.launch).weigh_sparsemixer(gpu.put(scores), y, chosen, **shape)
    settings = Experts(
        num_experts=experts, num_per_token=per_token, intermediate_size=1, is_normalized=False, tolerance=0.02,
        routing="sparsemixer",
    )  # fmt: skip
    expected = reference_experts.expert_weights(scores, settings)
    same(found, expected)
    assert [list(row) for row in ids] == [list(np.flatnonzero(row)) for row in expected]
    scores[2:4] = np.nan
    Operations(gpu.launch).weigh_sparsemixer(gpu.put(scores), y, chosen, **shape)
    assert all(row[0] >= 0 and row[-1] < experts and (np.diff(row) > 0).all() for row in ids)


@pytest.mark.parametrize("has_gate", [False, True])
def test_add_shared(gpu, has_gate):
    total, y, scores = numbers(1, 4, 50), numbers(2, 4, 50), numbers(3, 4, 1)
    found, address = gpu.buffer(4, 50)
    found[...] = total
    places = gpu.put(y), gpu.put(scores) if has_gate else 0
    Operations(gpu.launch).add_shared(address, *places, rows=4, hidden=50)
    same(found, total + y * (reference_numerics.sigmoid(scores) if has_gate else np.float32(1)))


def test_add_chosen(gpu):
    y, gates = numbers(1, 3, 2, 50), np.zeros((3, 7), np.float32)
    chosen = np.array([[0, 6], [2, 3], [4, 5]], np.int32)
    np.put_along_axis(gates, chosen, np.array([[0.25, 0.75], [1, 0], [0.5, 0.5]], np.float32), axis=1)
    y[1, 1] = np.inf  # weighs nothing and is left out, as the reference does
    found, address = gpu.buffer(3, 50)
    places = gpu.put(y), gpu.put(gates), gpu.put(chosen)
    Operations(gpu.launch).add_chosen(address, *places, rows=3, experts=7, per_token=2, hidden=50)
    expected = np.zeros((3, 50), np.float32)
    for row, (first, second) in enumerate(chosen):
        expected[row] = expected[row] + y[row, 0] * gates[row, first]
        expected[row] = expected[row] + y[row, 1] * gates[row, second] if gates[row, second] else expected[row]
    same(found, expected)


def test_add_expert(gpu):
    total, y, gates = numbers(1, 4, 50), numbers(2, 4, 50), np.array([0, 0.25, 0, 1], np.float32)
    found, address = gpu.buffer(4, 50)
    found[...] = total
    Operations(gpu.launch).add_expert(address, gpu.put(y), gpu.put(gates), stride=1, rows=4, hidden=50)
    same(found, np.where(gates[:, None] != 0, total + y * gates[:, None], total))


def paged(gpu, keys, values, pages, num_pages):
    """Stored keys and values (tokens, kv_heads, head_dim) in pages, and nothing finite where no token is."""
    tokens, kv_heads, head_dim = keys.shape
    nothing = 0x7FFF if keys.dtype == np.uint16 else np.nan
    page_keys = np.full((num_pages, kv_heads, head_dim, 16), nothing, keys.dtype)
    page_values = np.full((num_pages, kv_heads, 16, head_dim), nothing, keys.dtype)
    for p in range(tokens):
        page_keys[pages[p // 16], :, :, p % 16], page_values[pages[p // 16], :, p % 16] = keys[p], values[p]
    return gpu.put(page_keys), gpu.put(page_values)


ATTENTION = [  # head_dim, heads, kv_heads, tokens before, tokens of the chunk, options
    (8, 4, 2, 0, 5, {}),
    (36, 6, 1, 60, 9, {}),
    (16, 3, 3, 130, 2, {"window": 70}),
    (16, 5, 1, 200, 3, {"window": 20, "sinks": 3}),
    (64, 2, 2, 64, 4, {"cap": 5.0}),
    (32, 4, 2, 100, 3, {"window": 80, "sink_scores": np.float32([3.0, -40.0, 0.0, 90.0])}),
    (256, 1, 1, 63, 2, {"scale": 0.05}),
    (544, 2, 1, 70, 2, {"sink_scores": np.float32([1.0, 2.0])}),
]


def attend(gpu, queries, keys, values, positions, dtype, in_parallel, options):
    """Attention of queries (tokens, heads, head_dim) over keys and values as they are stored, in pages in any order."""
    (tokens, heads, head_dim), (total, kv_heads, _) = queries.shape, keys.shape
    rows = np.zeros((tokens, heads + 2 * kv_heads, head_dim), np.float32)
    rows[:, :heads] = queries
    num_pages = -(-total // 16)
    pages = np.random.default_rng(4).permutation(num_pages + 3)[:num_pages].astype(np.int32)
    places = Places(
        positions=gpu.put(positions.astype(np.int32)), first_page=gpu.put(np.zeros(tokens, np.int32)),
        pages=gpu.put(pages),
    )  # fmt: skip
    cap = options.get("cap", 0.0)
    scale = reference_attention.query_scale(head_dim, options.get("scale"), cap)
    shape = Heads(
        heads=heads, kv_heads=kv_heads, head_dim=head_dim, scale=float(scale), cap=cap,
        scaled_cap=cap * reference_attention.LOG2E,
    )  # fmt: skip
    found, out = gpu.buffer(tokens, heads, head_dim)
    seen = {name: options[name] for name in ("window", "sinks") if name in options}
    if "sink_scores" in options:
        seen["sink_scores"] = gpu.put(options["sink_scores"] * np.float32(reference_attention.LOG2E))
    if in_parallel:
        key_blocks = -(-total // 64) + 1  # a graph may have buffer for more than there are
        seen |= {"parts": gpu.buffer(tokens, heads, key_blocks, 2 + head_dim)[1], "key_blocks": key_blocks}
    cached = paged(gpu, keys, values, pages, num_pages + 3)
    integers, check = rounded(gpu, tokens, heads * head_dim)
    seen |= {"rounded": integers} if in_parallel and head_dim % 32 == 0 else {}
    Operations(gpu.launch).attend(gpu.put(rows), *cached, places, out, shape, rows=tokens, dtype=dtype, **seen)
    if "rounded" in seen:
        check(found.reshape(tokens, -1))
    return found


@pytest.mark.parametrize("dtype", KV_CACHE_DTYPES)
@pytest.mark.parametrize("in_parallel", [False, True])
@pytest.mark.parametrize(("head_dim", "heads", "kv_heads", "before", "tokens", "options"), ATTENTION)
def test_attention(gpu, head_dim, heads, kv_heads, before, tokens, options, in_parallel, dtype):
    total = before + tokens
    keys, values = (reference_numerics.narrow(numbers(i, total, kv_heads, head_dim), dtype) for i in (1, 2))
    queries, positions = numbers(3, tokens, heads, head_dim), np.arange(before, total)
    found = attend(gpu, queries, keys, values, positions, dtype, in_parallel, options)
    same(found, reference_attention.attention(queries, keys, values, positions, **options))


@pytest.mark.parametrize("in_parallel", [False, True])
def test_attention_over_keys_that_float16_could_not_hold(gpu, in_parallel):
    keys, values, queries = numbers(1, 150, 2, 8), numbers(2, 150, 2, 8), numbers(3, 20, 6, 8)
    keys[[3, 70, 141], 0, 5] = 1e9, -1e9, 1e9
    stored, positions = [reference_numerics.narrow(x, "float16") for x in (keys, values)], np.arange(0, 140, 7)
    found = attend(gpu, queries, *stored, positions, "float16", in_parallel, {})
    with np.errstate(all="ignore"):
        expected = reference_attention.attention(queries, *stored, positions)
    is_number = ~np.isnan(expected)
    assert is_number[3:, :3].any() and not is_number.all(), "some of the rows that see an infinity are numbers"
    np.testing.assert_array_equal(np.isnan(found), ~is_number)
    same(found[is_number], expected[is_number])


@pytest.mark.parametrize("dtype", KV_CACHE_DTYPES)
@pytest.mark.parametrize("half", [0, 4, 8])
def test_rotate_and_store(gpu, half, dtype):
    growth = numbers(5, 40) if half == 4 else None
    heads, kv_heads, head_dim, rows, stored = 3, 2, 16, 4, KV_CACHE_DTYPES[dtype]
    x, tables = numbers(1, rows, heads + 2 * kv_heads, head_dim, spread=20), numbers(2, 2, 40, max(half, 1), spread=0)
    positions, pages = np.array([15, 16, 17, 3]), np.array([5, 2, 0, 4], np.int32)
    first_page = np.array([0, 0, 0, 2], np.int32)  # the last row is of another sequence
    found, address = gpu.buffer(*x.shape)
    found[...] = x
    keys, k = gpu.buffer(6, kv_heads, head_dim, 16, dtype=stored)
    values, v = gpu.buffer(6, kv_heads, 16, head_dim, dtype=stored)
    expected_keys, expected_values = keys.copy(), values.copy()
    places = Places(
        positions=gpu.put(positions.astype(np.int32)), first_page=gpu.put(first_page), pages=gpu.put(pages)
    )  # fmt: skip
    shape = Heads(heads=heads, kv_heads=kv_heads, head_dim=head_dim, scale=1.0)
    cosines, sines = tables
    table = (gpu.put(cosines), gpu.put(sines), half)
    options = {"dtype": dtype, "query_scales": gpu.put(growth)}
    Operations(gpu.launch).rotate_and_store(address, places, table, k, v, shape, rows=rows, **options)
    expected = x.copy()
    rotated = heads + kv_heads
    if half:
        expected_rotated = reference_numerics.rotate(x[:, :rotated], cosines[positions], sines[positions])
        expected[:, :rotated] = expected_rotated
    if growth is not None:
        expected[:, :heads] *= growth[positions][:, None, None]
    for row, position in enumerate(positions):
        page, place = pages[first_page[row] + position // 16], position % 16
        expected_keys[page, :, :, place] = reference_numerics.narrow(expected[row, heads:rotated], dtype)
        expected_values[page, :, place] = reference_numerics.narrow(expected[row, rotated:], dtype)
    same(found, expected)
    same(keys, expected_keys)
    same(values, expected_values)


def test_copy_page(gpu):
    keys, k = gpu.buffer(3, 5, 200)
    values, v = gpu.buffer(3, 5, 200)
    keys[...], values[...] = numbers(1, 3, 5, 200), numbers(2, 3, 5, 200)
    expected = keys.copy(), values.copy()
    for array in expected:
        array[:, 1] = array[:, 4]
    Operations(gpu.launch).copy_page(k, v, source=4, target=1, layers=3, pages=5, size=200)
    same(keys, expected[0])
    same(values, expected[1])
