"""The model library of `--model-lib`: a file of packed matrices, made once and memory-mapped afterwards.

It is a safetensors file of arrays in the kernels' layout, with a stamp of source files, format and layout. While it is
valid, the checkpoint's own matrices are neither read nor checked again. Its metadata has a checksum of each array: one
that does not fit when it is loaded is a DamagedError. A damaged file of the cache is packed anew.
"""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from verbatim.fastpath.machine.memory import HugePages
from verbatim.fastpath.numerics.packed import STRIP_SIZE, arrange
from verbatim.reference.checkpoint.safetensors_header import read_header
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.checkpoint.tensors import Matrix
from verbatim.reference.checkpoint.weights import map_bytes, map_file, release
from verbatim.reference.numerics.quantization import choose_format
from verbatim.reference.records.checksums import Checksum, checksum
from verbatim.reference.records.errors import ModelError

LAYOUT = 4  # the version of packed.pyx's layout
STAMP = "stamp"
SUFFIX = ".safetensors"
LEAST_BYTES = 64 << 20  # packing a smaller checkpoint takes less time than a file is worth
ENTRY_BYTES = 384  # of the header for each array, its checksum included
ALIGNMENT = 64
PART_NUMBERS = 1 << 22  # elements packed at a time, to bound memory
DTYPES = {"float32": "F32", "float16": "F16", "uint16": "BF16", "uint8": "U8"}
logger = logging.getLogger("verbatim")


def cache_folder() -> Path:
    """The folder of libraries without a `--model-lib` path."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "verbatim" / "models"


def cached_files() -> list[Path]:
    """The libraries in the cache folder."""
    return sorted(cache_folder().glob(f"*{SUFFIX}"))


def source_name(file: Path) -> str:
    """The name of the directory that a library of the cache folder was packed from: of a hub's model, its revision."""
    return file.name.removesuffix(SUFFIX).rsplit("-", 2)[0]


class DamagedError(ModelError):
    """A library that does not hold what was written into it; the message names the matrix."""


