"""Checksums that find accidents: bits that a disk, a cable or a memory chip has changed. They are no signatures.

XXH3 with 128 bits (https://xxhash.com), over dtype, shape and bytes, in hex.
"""

from collections.abc import Iterator

import numpy as np
import xxhash

PIECE_BYTES = 1 << 20


class Checksum:
    """The checksum of an array that comes in parts along its first axis, all of one dtype."""

    def __init__(self):
        self._digest, self._rows, self._rest = xxhash.xxh3_128(), 0, ""

    def add(self, part: np.ndarray) -> None:
        """Take the next rows."""
        self._rows, self._rest = self._rows + len(part), f"{part.dtype.str} {part.shape[1:]}"
        self._digest.update(np.ascontiguousarray(part).data)

    def hexdigest(self) -> str:
        """That of all parts together."""
        whole = self._digest.copy()
        whole.update(f"{self._rows} {self._rest}".encode())
        return whole.hexdigest()


def checksum(array: np.ndarray) -> str:
    """That of an array."""
    found = Checksum()
    found.add(array)
    return found.hexdigest()


class Seal:
    """An array under a name, with the checksum that it had when it was sealed."""

    def __init__(self, name: str, array: np.ndarray):
        self.name, self.array, self.value = name, array, checksum(array)

    @property
    def num_bytes(self) -> int:
        """The size of the array."""
        return self.array.nbytes

    def pieces(self) -> Iterator[bool]:
        """Check the array piece by piece; all are False but the last of one that has changed."""
        found = Checksum()
        rows = max(1, len(self.array) * PIECE_BYTES // max(1, self.array.nbytes))
        for at in range(0, len(self.array), rows):
            found.add(self.array[at : at + rows])
            yield False
        yield found.hexdigest() != self.value
