"""Products of GGUF's formats equal the reference, bit for bit, at every level, in memory full of garbage (N4g)."""

import numpy as np
import pytest

from gguf_models import random_blocks
from parity.poison import poisoned
from verbatim.reference.numerics import arithmetic as reference_numerics
from verbatim.reference.numerics.blocks import BLOCK_FORMATS, unpack
from verbatim.reference.numerics.quantization import SuperblockTensor

numerics = pytest.importorskip("verbatim.fastpath.numerics.arithmetic", reason="the fast path is not built")

pytestmark = pytest.mark.usefixtures("level")


def both(x, format, blocks):
    tensor = unpack(format, blocks.reshape(len(blocks), -1, BLOCK_FORMATS[format].num_bytes))
    name = "linear_superblocks" if isinstance(tensor, SuperblockTensor) else "linear_quantized"
    expected = getattr(reference_numerics, name)(x, tensor)
    with poisoned():
        found = getattr(numerics, name)(x, tensor)
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("format", BLOCK_FORMATS)
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 512, 130), (2, 32, 63), (5, 768, 65), (11, 256, 1)])
def test_random_blocks(format, rows, inputs, outputs):
    random = np.random.default_rng(rows)
    size = BLOCK_FORMATS[format].size
    blocks = random_blocks(random, format, outputs, -(-inputs // size) * size)
    x = random.standard_normal((rows, -(-inputs // size) * size)) * np.exp2(random.integers(-9, 9, (rows, 1)))
    x[:, :40], x[0, 60:70] = 0, -0.0
    both(x.astype(np.float32), format, blocks)


@pytest.mark.parametrize("format", BLOCK_FORMATS)
def test_the_largest_integers_and_zeros_of_both_signs(format):
    """All bits of integers and factors set, or none; scales of -0, 0, the smallest and the largest."""
    known = BLOCK_FORMATS[format]
    bytes_of = np.repeat(np.array([0, 255, 127, 128], np.uint8), 5)[:, None, None]
    blocks = np.tile(bytes_of, (1, 512 // known.size, known.num_bytes))
    scales = np.array([0.0, -0.0, 6e-8, -65504.0, 1.0], "<f2").view(np.uint8).reshape(5, 2)
    for at in known.halves:
        blocks[:, :, at : at + 2] = np.tile(scales, (4, 1))[:, None]
    if format == "MXFP4":
        blocks[..., 0] = np.tile(np.array([0, 1, 2, 140, 128], np.uint8), 4)[:, None]
    x = np.ones((4, 512), np.float32)
    x[1], x[2], x[3, ::2] = -1, 0, -1
    both(x, format, blocks.reshape(20, -1))
    both(x * np.float32(1e22), format, blocks.reshape(20, -1))