class ModelLib:
    """A library that exists (`is_complete`) or is still to be written."""

    def __init__(self, path: Path, stamp: bytes, *, is_named: bool):
        self.path, self.is_named, self._stamp = path, is_named, stamp
        self._checksums: dict[str, str] = {}
        self._arrays = self._read()

    @property
    def is_complete(self) -> bool:
        """Whether the file exists and is valid."""
        return self._arrays is not None

    def find(self, name: str, memory: HugePages) -> np.ndarray:
        """A matrix's packed weights, copied into `memory`; DamagedError if they are not those that were packed."""
        if name not in self._arrays:
            raise DamagedError(f"{self.path} is damaged: it does not hold {name}; remove it, and it is packed anew")
        packed = memory.move(self._arrays[name].bits)
        if memory.seal(name, packed).value != self._checksums.get(name):
            message = f"{self.path} is damaged: {name} has other bits than were packed"
            raise DamagedError(f"{message}; remove the file, and it is packed anew")
        return packed

    def check(self) -> list[str]:
        """The names of matrices that are not what was packed; reads the whole file."""
        return [
            name
            for name, tensor in (self._arrays or {}).items()
            if name != STAMP and checksum(tensor.bits) != self._checksums.get(name)
        ]

    def complete(self, matrices: Iterable[tuple[Matrix, str | None]]) -> None:
        """Pack these matrices, each in its format, unless the library is complete.

        Raises ModelError if a named file cannot be written; without a name, logs a warning and packs in memory.
        """
        if self.is_complete:
            return
        console = Console(stderr=True)
        logger.info("Packing the weights into %s", self.path)
        matrices = list(matrices)
        shown = track(matrices, "packing", console=console, transient=True, disable=not console.is_terminal)
        unfinished = self.path.with_suffix(f".{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _write(unfinished, self._stamp, shown, len(matrices))
            unfinished.rename(self.path)  # atomic: several processes may write it at the same time
        except OSError as error:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            message = f"the packed weights cannot be written to {self.path}: {error}"
            if self.is_named:
                raise ModelError(message) from error
            logger.warning("%s; they stay in memory", message)
        else:
            self._arrays = self._map()

    def _map(self) -> dict:
        """The arrays of the file, and their checksums."""
        self._checksums = read_header(self.path, map_bytes(self.path)).metadata
        return map_file(self.path)

    def _read(self) -> dict | None:
        if not self.path.exists():
            return None
        try:
            arrays = self._map()
        except ModelError:
            if self.is_named:
                raise
            return None  # it will be written again
        if STAMP in arrays and arrays[STAMP].bits.tobytes() == self._stamp:
            return arrays
        if self.is_named:
            raise ModelError(f"{self.path} does not hold these weights in this format and layout: "
                             "remove it, or name another file")  # fmt: skip
        return None


def open_model_lib(directory, quantization: str | None, path=None) -> ModelLib | None:
    """The library of a model directory: at `path`, else in the cache folder; None for a small model without a path."""
    source = open_source(directory)
    form = choose_format(source.config().quantization, quantization)
    try:
        files = {file.name: file.stat() for file in source.weight_files()}
    except OSError as error:
        raise ModelError(f"{directory}: its weights cannot be read: {error.strerror}") from None
    if not path and sum(file.st_size for file in files.values()) < LEAST_BYTES:
        return None
    sources = {name: [file.st_size, file.st_mtime_ns] for name, file in files.items()}
    stamp = json.dumps({"layout": LAYOUT, "format": form, "files": sources})
    digest = hashlib.sha256(stamp.encode()).hexdigest()[:16]
    place = source.path.parent if source.path.parent.parent.name == "snapshots" else source.path  # a file of the hub
    name = place.resolve().name if place.is_dir() else place.name
    cached = cache_folder() / f"{name}-{form or 'float'}-{digest}{SUFFIX}"
    return ModelLib(Path(path or cached), stamp.encode(), is_named=bool(path))


def _write(path: Path, stamp: bytes, matrices: Iterable[tuple[Matrix, str | None]], count: int) -> None:
    """Write all matrices; the header is padded to a fixed size, so it can be written last."""
    start = -(-(8 + len(stamp) + ENTRY_BYTES * (count + 1)) // ALIGNMENT) * ALIGNMENT
    header: dict = {"__metadata__": {}}

    def add(name: str, parts: Iterable[np.ndarray]) -> None:
        begin, rows, found = file.tell() - start, 0, Checksum()
        for part in parts:
            file.write(np.ascontiguousarray(part).data)
            found.add(part)
            rows += len(part)
        header["__metadata__"][name] = found.hexdigest()
        shape = rows, *part.shape[1:]
        header[name] = {"dtype": DTYPES[part.dtype.name], "shape": shape, "data_offsets": [begin, file.tell() - start]}

    with path.open("wb") as file:
        file.seek(start)
        for matrix, quantization in matrices:
            add(matrix.weight.name, _arranged(matrix, quantization))
            release(matrix.weight.bits)
        add(STAMP, [np.frombuffer(stamp, np.uint8)])
        encoded = json.dumps(header).encode()
        assert len(encoded) <= start - 8, "the header has a fixed size"
        file.seek(0)
        file.write((start - 8).to_bytes(8, "little") + encoded.ljust(start - 8))


def _arranged(matrix: Matrix, quantization: str | None) -> Iterator[np.ndarray]:
    """A matrix in the kernels' layout, a few strips at a time."""
    outputs = matrix.weight.shape[0]
    step = max(1, PART_NUMBERS // matrix.num_inputs // STRIP_SIZE) * STRIP_SIZE
    for first in range(0, outputs, step):
        yield arrange(matrix.rows(first, min(first + step, outputs)), quantization)
