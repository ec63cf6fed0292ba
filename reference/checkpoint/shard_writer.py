"""Writes one safetensors file, tensor by tensor, so that a run that was cut off goes on where it stopped.

The header is known before the first tensor is, so the unfinished file, under a name of its own, is always a beginning
of the finished one: its length says which tensors are there. Only a finished file gets its name.
"""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from verbatim.reference.checkpoint.weights import STORED_AS

PARTIAL = ".partial"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A tensor to be written: what its header entry says, and `make`, which gives its array when its turn comes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    make: Callable[[], np.ndarray]

    @property
    def num_bytes(self) -> int:
        """Its size in the file."""
        return math.prod(self.shape) * STORED_AS[self.dtype].itemsize


def write_shard(path: Path, tensors: list[Planned], advance: Callable[[int], None]) -> None:
    """Write `tensors` to `path` in that order, resuming an earlier run; `advance` counts their bytes."""
    if path.exists():
        advance(sum(tensor.num_bytes for tensor in tensors))
        return
    partial = path.with_name(path.name + PARTIAL)
    header = _header(tensors)
    num_done = _num_done(partial, header, tensors)
    with partial.open("r+b" if num_done else "wb") as file:
        file.write(header)
        file.seek(sum(tensor.num_bytes for tensor in tensors[:num_done]), os.SEEK_CUR)
        file.truncate()
        advance(file.tell() - len(header))
        for tensor in tensors[num_done:]:
            array = tensor.make()
            assert (array.dtype, array.shape) == (STORED_AS[tensor.dtype], tensor.shape), tensor.name
            file.write(np.ascontiguousarray(array).data)
            file.flush()
            advance(tensor.num_bytes)
        os.fsync(file.fileno())
    partial.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    partial = path.with_name(path.name + PARTIAL)
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _header(tensors: list[Planned]) -> bytes:
    """Eight bytes of length, then JSON, filled up with spaces so that the first tensor begins at a multiple of 8."""
    entries: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    start = 0
    for tensor in tensors:
        offsets = [start, start + tensor.num_bytes]
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        start += tensor.num_bytes
    encoded = json.dumps(entries, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded


def _num_done(partial: Path, header: bytes, tensors: list[Planned]) -> int:
    """How many tensors an earlier run wrote to the end; none where its header is not this one."""
    if not partial.exists():
        return 0
    with partial.open("rb") as file:
        if file.read(len(header)) != header:
            return 0
    left, num_done = partial.stat().st_size - len(header), 0
    while num_done < len(tensors) and left >= tensors[num_done].num_bytes:
        left -= tensors[num_done].num_bytes
        num_done += 1
    return num_done
