"""Weights and activations in the kernels' layout: strips of 64 outputs side by side (N3, N4).

Float weights keep their stored dtype; the kernels widen them in registers (N1).
"""

import numpy as np

from verbatim.fastpath.machine.dispatch cimport (
    BFLOAT16, FLOAT16, FLOAT32, GROUP, IQ4_XS, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, STRIP, W16A16, W4A16, W4A8, W4A8_256,
    W8A16, W8A8, W8A8_256, W8A8_MINIMUM, W8A8_SCALE, address, bits_of_format, group_bytes, offset_of, step_bytes, table,
    takes_pairs,
)
from verbatim.fastpath.machine.threads cimport claim_along, run, team
from libc.stdint cimport int8_t, int32_t

from verbatim.fastpath.machine.memory import HugePages
from verbatim.fastpath.numerics.strips import arrange_blocks, in_strips
from verbatim.fastpath.numerics.words import words_of
from verbatim.reference.numerics.block_weights import BlockedTensor
from verbatim.reference.numerics.quantization import SuperblockTensor, to_stored
from verbatim.reference.checkpoint.weights import release

STRIP_SIZE = STRIP  # outputs side by side
FORMATS = {
    "F32": FLOAT32, "F16": FLOAT16, "BF16": BFLOAT16, "w8a8": W8A8, "w4a8": W4A8, "MXFP4": W8A8_SCALE,
    "Q4_1": W8A8_MINIMUM, "Q5_1": W8A8_MINIMUM, "Q2_K": Q2_K, "Q3_K": Q3_K, "Q4_K": Q4_K, "Q5_K": Q5_K, "Q6_K": Q6_K,
    "IQ4_XS": IQ4_XS, "I8_SCALE": W8A8_SCALE, "I8_MINIMUM": W8A8_MINIMUM, "w16a16": W16A16, "w8a16": W8A16,
    "w4a16": W4A16, "w8a8-256": W8A8_256, "w4a8-256": W4A8_256,
}


cdef class PackedMatrix:
    """A matrix (outputs, inputs) in the kernels' layout, with its bias: from `pack`, `pack_floats`, `pack_integers`."""

    cdef _set(self, weights, bias, long outputs, long inputs, int format):
        self.owners = weights, bias
        self.c.weights = <const void *>address(weights)
        self.c.bias = NULL if bias is None else <const float *>address(bias)
        self.c.outputs, self.c.inputs, self.c.format = outputs, inputs, format
        return self

    def __call__(self, x):
        """Rows float32 (rows, inputs) times float weights, plus the bias (N3)."""
        if self.c.format >= W8A8 or x.dtype != np.float32 or x.ndim != 2 or x.shape[1] != self.c.inputs:
            raise ValueError(f"expected float weights, and float32 rows of {self.c.inputs}, not {x.dtype} {x.shape}")
        x, y = np.ascontiguousarray(x), np.empty((len(x), self.c.outputs), np.float32)
        if len(x):
            multiply(&self.c, <const float *>address(x), NULL, len(x), <float *>address(y))
        return y


def pack_floats(bits, dtype: str, bias=None) -> PackedMatrix:
    """Pack (outputs, inputs) float32, float16, or the bits of bfloat16; `dtype` is a safetensors name."""
    num_outputs, num_inputs = bits.shape
    return _wrap(HugePages().copy(_arrange_floats(bits, dtype)), bias, num_outputs, num_inputs, dtype)


def pack_integers(tensor, bias=None) -> PackedMatrix:
    """Pack a QuantizedTensor or SuperblockTensor (reference/numerics/quantization.py), or a BlockedTensor."""
    weights = HugePages().copy(_arrange_tensor(tensor))
    return _wrap(weights, bias, len(tensor.integers), tensor.num_inputs, tensor.format)


def pack(source, quantization=None, model_lib=None, memory=None) -> PackedMatrix:
    """Pack a checkpoint's Matrix, perhaps quantised, or copy it from a complete model library.

    The result lies in `memory`, HugePages that other matrices share, and is sealed there.
    """
    memory = memory or HugePages()
    bias = None if source.bias is None else np.ascontiguousarray(source.bias.float32())
    if model_lib is not None and model_lib.is_complete:
        weights = model_lib.find(source.weight.name, memory)
    else:
        weights = memory.copy(arrange(source, quantization))
        release(source.weight.bits)
        memory.seal(source.weight.name, weights)
    form = source.format(quantization) or source.weight.dtype
    return _wrap(weights, bias, source.weight.shape[0], source.num_inputs, form)


def arrange(source, quantization=None):
    """A checkpoint's Matrix in the kernels' layout; perhaps a view."""
    form = source.format(quantization)
    if form is None:
        return _arrange_floats(source.weight.numbers(), source.weight.dtype)
    return _arrange_tensor(source.quantized(form))


def _arrange_tensor(tensor):
    if isinstance(tensor, BlockedTensor):
        return arrange_blocks(tensor)
    return _arrange_superblocks(tensor) if isinstance(tensor, SuperblockTensor) else _arrange_integers(tensor)


def _wrap(weights, bias, long outputs, long inputs, format: str) -> PackedMatrix:
    """A PackedMatrix of an array in the kernels' layout; `format` is a safetensors dtype or a format of N4."""
    return PackedMatrix()._set(weights, bias, outputs, inputs, FORMATS[format])


def _arrange_floats(bits, dtype):
    strips = in_strips(bits)
    if dtype != "BF16":
        return strips.transpose(0, 2, 1)  # (strips, inputs, 64)
    if strips.shape[2] % 2:
        strips = np.pad(strips, ((0, 0), (0, 0), (0, 1)))
    return strips.reshape(len(strips), STRIP, -1, 2).transpose(0, 2, 1, 3)  # (strips, inputs / 2, 64, 2)


