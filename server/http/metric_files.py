"""Files of counters that a full disk cannot turn into a crash.

prometheus_client maps each file and writes to it; where the disk has no space for a page of it, the kernel ends the
process (SIGBUS). Here the space is reserved before it is mapped. Counters for which there is none are kept in memory:
they are missing from the sum over all workers, and nothing else happens.
"""

import mmap
from pathlib import Path

from prometheus_client import mmap_dict, values
from sanic.log import logger

from verbatim.server.disk import reserve

FIRST_BYTES = 1 << 16


class ReservedFile(mmap_dict.MmapedDict):
    """A dict of numbers in a file whose space is there; numbers beyond it are in memory alone."""

    def __init__(self, filename: str, read_mode: bool = False):
        self._in_memory: dict[str, tuple[float, float]] = {}
        self._is_full = False
        try:
            if not read_mode:
                with Path(filename).open("a+b") as file:
                    reserve(file.fileno(), max(FIRST_BYTES, file.tell()))
            super().__init__(filename, read_mode)
        except OSError as error:
            self._warn(error)
            self._f = self._m = None  # type: ignore[assignment]  # prometheus_client's own sign of a closed file
            self._positions, self._used, self._capacity = {}, 0, 0

    def _init_value(self, key: str) -> None:
        """Make space for one more number, in the file or in memory."""
        size = len(key.encode()) + 64
        if not self._is_full and self._used + size > self._capacity:
            self._grow()
        if self._is_full:
            self._in_memory[key] = (0.0, 0.0)
        else:
            super()._init_value(key)

    def read_value(self, key: str) -> tuple[float, float]:
        """Called by prometheus_client."""
        if key not in self._positions and key not in self._in_memory:
            self._init_value(key)
        return self._in_memory[key] if key in self._in_memory else super().read_value(key)

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        """Called by prometheus_client."""
        if key not in self._positions and key not in self._in_memory:
            self._init_value(key)
        if key in self._in_memory:
            self._in_memory[key] = (value, timestamp)
        else:
            super().write_value(key, value, timestamp)

    def _grow(self) -> None:
        try:
            reserve(self._f.fileno(), 2 * self._capacity)
        except OSError as error:
            self._warn(error)
            return
        self._capacity *= 2
        self._m = mmap.mmap(self._f.fileno(), self._capacity)

    def _warn(self, error: OSError) -> None:
        self._is_full = True
        logger.error("Metrics are not written, as there is no space for them: %s", error)


def use_reserved_files() -> None:
    """For all metrics that are made from now on."""
    values.MmapedDict = ReservedFile  # type: ignore[attr-defined]  # where prometheus_client takes it from
