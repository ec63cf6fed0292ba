"""Mirrored. The forward pass of a decoder over a batch of chunks, for all families (N3 to N9).

Python gathers the batch's rows here; forward.pyx runs the layers.
"""

import numpy as np

from verbatim.fastpath.cache.pages cimport PagedCache
from verbatim.fastpath.model.streams cimport StreamPass
from verbatim.fastpath.machine.dispatch cimport PACK, W8A8, address, table
from verbatim.fastpath.numerics.packed cimport multiply
from verbatim.fastpath.model.layers cimport layer_weights
from verbatim.fastpath.model.phases cimport batch_rows, span
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy

from verbatim.fastpath.cache.pages import NO_PAGE
from verbatim.fastpath.machine.memory import ReusedBuffer
from verbatim.fastpath.model.mixer_types import make_mixer
from verbatim.fastpath.numerics.packed import pack
from verbatim.reference.records.sequence import wanted_rows
from verbatim.reference.checkpoint.weights import Tensor


cdef class Model(StreamPass):
    """A decoder with its weights in memory. `forward` returns a batch's logits; `states` and `score` are its halves.

    `watch` is described in reference/model/decoder.py. `model_lib` holds the packed matrices, or receives them
    (model_lib.py).
    """

    cdef object embedding, fusion, logits_buffer
    cdef list kv_head_counts

    def __init__(self, config, checkpoint, *, quantization: str | None = None, model_lib=None):
        super().__init__(config, checkpoint, quantization, model_lib)
        self.embedding, self.logits_buffer = checkpoint.embedding, ReusedBuffer(np.float32)
        self.kv_head_counts = config.kv_head_counts
        self.fusion = None if checkpoint.fusion is None else pack(checkpoint.fusion)
        self.mixer = make_mixer(config, checkpoint, quantization, self.weights)
        self.widest = max(self.widest, self.mixer.features if self.mixer is not None else 0)

    def sealed(self):
        """The packed matrices with the checksums that they had when they were packed (records/checksums.py)."""
        return list(self.weights.memory.seals)

    def forward(self, chunks, PagedCache cache):
        """Run a batch of chunks; returns logits float32 (wanted rows, vocab), chunk after chunk."""
        return self.score(self._normed(self._run(chunks, cache)[wanted_rows(chunks)]))

    def states(self, chunks, PagedCache cache, beside=None):
        """Run a batch; return normed states (tokens, hidden). An eagle head gets a state `beside` each token id."""
        return self._normed(self._run(chunks, cache, beside))

    def score(self, states):
        """Logits float32 (rows, vocab) of normed states."""
        states = np.ascontiguousarray(states, np.float32)
        if states.ndim != 2 or states.shape[1] != self.hidden or self.weights.head.weights == NULL:
            raise ValueError(f"a model with a head scores states of {self.hidden} features, not {states.shape}")
        logits = self.logits_buffer.empty(len(states), self.vocab_size)
        self._reserve(len(states))
        self._score(<const float *>address(states), len(states), <float *>address(logits))
        if self.config.logits_divisor != 1:
            logits /= np.float32(self.config.logits_divisor)
        if self.config.final_softcap:
            table().softcap(<float *>address(logits), logits.size, self.config.final_softcap, self.config.final_softcap)
        self.show(-1, b"logits", <float *>address(logits), len(logits), self.vocab_size)
        self.raise_failure()
        return logits

    cdef void _score(self, const float *states, long rows, float *logits) noexcept:
        with nogil:
            if self.weights.head.format >= W8A8:
                table().quantize(states, rows, self.hidden, self.weights.head.format, &self.rounded.c)
            multiply(&self.weights.head, states, &self.rounded.c, rows, logits)

    cdef _normed(self, x):
        """The final norm of each row of x."""
        self._reserve(len(x))
        cdef const float *rows = <const float *>address(x)
        if self.weights.norm == NULL:  # an eagle head has none
            memcpy(self.normed, rows, len(x) * self.hidden * sizeof(float))
        else:
            self._norm_into(rows, self.weights.norm, self.weights.norm_bias, len(x), self.normed)
        self.show(-1, b"norm", self.normed, len(x), self.hidden)
        self.raise_failure()
        return self.scratch["normed"][: len(x)].copy()

    cdef _run(self, chunks, PagedCache cache, beside=None):
        """The hidden states (tokens, hidden) of a batch after all layers; chunks of an adapter run side by side."""
        order = self.adapters.order(chunks) if self.watch is None and beside is None else None
        if order is None:
            return self._run_in_order(chunks, cache, beside)
        ends = np.cumsum([len(chunk.token_ids) for chunk in chunks])
        rows = np.concatenate([np.arange(ends[i] - len(chunks[i].token_ids), ends[i]) for i in order])
        states = self._run_in_order([chunks[i] for i in order], cache, None)
        x = np.empty_like(states)
        x[rows] = states
        return x

    cdef _run_in_order(self, chunks, PagedCache cache, beside):
        """The same in the order of the chunks."""
        self.adapters.apply(chunks)
        ids, positions, pages, spans = self._lay_out(chunks, cache)
        if self.mixer is not None:
            self.mixer.lay_out(chunks, cache.states)
            self.mixer._reserve(len(ids))
        embedded = Tensor(self.embedding.name, self.embedding.dtype, self.embedding.bits[ids])
        x = np.ascontiguousarray(embedded.float32())  # (tokens, hidden)
        if self.config.embedding_scale != 1:
            x *= np.float32(self.config.embedding_scale)
        if self.fusion is not None:
            x = self.fusion(np.concatenate([x, beside], axis=1))
        self._reserve(len(x))
        self.show(-1, b"embedding", <float *>address(x), len(x), self.hidden)
        self._take_inputs(ids, x)
        self._take_streams(x)
        self._run_layers(
            batch_rows(<float *>address(x), len(x), len(chunks), <const span *><size_t>address(spans),
                       <const int32_t *>address(positions), <const int32_t *>address(pages)), cache)
        return self._leave_streams(x)

    cdef long _num_items(self, long tokens, long num_kv_heads) except -1:
        """The number of attention work items of a chunk."""
        cdef long rows = tokens * (self.shape.num_heads // num_kv_heads)
        return (rows + self.item_rows - 1) // self.item_rows * num_kv_heads

    cdef _check_cache(self, PagedCache cache):
        """ValueError unless each layer's pages have the shape of its heads."""
        cdef const layer_weights *layer
        cdef long index
        cdef bint fits = cache.num_layers == self.config.num_paged_layers
        for index in range(self.num_layers if fits else 0):
            layer = &self.weights.layers[index]
            if layer.has_attention:
                fits &= (cache._layers[layer.pages_at].num_kv_heads == layer.num_kv_heads
                         and cache._layers[layer.pages_at].head_dim == layer.head_dim)
        if not fits:
            raise ValueError("the cache was made for another model")

    cdef _lay_out(self, chunks, PagedCache cache):
        """Ids, positions and pages of the batch's rows, and spans: of each chunk and one after the last.

        There is a list of spans for each number of key-value heads that layers have, with its attention work items.
        Checks them all: the kernels use these numbers as addresses.
        """
        cdef long num_rows = sum([len(chunk.token_ids) for chunk in chunks]), size = cache.num_pages, held, held_page
        cdef long row = 0, page = 0, start, i, token_id
        if num_rows == 0:
            raise IndexError("a step takes in at least one token")
        self._check_cache(cache)
        self.item_rows = self._rows_of_items(num_rows)
        ids, positions = np.empty(num_rows, np.int64), np.empty(num_rows, np.int32)
        pages = np.empty(sum([len(chunk.pages) for chunk in chunks]), np.int32)
        spans = np.zeros((len(self.kv_head_counts), len(chunks) + 1, 4), np.dtype("l"))
        cdef int64_t[::1] all_ids = ids
        cdef int32_t[::1] all_positions = positions, all_pages = pages
        cdef long[:, ::1] all_spans = spans[0]
        for i, chunk in enumerate(chunks):
            start, held = chunk.start, len(chunk.pages)
            all_spans[i, 0], all_spans[i, 1], all_spans[i, 2] = row, len(chunk.token_ids), page
            if not 0 <= start <= start + len(chunk.token_ids) <= min(self.num_positions, held * PACK):
                raise IndexError(f"positions {start} to {start + len(chunk.token_ids) - 1} lie outside the context "
                                 "or the chunk's pages")
            for token_id in chunk.token_ids:
                if not 0 <= token_id < self.vocab_size:
                    raise IndexError(f"token ids must lie in 0..{self.vocab_size - 1}, not {token_id}")
                all_ids[row], all_positions[row] = token_id, start
                row, start = row + 1, start + 1
            held = page + <long>chunk.start // PACK  # earlier pages may be freed: no window reaches them
            for held_page in chunk.pages:
                if not (0 <= held_page < size or (held_page == NO_PAGE and page < held)):
                    raise IndexError(f"pages must lie in 0..{size - 1}, not {chunk.pages}")
                all_pages[page] = max(held_page, 0)
                page += 1
        for i, num_kv_heads in enumerate(self.kv_head_counts):
            items = [self._num_items(len(chunk.token_ids), num_kv_heads) for chunk in chunks]
            spans[i, :, :3] = spans[0, :, :3]
            spans[i, 1:, 3] = np.cumsum(items)
        return ids, positions, pages, spans
