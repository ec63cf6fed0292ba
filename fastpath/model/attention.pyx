"""Mirrored. Attention over cached keys, block by block of absolute position, merged by powers of two (N8).

kernels/attention.h has the arithmetic; this function packs plain arrays for it, the model passes the cache's own pages.
"""

import numpy as np

from verbatim.fastpath.machine.dispatch cimport address, heads, table, work_item
from verbatim.fastpath.cache.pages cimport PagedCache
from libc.stdint cimport int32_t

from math import sqrt
from types import SimpleNamespace

from verbatim.fastpath.cache.pages import pages_for
from verbatim.fastpath.numerics.arithmetic import kernel_dtype, widen
from verbatim.reference.records.limits import KV_CACHE_DTYPES

KEY_BLOCK = 64
NAMES = {stored: name for name, stored in KV_CACHE_DTYPES.items()}
LOG2E = 1.4426950408889634


def query_scale(long head_dim, scale=None, cap=None) -> float:
    """The factor of the queries, before rounding to float32: the scale, times log2(e) without a cap."""
    factor = 1.0 if cap else LOG2E
    return factor / sqrt(head_dim) if scale is None else factor * scale


def attention(
    queries, keys, values, positions, *, scale=None, cap=None, window=None, sinks=0, chunk=None, sink_scores=None,
):
    """Causal attention of some tokens of one sequence over its keys at positions 0 to num_keys - 1.

    queries (tokens, heads, head_dim), keys and values (num_keys, kv_heads, head_dim) as they are stored, positions
    (tokens,) with every position below num_keys. Values may be latents, (num_keys, 1, rank), which are the last part of
    their keys (ValueError if they are not). `scale`, `cap`, `window`, `sinks`, `chunk` and `sink_scores` as in
    reference/model/attention.py. Returns (tokens, heads, features of a value).
    """
    cdef heads shape
    cdef work_item item
    cdef long kv_head
    queries = np.ascontiguousarray(queries, np.float32)
    num_keys, shape.num_kv_heads, shape.head_dim = keys.shape
    shape.num_heads = queries.shape[1]
    shape.scale, shape.window, shape.sinks = query_scale(shape.head_dim, scale, cap), window or 0, sinks
    shape.chunk = chunk or 0
    sink_scores = None if sink_scores is None else np.ascontiguousarray(sink_scores, np.float32)
    shape.sink_scores = NULL if sink_scores is None else <const float *>address(sink_scores)
    shape.cap, shape.cap_factor, shape.stored = cap or 0, (cap or 0) * LOG2E, kernel_dtype(keys)
    shape.value_dim, latent = values.shape[2], None
    if shape.value_dim != shape.head_dim:
        latent = SimpleNamespace(rotated_dim=shape.head_dim - shape.value_dim)
        if not np.array_equal(values, keys[:, :, latent.rotated_dim :], equal_nan=values.dtype != np.uint16):
            raise ValueError("values that are shorter than their keys must be the last part of them")
    config = SimpleNamespace(num_layers=1, num_kv_heads=shape.num_kv_heads, head_dim=shape.head_dim, latent=latent)
    pages = np.arange(pages_for(num_keys), dtype=np.int32)
    cdef PagedCache cache = PagedCache(config, len(pages), NAMES[keys.dtype])
    cache.write(0, pages, 0, widen(keys), None if latent else widen(values))
    positions = np.asarray(positions, np.int32, order="C")
    out = np.empty((*queries.shape[:2], shape.value_dim), np.float32)
    shape.keys, shape.values = cache.layer_keys(0), cache.layer_values(0)
    for kv_head in range(shape.num_kv_heads):
        item = work_item(<const float *>address(queries), <float *>address(out), <int32_t *>address(pages),
                         <int32_t *>address(positions), kv_head, 0,
                         len(queries) * (shape.num_heads // shape.num_kv_heads))
        table().attend(&shape, &item, NULL)
    return out
