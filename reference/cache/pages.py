"""Mirrored. Keys and values in pages of 16 tokens, counted by reference, so that sequences can share a beginning.

A sequence holds page numbers; position p lies in its page p // 16, row p % 16. A page that two sequences
share is copied before one of them writes to it (copy-on-write). Stored narrower than float32, keys and values are
rounded as they are written and widened as they are read (N1). Of latent attention (N8a) keys alone are stored, whose
last part is the values. A layer that attends to another one's keys reads theirs; layers whose heads have the same shape
are a group, an array for keys and one for values (records/cache_layout.py). Paging follows vLLM (https://arxiv.org/abs/2309.06180).
"""

from collections.abc import Sequence

import numpy as np

from verbatim.reference.cache.states import make_states
from verbatim.reference.numerics.arithmetic import narrow, widen
from verbatim.reference.records.cache_layout import cache_layout
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.limits import KV_CACHE_DTYPES
from verbatim.reference.records.page_data import check_export, check_without_states, joined, parted

PAGE_SIZE = 16
NO_PAGE = -1  # stands in a list of pages for one that was given back, as no token attends to it any more


def pages_for(num_tokens: int) -> int:
    """How many pages hold that many tokens."""
    return -(-num_tokens // PAGE_SIZE)


class PagedCache:
    """The pages of all layers with attention, and who uses them.

    A group's storage is (layers, pages, 16, kv_heads, head_dim).

    `states` are `num_slots` slots for the states of the model's other layers; None if there are no such layers.
    """

    def __init__(self, config: ModelConfig, num_pages: int, dtype: str = "float32", num_slots: int = 0):
        latent = getattr(config, "latent", None)  # a cache can be made of sizes alone
        self.states = make_states(config, num_slots)
        layout, stored = cache_layout(config), KV_CACHE_DTYPES[dtype]
        self._places, self._groups = layout.places, []
        for group in layout.groups:
            shape = (group.num_layers, num_pages, PAGE_SIZE, group.num_kv_heads, group.head_dim)
            keys = np.zeros(shape, stored)
            self._groups.append((keys, keys[..., latent.rotated_dim :] if latent else np.zeros(shape, stored)))
        self.keys, self.values = self._groups[0]
        self.has_latents = latent is not None
        self.num_pages, self.dtype = num_pages, dtype
        self._users = [0] * num_pages
        self._free = list(range(num_pages - 1, -1, -1))

    @property
    def _stored(self) -> list[tuple[np.ndarray, ...]]:
        """Keys and values of each group, or keys that hold the values."""
        return [group[:1] if self.has_latents else group for group in self._groups]

    @property
    def num_free(self) -> int:
        """Pages that nobody uses."""
        return len(self._free)

    def allocate(self) -> int:
        """Take a free page; `num_free` must not be 0."""
        page = self._free.pop()
        self._users[page] = 1
        return page

    def share(self, pages: Sequence[int]) -> list[int]:
        """Count one more user of each page, for a sequence that begins like another."""
        for page in _held(pages):
            self._users[page] += 1
        return list(pages)

    def release(self, pages: Sequence[int]) -> None:
        """Count one user less; a page without users is free."""
        for page in _held(pages):
            self._users[page] -= 1
            if self._users[page] == 0:
                self._free.append(page)

    def is_shared(self, page: int) -> bool:
        """Whether writing to the page would be seen by another sequence."""
        return self._users[page] > 1

    def num_users(self, page: int) -> int:
        """How many sequences and prefix caches hold the page; 0 if it is free."""
        return self._users[page]

    def copy(self, page: int) -> int:
        """A new page with the same content: one free page less, one user less of the old page."""
        own = self.allocate()
        for stored in (part for group in self._stored for part in group):
            stored[:, own] = stored[:, page]
        self.release([page])
        return own

    def fork(self, pages: Sequence[int], start: int, stop: int) -> list[int] | None:
        """Pages for another continuation at start to stop - 1; those before are shared. None if too few are free."""
        if pages_for(stop) - start // PAGE_SIZE > self.num_free:
            return None
        own = self.share(pages[: pages_for(start)])
        if start % PAGE_SIZE:
            own[-1] = self.copy(own[-1])
        own.extend(self.allocate() for _ in range(pages_for(stop) - len(own)))
        return own

    def write(self, layer: int, pages, start: int, keys: np.ndarray, values: np.ndarray | None) -> None:
        """Store keys and values, float32 (tokens, kv_heads, head_dim), at positions start, start + 1, ...

        Of latent attention the keys hold the values: `values` is None.
        """
        page, row = _place(pages, np.arange(start, start + len(keys)))
        group, place = self._places[layer]
        self._groups[group][0][place, page, row] = narrow(keys, self.dtype)
        if values is not None:
            self._groups[group][1][place, page, row] = narrow(values, self.dtype)

    def read(self, layer: int, pages, num_tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values at positions 0 to num_tokens - 1, each float32 (num_tokens, kv_heads, head_dim).

        Of latent attention the values are the latents, (num_tokens, 1, rank).
        """
        page, row = _place(pages, np.arange(num_tokens))
        group, place = self._places[layer]
        keys, values = (stored[place, page, row] for stored in self._groups[group])
        return widen(keys), widen(values)

    def export_pages(self, pages) -> np.ndarray:
        """The content of pages in the layout of records/page_data.py. IndexError for a page that is not there."""
        check_without_states(self.states)
        pages = check_export(pages, self.num_pages)
        # Each part is (pages, 2 or 1, layers, 16, kv_heads, head_dim).
        return joined([np.moveaxis(np.stack([part[:, pages] for part in group]), 2, 0) for group in self._stored])

    def import_pages(self, pages, data: np.ndarray) -> None:
        """Fill pages that the caller alone holds with an export. IndexError or ValueError if it does not fit."""
        check_without_states(self.states)
        shapes = [(len(group), len(group[0]), *group[0].shape[2:]) for group in self._stored]
        pages, parts = parted(
            pages, data, shapes, dtype=self.keys.dtype, num_pages=self.num_pages, num_users=self.num_users
        )
        for group, part in zip(self._stored, parts, strict=True):
            for stored, own in zip(group, np.moveaxis(part, 0, 2), strict=True):
                stored[:, pages] = own

    def check(self, holdings) -> None:
        """Compare the counts with who holds what: `holdings` are the page lists of all living sequences."""
        users = [0] * self.num_pages
        for pages in holdings:
            for page in _held(pages):
                users[page] += 1
        assert users == self._users, f"pages in use {users} differ from their counts {self._users}"
        assert sorted(self._free) == [page for page, count in enumerate(users) if count == 0], "the free list is wrong"


def _held(pages):
    return (page for page in pages if page != NO_PAGE)


def _place(pages, positions):
    return np.maximum(pages, 0)[positions // PAGE_SIZE], positions % PAGE_SIZE  # one given back reads as any other
