"""How a matrix of each format lies on the device: which kernels read it, and how many bytes it takes (N3, N4, N4g).

Formats of the same arithmetic share kernels; `kernel` is the ending of their names.
"""

from dataclasses import dataclass
from math import prod

from verbatim.reference.numerics.blocks import BLOCK_FORMATS, FOUR_BIT_VALUES, MXFP4_VALUES
from verbatim.reference.numerics.quantization import MXFP4, SCALES, STORED_DTYPES

WARP, GROUP, BLOCK = 32, 32, 256
SHARED_BYTES = 99 << 10  # a block's limit on every supported chip, with opt-in
WARPS_A_PRODUCT = 4  # as in cuda/rows.cuh
MOST_ROWS = 8  # up to so many rows share one read of the weights; more rows are computed in tiles
STAGE_BYTES = 4096  # of weights, as in cuda/rows.cuh; stages of linear_blocks.cu are counted in groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """`bits` of a weight, without its scales. What follows says how integers become weights (cuda/integers.cuh).

    A block of 256 has factors for `parts` of each group, and minimums or none; `offset` is subtracted from a stored
    integer; `table` is the number of the integers that four bits stand for, 0 where they are integers themselves.
    """

    kernel: str
    bits: int
    parts: int = 1
    has_minimum: bool = False
    offset: int = 0
    table: int = 0

    @property
    def takes_integers(self) -> bool:
        """Whether its products take rows rounded to int8 (N4)."""
        return self.bits <= 8

    @property
    def is_block(self) -> bool:
        """Whether its scales belong to blocks of 256."""
        return self.kernel.startswith("blocks")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """What the kernels of linear_blocks.cu are told of the format."""
        return self.parts, int(self.has_minimum), self.offset, self.table

    @property
    def has_shape(self) -> bool:
        """Whether the kernels are told it."""
        return self.kernel.startswith(("blocks", "groups"))

    @property
    def num_words(self) -> int:
        """Words of 32 bits for each output, of numbers beside the integers: of a block, or else of a group."""
        each = 1 + self.has_minimum
        return 2 * self.parts * each + 1 if self.is_block else each

    def weight_bytes(self, outputs: int, inputs: int) -> int:
        """Bytes of the weights alone."""
        step = GROUP if self.takes_integers else 8
        return _ceil(outputs, WARP) * WARP * _ceil(inputs, step) * step * self.bits // 8

    def scale_bytes(self, outputs: int, inputs: int) -> int:
        """Bytes of the scales and what else stands beside integers; 0 for floats."""
        rows = _ceil(outputs, WARP) * WARP
        if not self.takes_integers:
            return 0
        if not self.has_shape:  # float16, whole blocks
            return rows * 16 * _ceil(inputs, BLOCK)
        return rows * 4 * self.num_words * _ceil(inputs, BLOCK if self.is_block else GROUP)

    def stage_bytes(self, rows: int) -> int:
        """Bytes of shared memory of a stage of weights and of so many rows, with all that lies beside them."""
        inputs = self.stage_groups * GROUP
        weights = WARP * inputs * self.bits // 8
        if not self.takes_integers:
            return weights + 4 * rows * inputs
        beside = 4 * WARP * (self.stage_groups + 1 if self.is_block else 2 * self.stage_groups)
        if not self.has_shape:
            beside = 2 * WARP * self.stage_groups
        return weights + rows * (inputs + 4 * self.stage_groups) + beside

    @property
    def stage_groups(self) -> int:
        """Groups of 32 inputs of a stage."""
        return 4 if self.bits == 6 else STAGE_BYTES * 8 // (WARP * GROUP * self.bits)

    def sum_bytes(self, rows: int) -> int:
        """Bytes of shared memory of a warp for sums of rows' integers."""
        return 16 * rows * self.stage_groups if self.has_shape else 0


