"""Matrices of quantised checkpoints: integers or floats that are made, row by row, when they are asked for."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from verbatim.reference.checkpoint.weights import Tensor
from verbatim.reference.numerics.blocks import to_blocks
from verbatim.reference.numerics.quantization import GROUP_SIZE, WIDE_FORMATS, QuantizedTensor
from verbatim.reference.records.errors import ModelError

Rows = Callable[[int, int], np.ndarray]  # first and last output (exclusive) -> an array of these outputs
WHOLE_BLOCKS = {"w4a8": "Q4_0", "w8a8": "Q8_0"}  # formats of GGUF with the same integers and scales
COMPUTED = ("w4a8", "w8a8", *WIDE_FORMATS)
OUTPUTS_AT_ONCE = 1024
BYTES = {"w4a8": 18, "w8a8": 34, "I8_SCALE": 36, "I8_MINIMUM": 40}  # of a group of 32, as the fast path keeps it


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What a tool stored of a matrix (outputs, inputs): weight = scale * (integer - zero).

    `integers` gives int8 (rows, inputs), `scales` float (rows, groups), `zeros` int16 (rows, groups), or there are
    none. A group is `group_size` inputs in order, or what `group_of`, int (inputs,), says of each input.
    """

    bits: int
    num_inputs: int
    group_size: int
    integers: Rows
    scales: Rows
    zeros: Rows | None = None
    group_of: np.ndarray | None = None

    def floats(self, first: int, last: int) -> np.ndarray:
        """Some rows, float32: the difference is exact, its product with the scale rounded once."""
        places = np.arange(self.num_inputs) // self.group_size if self.group_of is None else self.group_of
        differences = self.integers(first, last).astype(np.int16)
        if self.zeros is not None:
            differences -= self.zeros(first, last)[:, places]
        return self.scales(first, last).astype(np.float32)[:, places] * differences.astype(np.float32)

    def quantized(self, form: str, first: int, last: int) -> QuantizedTensor:
        """Some rows in a format of COMPUTED, groups in order."""
        integers, minimums = self.integers(first, last), None
        num_groups = -(-self.num_inputs // GROUP_SIZE)
        scales = self._of_groups(self.scales(first, last).astype(_scale_dtype(form)), num_groups)
        if self.zeros is not None:
            zeros = self._of_groups(self.zeros(first, last), num_groups)
            if form == "I8_MINIMUM":
                minimums = scales * (-zeros).astype(np.float32)
            else:
                repeated = np.repeat(zeros, GROUP_SIZE, axis=1)[:, : self.num_inputs]
                integers = (integers - repeated).astype(np.int8)
        padded = np.pad(integers, ((0, 0), (0, num_groups * GROUP_SIZE - self.num_inputs)))
        shaped = padded.reshape(len(padded), num_groups, GROUP_SIZE)
        return QuantizedTensor(form, shaped, scales, self.num_inputs, minimums)

    def _of_groups(self, numbers: np.ndarray, num_groups: int) -> np.ndarray:
        """Numbers of the tool's groups for each group of 32."""
        return np.repeat(numbers, -(-self.group_size // GROUP_SIZE), axis=1)[:, :num_groups]

    def form(self, outputs: int) -> str:
        """The narrowest format that holds all of it with nothing rounded."""
        has_zeros = self._has_zeros(outputs)
        if has_zeros and self.bits == 8:
            return "I8_MINIMUM"
        scales = self.scales(0, outputs)
        with np.errstate(over="ignore"):  # infinite where it does not fit, so not the same
            if scales.dtype != np.float16 and (scales.astype(np.float16) != scales).any():
                return "I8_SCALE"
        return "w8a8" if has_zeros or self.bits == 8 else "w4a8"

    def _has_zeros(self, outputs: int) -> bool:
        """Whether any zero point is not 0; the first one ends the search."""
        if self.zeros is None:
            return False
        starts = range(0, outputs, OUTPUTS_AT_ONCE)
        return any(self.zeros(at, min(at + OUTPUTS_AT_ONCE, outputs)).any() for at in starts)


def _scale_dtype(form: str) -> type:
    return np.float32 if form in WIDE_FORMATS else np.float16


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeTensor(Tensor):
    """A matrix whose rows are made of the file's numbers; `bits` are only what lies in the file.

    `chosen` are the stored outputs that are its rows.
    """

    num_inputs: int
    chosen: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """(outputs, inputs)."""
        return len(self.chosen), self.num_inputs

    def rows(self, start: int, stop: int) -> "MadeTensor":
        """Some of its rows; nothing is made yet."""
        return replace(self, name=f"{self.name}[{start}:{stop}]", chosen=self.chosen[start:stop])

    def select(self, name: str, indices: np.ndarray) -> "MadeTensor":
        """Rows in any order, under a name of their own."""
        return replace(self, name=name, chosen=self.chosen[indices])

    def taken(self, make: Rows) -> np.ndarray:
        """What `make` gives for the chosen rows."""
        first, last = int(self.chosen.min()), int(self.chosen.max()) + 1
        made, places = make(first, last), self.chosen - first
        return made if np.array_equal(places, np.arange(last - first)) else made[places]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedTensor(MadeTensor):
    """A matrix of small integers; its dtype is one of COMPUTED."""

    packed: Packed

    def quantized(self) -> QuantizedTensor:
        """Its integers, scales and minimums (N4g)."""
        first, last = int(self.chosen.min()), int(self.chosen.max()) + 1
        whole, places = self.packed.quantized(self.dtype, first, last), self.chosen - first
        if np.array_equal(places, np.arange(last - first)):
            return whole
        minimums = None if whole.minimums is None else whole.minimums[places]
        return replace(whole, integers=whole.integers[places], scales=whole.scales[places], minimums=minimums)

    def float32(self) -> np.ndarray:
        """The weights, rounded once."""
        return self.taken(self.packed.floats)

    def plain(self) -> Tensor:
        """For an embedding's rows: the blocks of GGUF that have the same numbers where there are such, else float32."""
        if self.dtype in WHOLE_BLOCKS and self.num_inputs % GROUP_SIZE == 0:
            return Tensor(self.name, WHOLE_BLOCKS[self.dtype], to_blocks(self.quantized()))
        return Tensor(self.name, "F32", self.float32())

    def is_finite(self) -> bool:
        """Whether all scales are numbers."""
        return bool(np.isfinite(self.taken(self.packed.scales)).all())

    @property
    def num_bytes(self) -> int:
        """What the fast path keeps of it."""
        return len(self.chosen) * -(-self.num_inputs // GROUP_SIZE) * BYTES[self.dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundedTensor(MadeTensor):
    """A matrix of floats, F16 or BF16, that are rounded when they are made (N3)."""

    make: Rows
    is_sound: Callable[[], bool]

    def numbers(self) -> np.ndarray:
        """float16, or the bits of bfloat16."""
        return self.taken(self.make)

    def plain(self) -> Tensor:
        """With all numbers made."""
        return Tensor(self.name, self.dtype, self.numbers())

    def float32(self) -> np.ndarray:
        """The rounded numbers, widened."""
        return self.plain().float32()

    def is_finite(self) -> bool:
        """Whether what it is made of holds numbers only."""
        return self.is_sound()


def make_matrix(name: str, stored: np.ndarray, outputs: int, packed: Packed) -> MadeTensor:
    """A matrix of integers; of float16 numbers where its groups are not in order."""
    num_inputs, chosen = packed.num_inputs, np.arange(outputs)
    if packed.group_of is None:
        form = packed.form(outputs)
        return GroupedTensor(name=name, dtype=form, bits=stored, num_inputs=num_inputs, chosen=chosen, packed=packed)

    def make(first: int, last: int) -> np.ndarray:
        with np.errstate(over="ignore"):
            return packed.floats(first, last).astype(np.float16)

    def is_sound() -> bool:
        most = np.abs(packed.scales(0, outputs).astype(np.float32)).max(initial=0)
        return bool(most * np.float32(2**packed.bits) < np.finfo(np.float16).max)

    return RoundedTensor(
        name=name, dtype="F16", bits=stored, num_inputs=num_inputs, chosen=chosen, make=make, is_sound=is_sound
    )


def check_zero(bias: Tensor) -> None:
    """ModelError for a bias that an architecture does not have; some tools write zeros in its place."""
    if bias.float32().any():
        raise ModelError(f"weights: tensor {bias.name} is not zero, and this architecture has no such bias")
