"""Weights on disk: safetensors files, memory-mapped, widened to float32 only where they are used.

A checkpoint is one `model.safetensors`, or several with `model.safetensors.index.json`, or several whose names
count them (`model-00001-of-00003.safetensors`). The format is eight bytes of header length, a JSON header of dtype,
shape and byte range for each tensor, then the bytes (https://huggingface.co/docs/safetensors). Everything in it is
checked before it is believed.
"""

import math
import mmap
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from verbatim.reference.checkpoint.safetensors_header import Entry, check_overlaps, read_header
from verbatim.reference.numerics import blocks
from verbatim.reference.numerics.blocks import BLOCK_FORMATS
from verbatim.reference.records.config import read_json
from verbatim.reference.records.errors import ModelError

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = re.compile(r"(.+)-(\d{2,})-of-(\d{2,})\.safetensors")
CHECKED_AT_ONCE = 1 << 20  # numbers: the memory that the check takes stays small
FLOATS = ("F32", "F16", "BF16")
STORED_AS: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # NumPy has no bfloat16: its bits
    "I8": np.dtype("i1"),  # this and all that follow only in quantised checkpoints
    "U8": np.dtype("u1"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "F8_E4M3": np.dtype("u1"),  # its bits
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One named array as stored: `bits` is float32, float16, for BF16 the upper 16 bits of a float32, or integers.

    In a format of GGUF it is uint8 (..., blocks, bytes of a block). `num_pairs` is the number of heads whose rows
    (first half, second half) lie in turn: 0, half, 1, half + 1, ...; `Weights.get` puts them in order.
    """

    name: str
    dtype: str
    bits: np.ndarray
    num_pairs: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in elements."""
        if self.dtype in BLOCK_FORMATS:
            return (*self.bits.shape[:-2], self.bits.shape[-2] * BLOCK_FORMATS[self.dtype].size)
        return self.bits.shape

    def float32(self) -> np.ndarray:
        """The values widened to float32, exactly (N1), or dequantised (N4g)."""
        if self.dtype in BLOCK_FORMATS:
            return blocks.dequantize(self.dtype, self.bits)
        if self.dtype == "BF16":
            return (self.bits.astype(np.uint32) << 16).view(np.float32)
        return self.bits.astype(np.float32)

    def numbers(self) -> np.ndarray:
        """`bits`, or what stands for them in a matrix that is made of other numbers of the file."""
        return self.bits

    def plain(self) -> "Tensor":
        """The tensor with all its numbers in `bits`."""
        return self

    def select(self, name: str, indices: np.ndarray) -> "Tensor":
        """Rows in any order, a copy under a name of its own."""
        return Tensor(name, self.dtype, self.bits[indices])

    def rows(self, start: int, stop: int) -> "Tensor":
        """Some of its rows, not copied."""
        return Tensor(f"{self.name}[{start}:{stop}]", self.dtype, self.bits[start:stop])

    def in_order(self) -> "Tensor":
        """The tensor with the rows of each head in order, a copy; itself where they are."""
        if not self.num_pairs:
            return self
        pairs = self.bits.reshape(self.num_pairs, -1, 2, *self.bits.shape[1:])
        return Tensor(self.name, self.dtype, pairs.swapaxes(1, 2).reshape(self.bits.shape))

    def is_finite(self) -> bool:
        """Whether no element is NaN or infinite: an exponent of all ones is either."""
        if self.dtype in BLOCK_FORMATS:
            return blocks.is_finite(self.dtype, self.bits)
        numbers = self.bits.reshape(-1)
        for part in (numbers[at : at + CHECKED_AT_ONCE] for at in range(0, numbers.size, CHECKED_AT_ONCE)):
            is_wild = (part & 0x7F80) == 0x7F80 if self.dtype == "BF16" else ~np.isfinite(part)  # integers never are
            if is_wild.any():
                return False
        return True


class Weights:
    """All tensors of a checkpoint by name; nothing is read from disk until a tensor is asked for.

    With `is_checked` somebody has looked before whether all numbers are finite.
    """

    def __init__(self, tensors: dict[str, Tensor], *, is_checked: bool = False):
        self._tensors, self.is_checked = tensors, is_checked

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def names(self) -> list[str]:
        """Every tensor's name, sorted."""
        return sorted(self._tensors)

    def get(self, name: str, shape: tuple[int, ...], *, dtypes: tuple[str, ...] = FLOATS) -> Tensor:
        """The tensor of that name; a ModelError says if it is missing, of another shape or kind, or not finite (N0)."""
        tensor = self._tensors.get(name)
        if tensor is None:
            raise ModelError(f"weights: tensor {name} is missing")
        if tensor.dtype not in dtypes:
            raise ModelError(f"weights: tensor {name} is stored as {tensor.dtype}, not as {' or '.join(dtypes)}")
        if tensor.shape != shape:
            raise ModelError(f"weights: tensor {name} has shape {tensor.shape}, config.json asks for {shape}")
        if not (self.is_checked or tensor.is_finite()):
            raise ModelError(f"weights: tensor {name} holds NaN or infinite values")
        ordered = tensor.in_order()
        release(tensor.bits)
        return ordered


def release(array: np.ndarray) -> None:
    """Let go of the memory that holds what was read of an array in a mapped file: it comes again when it is read again.

    Nothing is done with other arrays, whose numbers would be lost, nor where the system has no such advice.
    """
    owner: Any = array
    is_file = False
    while owner is not None and not isinstance(owner, mmap.mmap):
        is_file |= isinstance(owner, np.memmap) and owner.mode == "r"
        owner = owner.obj if isinstance(owner, memoryview) else getattr(owner, "base", None)
    if owner is not None and is_file and hasattr(mmap, "MADV_DONTNEED"):
        begin = array.ctypes.data - np.frombuffer(owner, np.uint8).ctypes.data
        start = begin // mmap.PAGESIZE * mmap.PAGESIZE
        owner.madvise(mmap.MADV_DONTNEED, start, begin + array.nbytes - start)


def load_weights(directory: str | Path, *, is_checked: bool = False) -> Weights:
    """Map the checkpoint in `directory`, following the sharded index where there is one."""
    shards = load_shards(directory).values()
    return Weights({name: tensor for shard in shards for name, tensor in shard.items()}, is_checked=is_checked)


def load_shards(directory: str | Path) -> dict[str, dict[str, Tensor]]:
    """The same file by file: file name -> tensor name -> tensor."""
    directory = Path(directory)
    index = directory / INDEX
    if not index.exists():
        files = [WHOLE] if (directory / WHOLE).exists() else _counted(directory) or [WHOLE]
        return _without_repeats({file: map_file(directory / file) for file in files})
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise ModelError(f"{index} has no weight_map")
    shards = {file: map_file(_inside(directory, file)) for file in sorted(set(weight_map.values()))}
    missing = [name for name, file in weight_map.items() if name not in shards[file]]
    if missing:
        raise ModelError(f"{index} promises tensor {missing[0]} in {weight_map[missing[0]]}, which does not hold it")
    return {
        file: {name: tensor for name, tensor in shard.items() if weight_map.get(name) == file}
        for file, shard in shards.items()
    }


def _counted(directory: Path) -> list[str]:
    """The names of shards that lie there without an index; ModelError if they are not all of one checkpoint."""
    found = sorted(path.name for path in directory.glob("*.safetensors") if SHARD.fullmatch(path.name))
    sets = {(match[1], match[3]) for name in found if (match := SHARD.fullmatch(name))}
    if len(sets) > 1:
        raise ModelError(f"{directory} has shards of several checkpoints and no {INDEX}: {', '.join(found)}")
    for stem, count in sets:
        wanted = [f"{stem}-{number:0{len(count)}}-of-{count}.safetensors" for number in range(1, int(count) + 1)]
        if missing := [name for name in wanted if name not in found]:
            raise ModelError(f"{directory} has {len(found)} of {int(count)} shards: {missing[0]} is missing")
        return wanted
    return []


def _without_repeats(shards: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """The same; ModelError if a tensor is in two of the files."""
    places: dict[str, str] = {}
    for file, shard in shards.items():
        for name in shard:
            if name in places:
                raise ModelError(f"tensor {name} is in {places[name]} and in {file}, and there is no {INDEX}")
            places[name] = file
    return shards


def _inside(directory: Path, name: str) -> Path:
    if not name or Path(str(name)).name != name:  # a plain file name: an index must not lead elsewhere
        raise ModelError(f"shard {name!r} is not the name of a file in the model directory")
    return directory / name


def map_bytes(path: Path) -> np.ndarray:
    """All bytes of a file, uint8, mapped and not read; ModelError if that cannot be."""
    try:
        return np.memmap(path, dtype=np.uint8, mode="r")
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist") from None
    except (ValueError, OSError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None


def map_file(path: Path) -> dict[str, Tensor]:
    """Map one safetensors file: its tensors by name. ModelError if its header does not fit its length."""
    content = map_bytes(path)
    header = read_header(path, content)
    data = content[header.size :]
    tensors = {name: _map_tensor(path, name, entry, data) for name, entry in header.entries.items()}
    check_overlaps(path, header.entries)
    return tensors


def _map_tensor(path: Path, name: str, entry: Entry, data: np.ndarray) -> Tensor:
    dtype, shape, begin, end = entry
    size = math.prod(shape)
    if dtype not in STORED_AS:
        raise ModelError(f"{path}: tensor {name} is stored as {dtype[:20]}; supported: {', '.join(STORED_AS)}")
    stored = STORED_AS[dtype]
    if not 0 <= begin <= end <= len(data):
        raise ModelError(f"{path} is truncated: tensor {name} ends at byte {end} of {len(data)}")
    if end - begin != size * stored.itemsize:
        raise ModelError(
            f"{path}: tensor {name} has {end - begin} bytes, {dtype} {shape} needs {size * stored.itemsize}"
        )
    return Tensor(name, dtype, np.frombuffer(data[begin:end], dtype=stored).reshape(shape))