LAYOUTS = {
    "float32": Layout(kernel="float32", bits=32),
    "float16": Layout(kernel="float16", bits=16),
    "bfloat16": Layout(kernel="bfloat16", bits=16),
    "w8a8": Layout(kernel="w8a8", bits=8),
    "w4a8": Layout(kernel="w4a8", bits=4, offset=8),
    "MXFP4": Layout(kernel="groups4", bits=4, table=2),
    "Q4_1": Layout(kernel="groups4", bits=4, has_minimum=True),
    "I8_SCALE": Layout(kernel="groups8", bits=8),
    "I8_MINIMUM": Layout(kernel="groups8", bits=8, has_minimum=True),
    "Q2_K": Layout(kernel="blocks4", bits=4, parts=2, has_minimum=True),
    "Q3_K": Layout(kernel="blocks4", bits=4, parts=2, offset=4),
    "Q4_K": Layout(kernel="blocks4", bits=4, has_minimum=True),
    "Q5_K": Layout(kernel="blocks6", bits=6, has_minimum=True),
    "Q6_K": Layout(kernel="blocks6", bits=6, parts=2, offset=32),
    "IQ4_XS": Layout(kernel="blocks4", bits=4, table=1),
}
FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # by the names of safetensors
SHARED = {"Q5_1": "I8_MINIMUM"}  # formats kept like another
TABLES = {1: FOUR_BIT_VALUES, 2: MXFP4_VALUES}  # as in cuda/integers.cuh
WIDENED = ("w4a8", "w8a8", "I8_SCALE", "I8_MINIMUM")  # each holds the numbers of those before it, with the same sums


def stored_format(name: str) -> str:
    """The format of LAYOUTS for a format of integers as the reference names it."""
    return SHARED.get(name, name)


def widest(formats) -> str | None:
    """The format that holds matrices of all these formats; None if there is none."""
    found = set(formats)
    if len(found) == 1:
        return found.pop()
    if found <= set(FLOATS.values()):
        return "float32"
    return max(found, key=WIDENED.index) if found <= set(WIDENED) else None


def tensor_bytes(name: str, tensor, quantization: str | None) -> int:
    """Bytes on the device of a tensor as a checkpoint stores it, or made of floats when it is loaded."""
    if quantization == MXFP4 and tensor.dtype == "U8":  # exponents become floats
        return tensor.bits.nbytes * (4 if name.endswith("_scales") else 1)
    computed = BLOCK_FORMATS[tensor.dtype].computed if tensor.dtype in BLOCK_FORMATS else tensor.dtype
    form = FLOATS.get(computed) or stored_format(computed)
    if quantization in STORED_DTYPES and len(tensor.shape) == 2 and computed in FLOATS and not name.endswith(SCALES):
        form = quantization
    if form not in LAYOUTS:
        return tensor.bits.nbytes
    if LAYOUTS[form].takes_integers:
        *outer, inputs = tensor.shape
        outputs = prod(outer)
        return LAYOUTS[form].weight_bytes(outputs, inputs) + LAYOUTS[form].scale_bytes(outputs, inputs)
    return prod(tensor.shape) * LAYOUTS[form].bits // 8


def few_rows(rows: int, inputs: int, format: str) -> tuple[int, int, int]:
    """The number of rows (1, 2, 4 or 8) that share a CUDA block's read of the weights, its warps, its shared bytes."""
    most, warps = 1, min(WARPS_A_PRODUCT, _ceil(inputs, BLOCK))
    while most < min(rows, MOST_ROWS) and shared_bytes(2 * most, warps, inputs, format) <= SHARED_BYTES:
        most *= 2
    while (size := shared_bytes(most, warps, inputs, format)) > SHARED_BYTES and warps > 1:
        warps -= 1
    return most, warps, size


def shared_bytes(most: int, warps: int, inputs: int, format: str) -> int:
    """Bytes of each warp's stages of weights and of `most` rows, and of all blocks' totals (cuda/rows.cuh)."""
    layout, stages = LAYOUTS[format], 2 if most > 2 else 4
    of_warps = warps * (stages * layout.stage_bytes(most) + layout.sum_bytes(most))
    return of_warps + 4 * WARP * most * _ceil(inputs, BLOCK)


def _ceil(count: int, step: int) -> int:
    return -(-count // step)
