"""Pages of keys and values in GPU memory; who uses them is counted by the CPU fast path's books."""

import numpy as np

from verbatim.fastpath.cache.pages import PAGE_SIZE, PagedCache
from verbatim.fastpath.gpu.operations import Operations
from verbatim.fastpath.numerics.arithmetic import widen
from verbatim.reference.records.limits import KV_CACHE_DTYPES
from verbatim.reference.records.page_data import check_export, check_import


def page_bytes(config, dtype: str) -> int:
    """Bytes of one page in all layers: keys and values as they are stored."""
    return 2 * KV_CACHE_DTYPES[dtype].itemsize * config.num_layers * config.num_kv_heads * config.head_dim * PAGE_SIZE


class DevicePagedCache(PagedCache):
    """Pages on a device: keys (layers, pages, kv_heads, head_dim, 16), values (..., kv_heads, 16, head_dim)."""

    def __init__(self, device, config, num_pages: int, dtype: str = "float32", num_slots: int = 0):
        super().__init__(_WithoutLayers(config), num_pages, dtype)
        self.device, self.num_layers, self.operations = device, config.num_layers, Operations(device.launch)
        self.shape = config.num_kv_heads, config.head_dim
        self.stored = KV_CACHE_DTYPES[dtype]
        self.page_words = config.num_kv_heads * config.head_dim * PAGE_SIZE * self.stored.itemsize // 4
        self.layer_bytes = 4 * num_pages * self.page_words
        purpose = f"the cache of {num_pages} pages"
        self._keys, self._values = (device.allocate(self.num_layers * self.layer_bytes, purpose) for _ in range(2))
        for memory in (self._keys, self._values):
            device.clear(int(memory), self.num_layers * self.layer_bytes)

    def addresses(self, layer: int) -> tuple[int, int]:
        """Where a layer's keys and values begin."""
        return int(self._keys) + layer * self.layer_bytes, int(self._values) + layer * self.layer_bytes

    def copy(self, page: int) -> int:
        """A new page with the same content: one free page less, one user less of the old page."""
        own = self.allocate()
        self.operations.copy_page(
            int(self._keys), int(self._values), source=page, target=own, layers=self.num_layers,
            pages=self.num_pages, size=self.page_words,
        )  # fmt: skip
        self.release([page])
        return own

    def read(self, layer: int, pages, num_tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values at positions 0 to num_tokens - 1, each float32 (num_tokens, kv_heads, head_dim)."""
        kv_heads, head_dim = self.shape
        keys, values = self.addresses(layer)
        places = np.arange(num_tokens)
        page, row = np.maximum(pages, 0)[places // PAGE_SIZE], places % PAGE_SIZE
        keys = self.device.read(keys, (self.num_pages, kv_heads, head_dim, PAGE_SIZE), self.stored)
        values = self.device.read(values, (self.num_pages, kv_heads, PAGE_SIZE, head_dim), self.stored)
        return widen(keys[page, :, :, row]), widen(values[page, :, row])

    def export_pages(self, pages) -> np.ndarray:
        """The content of pages in the layout of records/page_data.py. IndexError for a page that is not there."""
        pages, data = check_export(pages, self.num_pages), self._empty(len(pages))
        for place in np.ndindex(len(pages), 2, self.num_layers):
            address, shape, axes = self._stored(pages, *place)
            data[place] = self.device.read(address, shape, self.stored).transpose(axes)
        return data

    def import_pages(self, pages, data: np.ndarray) -> None:
        """Fill pages that the caller alone holds with an export. IndexError or ValueError if it does not fit."""
        shape = self._empty(1).shape[1:]
        pages = check_import(
            pages, data, num_pages=self.num_pages, shape=shape, dtype=self.stored, num_users=self.num_users
        )
        for place in np.ndindex(len(pages), 2, self.num_layers):
            address, _, axes = self._stored(pages, *place)
            self.device.write(address, data[place].transpose(np.argsort(axes)))

    def _empty(self, num_pages: int) -> np.ndarray:
        return np.empty((num_pages, 2, self.num_layers, PAGE_SIZE, *self.shape), self.stored)

    def _stored(self, pages: list[int], index: int, half: int, layer: int) -> tuple[int, tuple, tuple]:
        """Where keys (half 0) or values of a page lie, their shape there, and its axes as (16, heads, dim)."""
        kv_heads, head_dim = self.shape
        address = self.addresses(layer)[half] + 4 * pages[index] * self.page_words
        if half == 0:
            return address, (kv_heads, head_dim, PAGE_SIZE), (2, 0, 1)
        return address, (kv_heads, PAGE_SIZE, head_dim), (1, 0, 2)

    def write(self, layer: int, pages, start: int, keys, values) -> None:
        """Refused: the model's own kernels store keys and values."""
        raise NotImplementedError("keys and values on a GPU are written by the model's kernels only")


class _WithoutLayers:
    """A configuration for the books alone: no layers, so that they hold no memory."""

    def __init__(self, config):
        self.num_layers, self.num_kv_heads, self.head_dim = 0, config.num_kv_heads, config.head_dim
