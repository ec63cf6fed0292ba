"""Mirrored. Keys and values in pages of 16 tokens, counted by reference, so that sequences can share a beginning.

A page holds 16 keys side by side, (kv_heads, head_dim, 16), so that keys lie in vector lanes (N8), and 16 values one
after the other, (kv_heads, 16, head_dim rounded up to 16). Stored narrower than float32, they are rounded as they are
written (N1); kernels/attention.h widens them block by block. Of latent attention (N8a) keys alone are stored, whose
last part is the values. Layers whose heads have the same shape are a group, with an array of keys and one of values.
"""

import numpy as np

from verbatim.fastpath.machine.dispatch cimport PACK, address, table
from libc.stdint cimport int32_t
from libc.stdlib cimport calloc, free

from verbatim.reference.cache.states import make_states
from verbatim.fastpath.numerics.arithmetic import kernel_dtype, narrow, widen
from verbatim.reference.records.cache_layout import cache_layout
from verbatim.reference.records.limits import KV_CACHE_DTYPES
from verbatim.reference.records.page_data import check_export, check_without_states, joined, parted


cpdef long pages_for(long num_tokens) noexcept:
    """How many pages hold that many tokens."""
    return (num_tokens + PACK - 1) // PACK


def _zeros(dtype, *shape):
    """Zeros that begin at a cache line; the memory is not touched before it is used."""
    size = int(np.prod(shape))
    memory = np.zeros(size + 64 // dtype.itemsize, dtype)
    start = -memory.ctypes.data % 64 // dtype.itemsize
    return memory[start : start + size].reshape(shape)


cdef class PagedCache:
    """The pages of all layers with attention, and who uses them; `num_slots` slots for the states of the others."""

    def __init__(self, config, long num_pages, str dtype="float32", long num_slots=0):
        cdef long index
        stored, layout = KV_CACHE_DTYPES[dtype], cache_layout(config)
        latent = getattr(config, "latent", None)  # a cache can be made of sizes alone
        self.latent_at = latent.rotated_dim if latent else 0
        self.states = make_states(config, num_slots)
        self.num_pages, self.dtype, self._size = num_pages, dtype, stored.itemsize
        self._groups, self._places, self.num_layers = [], list(layout.places), len(layout.places)
        for group in layout.groups:
            padded = 0 if latent else (group.head_dim + PACK - 1) // PACK * PACK
            sizes = group.num_layers, num_pages, group.num_kv_heads
            self._groups.append((_zeros(stored, *sizes, group.head_dim, PACK), _zeros(stored, *sizes, PACK, padded)))
        self.keys, self.values = self._groups[0]
        self.kernel_dtype = kernel_dtype(self.keys)
        self._layers = <layer_pages *>calloc(max(1, self.num_layers), sizeof(layer_pages))
        if self._layers == NULL:
            raise MemoryError
        for index in range(self.num_layers):
            self._place(&self._layers[index], self._places[index][0], self._places[index][1])
        self._users, self._kept, self.let_go, self.num_idle = [0] * num_pages, {}, {}, 0
        self._free = list(range(num_pages - 1, -1, -1))

    def __dealloc__(self):
        free(self._layers)

    cdef _place(self, layer_pages *layer, long group, long place):
        """Where the pages of a layer lie, and the shape of its heads."""
        keys, values = self._groups[group]
        layer.num_kv_heads, layer.head_dim, layer.padded = keys.shape[2], keys.shape[3], values.shape[4]
        cdef long key_bytes = place * <long>keys.strides[0], value_bytes = place * <long>values.strides[0]
        layer.keys = <char *>address(keys) + key_bytes
        if not self.latent_at:
            layer.values = <char *>address(values) + value_bytes

    @property
    def num_free(self) -> int:
        """Pages that nobody uses."""
        return len(self._free)

    def allocate(self) -> int:
        """Take a free page; `num_free` must not be 0."""
        page = self._free.pop()
        self._users[page] = 1
        return page

    def share(self, pages) -> list[int]:
        """Count one more user of each page, for a sequence that begins like another."""
        for page in _held(pages):
            if self._users[page] == 1 and page in self._kept:
                self.num_idle -= 1
            self._users[page] += 1
        return list(pages)

    def release(self, pages) -> None:
        """Count one user less; a page without users is free."""
        for page in _held(pages):
            self._users[page] -= 1
            if self._users[page] == 0:
                self._free.append(page)
            elif self._users[page] == 1 and page in self._kept:
                self.num_idle += 1
                self.let_go[page] = self._kept[page]

    def keep(self, page, owner) -> None:
        """A prefix cache is one of the page's users and could do without it; `owner` is what it calls the page.

        While nobody else uses such a page it counts in `num_idle`; it has come into `let_go` when the last one left it.
        """
        self._kept[page] = owner
        self.num_idle += self._users[page] == 1

    def unkeep(self, page) -> None:
        """It is needed there, or there no more."""
        if page in self._kept:
            self.num_idle -= self._users[page] == 1
            del self._kept[page]
            self.let_go.pop(page, None)

    cpdef bint is_shared(self, long page):
        """Whether writing to the page would be seen by another sequence."""
        return <long>self._users[page] > 1

    def num_users(self, long page) -> int:
        """How many sequences and prefix caches hold the page; 0 if it is free."""
        return self._users[page]

    def copy(self, page) -> int:
        """A new page with the same content: one free page less, one user less of the old page."""
        own = self.allocate()
        for group in self._groups:
            for stored in group:
                stored[:, own] = stored[:, page]
        self.release([page])
        return own

    def fork(self, pages, long start, long stop):
        """Pages for another continuation at start to stop - 1; those before are shared. None if too few are free."""
        if pages_for(stop) - start // PACK > self.num_free:
            return None
        own = self.share(pages[: pages_for(start)])
        if start % PACK:
            own[start // PACK] = self.copy(own[start // PACK])
        own.extend([self.allocate() for _ in range(pages_for(stop) - len(own))])
        return own

    def write(self, long layer, pages, long start, keys, values) -> None:
        """Store keys and values, float32 (tokens, kv_heads, head_dim), at positions start, start + 1, ...

        Of latent attention the keys hold the values: `values` is None.
        """
        page, row = _place(pages, np.arange(start, start + len(keys)))
        group, place = self._places[layer]
        all_keys, all_values = self._groups[group]
        all_keys[place, page, :, :, row] = narrow(keys, self.dtype)
        if values is not None:
            all_values[place, page, :, row, : all_keys.shape[3]] = narrow(values, self.dtype)

    def read(self, long layer, pages, long num_tokens):
        """Keys and values at positions 0 to num_tokens - 1, each float32 (num_tokens, kv_heads, head_dim).

        Of latent attention the values are the latents, (num_tokens, 1, rank).
        """
        page, row = _place(pages, np.arange(num_tokens))
        group, place = self._places[layer]
        all_keys, all_values = self._groups[group]
        keys = widen(all_keys[place, page, :, :, row])
        if self.latent_at:
            return keys, keys[:, :, self.latent_at :]
        return keys, widen(all_values[place, page, :, row, : all_keys.shape[3]])

    def export_pages(self, pages):
        """The content of pages in the layout of records/page_data.py. IndexError for a page that is not there."""
        check_without_states(self.states)
        pages = check_export(pages, self.num_pages)
        return joined([self._exported(pages, *group) for group in self._groups])

    def _exported(self, pages, keys, values):
        """A group's pages, (pages, 2 or 1, layers, 16, kv_heads, head_dim)."""
        found = keys[:, pages].transpose(1, 0, 4, 2, 3)
        if self.latent_at:
            return found[:, None]
        return np.stack([found, values[:, pages, :, :, : keys.shape[3]].transpose(1, 0, 3, 2, 4)], axis=1)

    def import_pages(self, pages, data) -> None:
        """Fill pages that the caller alone holds with an export. IndexError or ValueError if it does not fit."""
        check_without_states(self.states)
        half = 1 if self.latent_at else 2
        shapes = [(half, len(keys), PAGE_SIZE, keys.shape[2], keys.shape[3]) for keys, _ in self._groups]
        pages, parts = parted(pages, data, shapes, num_pages=self.num_pages, dtype=self.keys.dtype,
                              num_users=self.num_users)
        for (keys, values), part in zip(self._groups, parts):
            keys[:, pages] = part[:, 0].transpose(1, 0, 3, 4, 2)
            if not self.latent_at:
                values[:, pages, :, :, : keys.shape[3]] = part[:, 1].transpose(1, 0, 3, 2, 4)

    def check(self, holdings) -> None:
        """Compare the counts with who holds what: `holdings` are the page lists of all living sequences."""
        users = [0] * self.num_pages
        for pages in holdings:
            for page in _held(pages):
                users[page] += 1
        assert self.num_idle == sum([users[page] == 1 for page in self._kept]), "idle pages are miscounted"
        assert users == self._users, f"pages in use {users} differ from their counts {self._users}"
        unused = [page for page, count in enumerate(users) if count == 0]
        assert sorted(self._free) == unused, "the free list is wrong"

    cdef char *layer_keys(self, long layer) noexcept nogil:
        return self._layers[layer].keys

    cdef char *layer_values(self, long layer) noexcept nogil:
        """NULL where keys hold the values."""
        return self._layers[layer].values

    cdef void store(self, long layer, const int32_t *pages, long position, const float *key,
                    const float *value) noexcept nogil:
        """`write` for one token, by pointer."""
        cdef const layer_pages *own = &self._layers[layer]
        cdef long page = pages[position // PACK] * own.num_kv_heads, row = position % PACK, head
        cdef char *keys = own.keys + (page * own.head_dim * PACK + row) * self._size
        cdef char *values = own.values + (page * PACK + row) * own.padded * self._size
        for head in range(own.num_kv_heads):
            table().narrow(key + head * own.head_dim, own.head_dim, self.kernel_dtype, keys, PACK)
            if value != NULL:
                table().narrow(value + head * own.head_dim, own.head_dim, self.kernel_dtype, values, 1)
            keys += own.head_dim * PACK * self._size
            values += own.padded * PACK * self._size


def _held(pages):
    return [page for page in pages if page != NO_PAGE]


def _place(pages, positions):
    return np.maximum(pages, 0)[positions // PAGE_SIZE], positions % PAGE_SIZE  # one given back reads as any other
