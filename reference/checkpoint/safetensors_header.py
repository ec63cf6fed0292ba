"""The header of a safetensors file: JSON that names each tensor's dtype, shape and byte range, checked before use."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.file_text import check_json

MAX_HEADER_BYTES = 32 << 20
MAX_DIMENSIONS = 16
MAX_COUNT = 1 << 62
METADATA = "__metadata__"


class Entry(NamedTuple):
    """One tensor: its bytes are those from `begin` to `end - 1` behind the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """Everything in a header: tensors by name, texts beside them, and where the bytes begin."""

    entries: dict[str, Entry]
    metadata: dict[str, Any]
    size: int


def read_header(path: Path, content: np.ndarray) -> Header:
    """The header of a file with these bytes, uint8; ModelError for one that is damaged."""
    size = int.from_bytes(content[:8].tobytes(), "little") if len(content) >= 8 else 0
    if not 2 <= size <= min(MAX_HEADER_BYTES, len(content) - 8):
        raise ModelError(
            f"{path} is truncated or not a safetensors file: its header has {size} bytes of {len(content)}"
        )
    try:
        text = content[8 : 8 + size].tobytes()
        check_json(path, text)
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} has a damaged header: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path} has a damaged header: it is no object")
    metadata = values.pop(METADATA, {})
    entries = {name: _read_entry(path, name, value) for name, value in values.items()}
    return Header(entries, metadata if isinstance(metadata, dict) else {}, 8 + size)


def _read_entry(path: Path, name: str, value: Any) -> Entry:
    try:
        entry = Entry(value["dtype"], tuple(value["shape"]), *value["data_offsets"])
        is_right = isinstance(entry.dtype, str) and len(entry.shape) <= MAX_DIMENSIONS
        is_right &= all(type(size) is int and 0 <= size <= MAX_COUNT for size in entry.shape)
        is_right &= all(type(place) is int and abs(place) <= MAX_COUNT for place in (entry.begin, entry.end))
    except (KeyError, TypeError, ValueError):
        is_right = False
    if not is_right:
        raise ModelError(f"{path}: the header entry of tensor {name[:200]} is damaged: {repr(value)[:200]}")
    return entry


def check_overlaps(path: Path, entries: dict[str, Entry]) -> None:
    """Raise ModelError if two tensors have bytes in common."""
    ranges = sorted((entry.begin, entry.end, name) for name, entry in entries.items() if entry.end > entry.begin)
    for (_, end, first), (begin, _, second) in pairwise(ranges):
        if begin < end:
            message = f"tensors {first[:200]} and {second[:200]} overlap: one ends at byte {end}, one begins at {begin}"
            raise ModelError(f"{path}: {message}")
