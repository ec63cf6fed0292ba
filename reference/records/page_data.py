"""Pages on their way from one cache to another: one layout and the same checks for every engine.

An export is an array (pages, 2, layers, 16, kv_heads, head_dim), C-contiguous, keys before values, in the dtype that
the cache stores: float32, float16, or uint16 for the bits of bfloat16. Of latent attention (N8a) it is (pages, 1,
layers, 16, 1, head_dim): a key holds its value. Where heads of some layers have another shape, it is (pages, numbers):
a page's part of each group of layers (cache_layout.py), arranged like that, one after the other. A page is one stretch
of bytes. Its bits do not depend on the engine that computed it (N8). Rows to which no token was written hold anything.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from verbatim.reference.records.checksums import checksum


class SealedPages(NamedTuple):
    """Pages on their way elsewhere: their content as `export_pages` gives it, and the checksum of each page."""

    data: np.ndarray
    checksums: tuple[str, ...]

    def unsealed(self) -> np.ndarray:
        """The content; ValueError names the page that has other bits than when it was sealed."""
        if len(self.data) != len(self.checksums):
            raise ValueError(f"{len(self.data)} pages have {len(self.checksums)} checksums")
        for number, (page, expected) in enumerate(zip(self.data, self.checksums, strict=True)):
            if checksum(page) != expected:
                raise ValueError(f"page {number} of {len(self.data)} is damaged: its checksum is not the one it had")
        return self.data


def sealed(data: np.ndarray) -> SealedPages:
    """An export with its checksums."""
    return SealedPages(data, tuple(map(checksum, data)))


def check_without_states(states: object) -> None:
    """ValueError for the cache of a model some of whose layers have states: pages alone do not hold its past."""
    if states is not None:
        raise ValueError(
            "pages of a model with states (N14) are neither exported nor imported: states do not travel yet"
        )


def check_export(pages: Sequence[int], num_pages: int) -> list[int]:
    """The page numbers as a list; IndexError for one that the cache does not have."""
    wrong = [page for page in pages if not 0 <= page < num_pages]
    if wrong:
        raise IndexError(f"pages must lie in 0..{num_pages - 1}, not {wrong[0]}")
    return list(pages)


def check_import(
    pages: Sequence[int], data: np.ndarray, *, num_pages: int, shape: tuple[int, ...], dtype: np.dtype,
    num_users: Callable[[int], int],
) -> list[int]:  # fmt: skip
    """The page numbers as a list, if `data` fits them; `shape` is that of a page.

    IndexError for a page that the cache does not have. ValueError for data of another model or another dtype, and for a
    page that is free, shared or named twice: its other users would see its content change.
    """
    pages = check_export(pages, num_pages)
    if data.dtype != dtype:
        raise ValueError(f"the cache stores {dtype}, the pages to be imported are {data.dtype}")
    if data.shape != (len(pages), *shape):
        raise ValueError(f"{len(pages)} pages of this cache are {(len(pages), *shape)}, not {data.shape}")
    for page in pages:
        if num_users(page) != 1 or pages.count(page) != 1:
            raise ValueError(f"page {page} must have one user, who imports into it once")
    return pages


def joined(groups: Sequence[np.ndarray]) -> np.ndarray:
    """The export of each group's pages (pages, ...) as one: the first one as it is where there is no other."""
    if len(groups) == 1:
        return np.ascontiguousarray(groups[0])
    return np.concatenate([group.reshape(len(group), -1) for group in groups], axis=1)


def parted(
    pages: Sequence[int], data: np.ndarray, shapes: Sequence[tuple[int, ...]], *, num_pages: int, dtype: np.dtype,
    num_users: Callable[[int], int],
) -> tuple[list[int], list[np.ndarray]]:  # fmt: skip
    """The page numbers, checked as by `check_import`, and the part of an export that is each group's.

    `shapes` are those of a page in the groups.
    """
    sizes = [math.prod(shape) for shape in shapes]
    shape = shapes[0] if len(shapes) == 1 else (sum(sizes),)
    pages = check_import(pages, data, num_pages=num_pages, shape=shape, dtype=dtype, num_users=num_users)
    ends = np.cumsum(sizes).tolist()
    parts = np.split(data.reshape(len(pages), -1), ends[:-1], axis=1)
    return pages, [part.reshape(len(pages), *shape) for part, shape in zip(parts, shapes, strict=True)]
