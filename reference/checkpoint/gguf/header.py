"""The header of a GGUF file: metadata, and where each tensor lies; every count is checked before it is believed.

The format is a magic number, a version, two counts, the metadata (name, type, value), the tensors (name, shape, type,
offset), then their bytes at aligned offsets (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). Integers are
little-endian. The package `gguf` trusts counts and makes an object of each element; files may come from anywhere.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from verbatim.reference.checkpoint.weights import STORED_AS, map_bytes
from verbatim.reference.numerics.blocks import BLOCK_FORMATS
from verbatim.reference.records.errors import ModelError

MAGIC, VERSIONS = b"GGUF", (2, 3)
ALIGNMENT, DEFAULT_ALIGNMENT, MAX_ALIGNMENT = "general.alignment", 32, 1 << 16
MAX_HEADER_BYTES, MAX_ENTRIES, MAX_ELEMENTS, MAX_NAME_BYTES = 256 << 20, 1 << 16, 1 << 21, 1 << 10
MAX_DIMENSIONS = 4
# Types of metadata: the number that stands for each, and its form.
NUMBERS = dict(enumerate(("B", "b", "H", "h", "I", "i", "f", "?", None, None, "Q", "q", "d")))
STRING, ARRAY = 8, 9
# Types of tensors.
TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K",
    12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
    20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64",
    29: "IQ1_M", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0",
}  # fmt: skip
FLOATS = ("F32", "F16", "BF16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A tensor: its format, its shape (outputs first), and its bytes as uint8, mapped."""

    name: str
    format: str
    shape: tuple[int, ...]
    data: np.ndarray

    def bits(self) -> np.ndarray:
        """Floats as stored, or uint8 (..., blocks, bytes of a block); nothing is copied."""
        if self.format in FLOATS:
            return np.frombuffer(self.data, STORED_AS[self.format]).reshape(self.shape)
        known = BLOCK_FORMATS[self.format]
        return np.frombuffer(self.data, np.uint8).reshape(*self.shape[:-1], -1, known.num_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """One file: metadata by name (numbers, text, lists of text, arrays of numbers), and tensors by name."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Entry]


def read_header(path: Path) -> Header:
    """Map a file and read its header; ModelError says in a line what is wrong with it."""
    if path.exists() and not path.is_file():
        raise ModelError(f"{path} is no file")
    content = map_bytes(path)
    reader = _Reader(path, content)
    if bytes(content[:4]) != MAGIC:
        raise ModelError(f"{path} is no GGUF file: it does not begin with GGUF")
    reader.at = 4
    version = reader.number("I")
    if version not in VERSIONS:
        order = " (its numbers are big-endian)" if version and not version & 0xFFFF else ""
        raise ModelError(f"{path}: version {version} of GGUF is not supported; supported: 2 and 3{order}")
    num_tensors, num_entries = reader.count("tensors"), reader.count("entries of metadata")
    metadata: dict[str, Any] = {}
    for _ in range(num_entries):
        name = reader.name()
        if name in metadata:
            raise ModelError(f"{path}: {name} is there twice")
        metadata[name] = reader.value(name)
    places = [reader.place() for _ in range(num_tensors)]
    return Header(path=path, metadata=metadata, tensors=_tensors(path, places, content, reader.at, metadata))


class _Reader:
    """Reads one value after another; `at` is the next byte."""

    def __init__(self, path: Path, content: np.ndarray):
        self.path, self.at, self.num_texts = path, 0, 0
        self.end = min(len(content), MAX_HEADER_BYTES)
        self.memory = content.data  # of the mapped file
        self.size = len(content)

    def take(self, num_bytes: int) -> memoryview:
        start, self.at = self.at, self.at + num_bytes
        if self.at > self.end:
            limit = f"{self.size} bytes" if self.end == self.size else f"{MAX_HEADER_BYTES} bytes, which is the most"
            raise ModelError(f"{self.path} is truncated or damaged: its header does not end within {limit}")
        return self.memory[start : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0]

    def count(self, what: str) -> int:
        found = self.number("Q")
        if found > MAX_ENTRIES:
            raise ModelError(f"{self.path} is damaged: it has {found} {what}, above {MAX_ENTRIES}")
        return found

    def text(self, limit: int = MAX_HEADER_BYTES) -> str:
        length = self.number("Q")
        if length > limit:
            raise ModelError(f"{self.path} is damaged: a text of {length} bytes at byte {self.at}")
        try:
            return str(self.take(length), "utf-8")
        except UnicodeDecodeError:
            raise ModelError(f"{self.path} is damaged: the text at byte {self.at - length} is not UTF-8") from None

    def name(self) -> str:
        return self.text(MAX_NAME_BYTES)

    def value(self, name: str) -> Any:
        type_number = self.number("I")
        if type_number == ARRAY:
            return self.array(name)
        if type_number == STRING:
            return self.text()
        form = NUMBERS.get(type_number)
        if form is None:
            raise ModelError(f"{self.path} is damaged: {name} has the type {type_number}, which GGUF does not have")
        return self.number(form)

    def array(self, name: str) -> Any:
        type_number, length = self.number("I"), self.number("Q")
        if length > MAX_ELEMENTS:
            raise ModelError(f"{self.path} is damaged: {name} has {length} elements, above {MAX_ELEMENTS}")
        if type_number == STRING:
            self.num_texts += length
            if self.num_texts > MAX_ELEMENTS:
                raise ModelError(f"{self.path} is damaged: its lists have {self.num_texts} texts, above {MAX_ELEMENTS}")
            return [self.text() for _ in range(length)]
        form = NUMBERS.get(type_number)
        if form is None:
            raise ModelError(f"{self.path}: {name} is an array of the type {type_number}, which is not supported")
        dtype = np.dtype(f"<{form}")
        return np.frombuffer(self.take(length * dtype.itemsize), dtype).copy()

    def place(self) -> tuple[str, str, tuple[int, ...], int]:
        """Name, format, shape (outputs first) and offset of a tensor."""
        name, num_dimensions = self.name(), self.number("I")
        if not 1 <= num_dimensions <= MAX_DIMENSIONS:
            raise ModelError(f"{self.path}: tensor {name} has {num_dimensions} dimensions, not 1 to {MAX_DIMENSIONS}")
        shape = tuple(self.number("Q") for _ in range(num_dimensions))[::-1]
        type_number, offset = self.number("I"), self.number("Q")
        format = TYPES.get(type_number, f"type {type_number}")
        if format not in BLOCK_FORMATS and format not in FLOATS:
            supported = ", ".join((*FLOATS, *BLOCK_FORMATS))
            raise ModelError(f"{self.path}: tensor {name} is stored as {format}; supported: {supported}")
        return name, format, shape, offset


def _tensors(path: Path, places: list, content: np.ndarray, header_end: int, metadata: dict) -> dict[str, Entry]:
    """All tensors, each within the file and none upon another."""
    alignment = metadata.get(ALIGNMENT, DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or not 0 < alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise ModelError(f"{path}: {ALIGNMENT} must be a power of two up to {MAX_ALIGNMENT}, not {alignment!r}")
    data = content[-(-header_end // alignment) * alignment :]
    found: dict[str, Entry] = {}
    end, before = 0, ""
    for name, format, shape, offset in sorted(places, key=lambda place: place[3]):
        size = _size(path, name, format, shape)
        if name in found:
            raise ModelError(f"{path}: tensor {name} is there twice")
        if offset % alignment:
            raise ModelError(f"{path}: tensor {name} begins at {offset}, which is no multiple of {alignment}")
        if offset < end:
            raise ModelError(f"{path}: tensor {name} lies upon tensor {before}")
        end, before = offset + size, name
        if end > len(data):
            raise ModelError(f"{path} is truncated: tensor {name} ends at byte {end} of {len(data)}")
        found[name] = Entry(name=name, format=format, shape=shape, data=data[offset:end])
    return found


def _size(path: Path, name: str, format: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor; ModelError if its rows are not whole blocks, or nothing."""
    count = math.prod(shape)
    if not 0 < count < 1 << 48:
        raise ModelError(f"{path}: tensor {name} has the shape {shape}")
    if format in FLOATS:
        return count * STORED_AS[format].itemsize
    known = BLOCK_FORMATS[format]
    if shape[-1] % known.size:
        raise ModelError(
            f"{path}: tensor {name} has rows of {shape[-1]}, which are no blocks of {known.size} ({format})"
        )
    return count // known.size * known.num_bytes
