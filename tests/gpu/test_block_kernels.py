"""Products and embedding rows of the formats of GGUF files and other tools (N4g), bit for bit the reference."""

import numpy as np
import pytest

from gpu.kernel_inputs import BLOCKS, GROUPS, integers_of, numbers, on_device, same
from verbatim.fastpath.gpu.formats import LAYOUTS, widest
from verbatim.fastpath.gpu.matrices import Joined
from verbatim.fastpath.gpu.operations import Operations
from verbatim.fastpath.gpu.packing import pack_integers, pack_stacks, stacked
from verbatim.reference.checkpoint.tensors import Matrix
from verbatim.reference.checkpoint.weights import Tensor
from verbatim.reference.numerics.arithmetic import linear_quantized, linear_superblocks, quantize_activations
from verbatim.reference.numerics.quantization import SuperblockTensor, quantize
from verbatim.reference.records.errors import BackendError

# rows, outputs, inputs; of blocks always whole ones
SHAPES = [(1, 40, 2304), (8, 33, 512), (70, 31, 768)]
MORE = [(1, 5, 256), (2, 64, 256), (3, 33, 1280), (9, 70, 256), (64, 32, 2048)]
EVERY = [*SHAPES, *[pytest.param(*shape, marks=pytest.mark.slow) for shape in MORE]]
ALIKE = [pytest.param(format, marks=pytest.mark.slow) for format in ("I8_SCALE", "Q5_1")]
UNEVEN = [(1, 40, 2090), (3, 5, 37), (70, 31, 300)]


def product(x, weight):
    """The reference's."""
    return (linear_superblocks if isinstance(weight, SuperblockTensor) else linear_quantized)(x, weight)


def rows_of(count, inputs):
    """Random rows; all integers of the first are the largest."""
    x = numbers(3, count, inputs)
    x[0] = 1
    return x


def multiply(gpu, matrix, x, y, **options):
    integers, scales = (gpu.put(part) for part in quantize_activations(x))
    Operations(gpu.launch).linear(matrix, integers, scales, y, rows=len(x), **options)


@pytest.mark.parametrize("format", [*BLOCKS, "MXFP4", "Q4_1", "I8_MINIMUM", *ALIKE])
@pytest.mark.parametrize(("rows", "outputs", "inputs"), EVERY)
def test_linear_of_blocks(gpu, rows, outputs, inputs, format):
    weight, x, bias = integers_of(format, outputs, inputs), rows_of(rows, inputs), numbers(4, outputs)
    found, y = gpu.buffer(rows, outputs)
    multiply(gpu, on_device(gpu, pack_integers([weight], bias)), x, y)
    same(found, product(x, weight) + bias)


@pytest.mark.parametrize("format", ["I8_SCALE", "I8_MINIMUM"])
@pytest.mark.parametrize(("rows", "outputs", "inputs"), UNEVEN)
def test_groups_that_fill_no_block(gpu, rows, outputs, inputs, format):
    weight, x, residual = integers_of(format, outputs, inputs), rows_of(rows, inputs), numbers(4, rows, outputs)
    found, y = gpu.buffer(rows, outputs)
    found[...] = residual
    multiply(gpu, on_device(gpu, pack_integers([weight])), x, y, residual=y, scale=0.5)
    same(found, residual + product(x, weight) * np.float32(0.5))


@pytest.mark.parametrize("rows", [3, 20])
def test_products_of_several_formats_side_by_side(gpu, rows):
    weights = [integers_of(format, 33, 256) for format in ("Q4_K", "Q6_K", "Q4_1")]
    weights.append(quantize("w", numbers(5, 40, 256), "w4a8"))
    x, parts = rows_of(rows, 256), [on_device(gpu, pack_integers([weight])) for weight in weights]
    joined = Joined(tuple(parts))
    found, y = gpu.buffer(rows, joined.outputs)
    for part in joined.parts:
        multiply(gpu, part, x, y, width=joined.outputs)
        y += 4 * part.outputs
    same(found, np.concatenate([product(x, weight) for weight in weights], axis=1))