def _arrange_integers(tensor):
    if tensor.format == "w4a8":  # as on disk: two to a byte, the second half of a group in the high halves
        unsigned = in_strips(to_stored(tensor))
    else:
        unsigned = in_strips(np.ascontiguousarray(tensor.integers).view(np.uint8) ^ np.uint8(0x80))
    strips, _, groups, each = unsigned.shape
    numbers = [array for array in (tensor.scales, tensor.minimums) if array is not None]
    size = tensor.scales.dtype.itemsize
    packed = np.empty((strips, groups, STRIP * (each + size * len(numbers))), np.uint8)
    quads, scales = packed[:, :, : STRIP * each], packed[:, :, STRIP * each :].view(tensor.scales.dtype)
    quads.reshape(strips, groups, each // 4, STRIP, 4)[...] = (
        unsigned.reshape(strips, STRIP, groups, each // 4, 4).transpose(0, 2, 3, 1, 4)
    )  # fmt: skip
    for i, array in enumerate(numbers):
        scales[:, :, STRIP * i : STRIP * (i + 1)] = in_strips(array).transpose(0, 2, 1)
    return packed


def _arrange_superblocks(tensor):
    """Blocks of 256, each strip's side by side, as kernels.h describes them."""
    cdef int format = FORMATS[tensor.format]
    words = words_of(tensor.integers.view(np.uint8) + np.uint8(offset_of(format)), bits_of_format(format))
    strips = in_strips(words)  # (strips, 64, groups, bytes of a group)
    blocks = strips.shape[2] // 8
    size, count = group_bytes(format), words.shape[2] // 4
    packed = np.empty((len(strips), blocks, 8 * step_bytes(format)), np.uint8)
    groups = packed[:, :, : 8 * size].reshape(len(strips), blocks, 8, size)
    by_group = strips.reshape(len(strips), STRIP, blocks, 8, count, 4).transpose(0, 2, 3, 4, 1, 5)
    groups[..., : count * STRIP * 4].reshape(by_group.shape)[...] = by_group
    factors = [array.view(np.uint8) for array in (tensor.factors, tensor.minimum_factors) if array is not None]
    parts = in_strips(np.concatenate(factors, axis=2))  # (strips, 64, groups, parts)
    by_group = parts.reshape(len(strips), STRIP, blocks, 8, -1).transpose(0, 2, 3, 4, 1)
    groups[..., count * STRIP * 4 :].reshape(by_group.shape)[...] = by_group
    numbers = [array.astype(np.float16) for array in (tensor.scales, tensor.minimums) if array is not None]
    by_block = in_strips(np.stack(numbers, axis=2)).transpose(0, 2, 3, 1)  # (strips, blocks, numbers, 64)
    packed[:, :, 8 * size :].view(np.float16).reshape(by_block.shape)[...] = by_block
    return packed


cdef class Activations:
    """A buffer for `rows` of `num_inputs` activations rounded to integers for weights of that format (N4, N4b)."""

    def __init__(self, long rows, long num_inputs, int format=W8A8):
        num_groups = (num_inputs + GROUP - 1) // GROUP
        self.integers = np.empty((rows, num_groups, GROUP), np.int16 if takes_pairs(format) else np.int8)
        self.c.width = self.integers.itemsize
        self.slices = np.empty((rows if self.c.width == 2 else 0, 2, num_groups, GROUP), np.int8)
        self.c.slices = <int8_t *>address(self.slices)
        self.scales = np.empty((rows, num_groups), np.float32)
        self.corrections = np.empty((rows, num_groups), np.int32)
        self.sums = np.empty((rows, num_groups, 2), np.int32)
        self.c.integers = <int8_t *>address(self.integers)
        self.c.scales = <float *>address(self.scales)
        self.c.corrections = <int32_t *>address(self.corrections)
        self.c.sums = <int32_t *>address(self.sums)


cdef void multiply(const matrix *w, const float *x, const quantized *rounded, long rows, float *y) noexcept nogil:
    """y = x wᵀ + bias, from x or, for quantised weights, from `rounded`, which the caller has computed."""
    cdef product work = product(w, x, rounded, rows, y)
    run(_multiply_one, &work)


cdef void _multiply_one(team *members, void *work) noexcept nogil:
    share_products(members, <const product *>work, 1)


cdef void share_products(team *members, const product *products, long count) noexcept nogil:
    """Compute this thread's share of some products; a work item is one strip of outputs."""
    cdef long total = 0, at, item
    for at in range(count):
        total += num_strips(products[at].w)
    while True:
        item, at = claim_along(members, total), 0
        if item == total:
            return
        while item >= num_strips(products[at].w):
            item, at = item - num_strips(products[at].w), at + 1
        multiply_strip(&products[at], item)


cdef long num_strips(const matrix *w) noexcept nogil:
    return (w.outputs + STRIP - 1) // STRIP


cdef void multiply_strip(const product *work, long strip) noexcept nogil:
    cdef const matrix *w = work.w
    cdef long first = strip * STRIP, row
    if w.format >= W8A8:
        table().linear_quantized(w, work.rounded, work.rows, strip, strip + 1, work.y)
    else:
        table().linear(w, work.x, work.rows, strip, strip + 1, work.y)
    if w.bias != NULL:
        for row in range(work.rows):
            table().add(work.y + row * w.outputs + first, w.bias + first, min(<long>STRIP, w.outputs - first), 1)
