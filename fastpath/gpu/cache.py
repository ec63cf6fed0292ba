"""Pages of keys and values in GPU memory; who uses them is counted by the CPU fast path's books."""

import numpy as np

from verbatim.fastpath.cache.pages import PAGE_SIZE, PagedCache
from verbatim.fastpath.gpu.operations import Operations
from verbatim.fastpath.numerics.arithmetic import widen
from verbatim.reference.records.limits import KV_CACHE_DTYPES

KINDS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}  # how kernels' names end


def page_bytes(config, dtype: str) -> int:
    """What one page takes in all layers: keys and values as they are stored."""
    return 2 * KV_CACHE_DTYPES[dtype].itemsize * config.num_layers * config.num_kv_heads * config.head_dim * PAGE_SIZE


class DevicePagedCache(PagedCache):
    """Pages on a device: keys (layers, pages, kv_heads, head_dim, 16), values (..., kv_heads, 16, head_dim)."""

    def __init__(self, device, config, num_pages: int, dtype: str = "float32"):
        super().__init__(_WithoutLayers(config), num_pages, dtype)
        self.device, self.num_layers, self.operations = device, config.num_layers, Operations(device.launch)
        self.shape = config.num_kv_heads, config.head_dim
        self.kind, self.stored = KINDS[dtype], KV_CACHE_DTYPES[dtype]
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
        """A page of one's own with the same content: one free page less, one user less of the old one."""
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

    def write(self, layer: int, pages, start: int, keys, values) -> None:
        """Refused: the model's own kernels store keys and values."""
        raise NotImplementedError("keys and values on a GPU are written by the model's kernels only")


class _WithoutLayers:
    """A configuration for the books alone: no layers, so that they hold no memory."""

    def __init__(self, config):
        self.num_layers, self.num_kv_heads, self.head_dim = 0, config.num_kv_heads, config.head_dim