@pytest.mark.parametrize("format", ["Q4_K", "Q6_K", "MXFP4", "Q4_1"])
def test_each_row_by_the_expert_that_it_chose(gpu, format):
    experts = [integers_of(format, 40, 512, seed) for seed in range(3)]
    x, chosen = rows_of(2, 512), np.array([2, 0, 1, 1], np.int32)
    stack = on_device(gpu, stacked([pack_integers([expert]) for expert in experts]))
    found, y = gpu.buffer(2, 40)
    multiply(gpu, stack.part(1), x, y)
    same(found, product(x, experts[1]))
    found, y = gpu.buffer(4, 40)
    integers, scales = (gpu.put(part) for part in quantize_activations(x))
    choice = {"chosen": gpu.put(chosen), "share": 2}
    Operations(gpu.launch).linear(stack, integers, scales, y, rows=4, **choice)
    for row, expert in enumerate(chosen):
        same(found[row : row + 1], product(x[row // 2 : row // 2 + 1], experts[expert]))


def test_rows_that_did_not_choose_an_expert_are_left_alone(gpu):
    weight, x, gates = integers_of("Q6_K", 40, 256), rows_of(20, 256), np.zeros((20, 2), np.float32)
    gates[1, 1] = gates[2, 1] = 0.5
    found, y = gpu.buffer(20, 40)
    untouched = found.copy()
    multiply(gpu, on_device(gpu, pack_integers([weight])), x, y, gates=gpu.put(gates) + 4, stride=2)
    same(found, np.where(gates[:, 1:] != 0, product(x, weight), untouched))


EMBEDDED = [*BLOCKS, *GROUPS, "w8a8", "w4a8"]


@pytest.mark.parametrize("format", EMBEDDED)
def test_embedding_rows_are_dequantised(gpu, format):
    weight = quantize("w", numbers(1, 70, 512), format) if format in ("w8a8", "w4a8") else integers_of(format, 70, 512)
    ids = np.array([3, 0, 69, 32], np.int32)
    found, x = gpu.buffer(4, 512)
    table = on_device(gpu, pack_integers([weight]))
    Operations(gpu.launch).embed_matrix(table, gpu.put(ids), x, rows=4, scale=1.5)
    same(found, dequantized(weight)[ids] * np.float32(1.5))


def dequantized(weight):
    """As reference/numerics/blocks.py dequantises rows of a file."""
    if isinstance(weight, SuperblockTensor):
        outputs, num_groups, parts = weight.factors.shape
        scales, minimums = (
            None if array is None else np.repeat(array, 8, axis=1)[..., None]
            for array in (weight.scales, weight.minimums)
        )
        values = (scales * weight.factors)[..., None] * weight.integers.reshape(outputs, num_groups, parts, -1)
        below = 0 if minimums is None else (minimums * weight.minimum_factors)[..., None]
        return (values if minimums is None else values - below).reshape(outputs, -1)
    values = weight.scales.astype(np.float32)[..., None] * weight.integers
    return (values if weight.minimums is None else values + weight.minimums[..., None]).reshape(len(values), -1)


def test_a_format_that_holds_others_gives_their_bits(gpu):
    """Experts whose matrices need different widths are kept in the widest."""
    narrow, x = quantize("w", numbers(1, 40, 300), "w4a8"), rows_of(3, 300)
    found, y = gpu.buffer(3, 40)
    for format in ("w8a8", "I8_SCALE", "I8_MINIMUM"):
        assert widest(["w4a8", format]) == format
        multiply(gpu, on_device(gpu, pack_integers([narrow], format=format)), x, y)
        same(found, product(x, narrow))
    assert widest(["float16", "bfloat16"]) == "float32" and widest(["Q4_K", "w8a8"]) is None


@pytest.mark.parametrize("format", [name for name, layout in LAYOUTS.items() if layout.takes_integers])
def test_a_layout_says_how_many_bytes_it_takes(format):
    weight = quantize("w", numbers(1, 70, 512), format) if format in ("w8a8", "w4a8") else integers_of(format, 70, 512)
    packed, layout = pack_integers([weight]), LAYOUTS[format]
    assert packed.weights.nbytes == layout.weight_bytes(70, 512)
    assert packed.scales.nbytes == layout.scale_bytes(70, 512)


def test_experts_share_a_format_or_are_refused():
    """Blocks of zeros in the formats of a GGUF file."""
    sizes = {"Q4_0": (32, 18), "Q8_0": (32, 34), "Q4_K": (256, 144)}
    of = {
        name: Matrix(weight=Tensor(name, name, np.zeros((40, 256 // size, count), np.uint8)), num_inputs=256)
        for name, (size, count) in sizes.items()
    }
    stacks = pack_stacks([(of["Q4_0"], of["Q4_K"]), (of["Q8_0"], of["Q4_K"])])
    assert [(stack.format, len(stack.weights)) for stack in stacks] == [("w8a8", 4), ("Q4_K", 4)]
    with pytest.raises(BackendError, match=r"experts of several formats \(Q4_K, w8a8\); --device cpu runs this model"):
        pack_stacks([(of["Q8_0"],), (of["Q4_K"],)])
