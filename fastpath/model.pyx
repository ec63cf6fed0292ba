"""Mirrored. The forward pass of a decoder over chunks of several sequences at once, for all families (N3 to N9).

Python gathers the step's rows here; decoder.pyx takes them through the layers.
"""

import numpy as np

from fastpath.cache cimport PagedCache
from fastpath.decoder cimport Decoder
from fastpath.dispatch cimport PACK, address, table
from fastpath.packed cimport multiply
from fastpath.phases cimport PIECE_ROWS, rows_of_step, span
from libc.stdint cimport int32_t
from libc.string cimport memcpy

from fastpath.cache import NO_PAGE
from fastpath.packed import pack
from reference.sequence import wanted_rows
from reference.weights import Tensor


cdef class Model(Decoder):
    """A decoder with its weights in memory: `forward` takes in tokens; `states` and `score` are its two halves.

    `watch` as in reference/model.py. `model_lib` holds the matrices packed, or will (model_lib.py).
    """

    cdef object embedding, fusion

    def __init__(self, config, checkpoint, *, quantization: str | None = None, model_lib=None):
        super().__init__(config, checkpoint, quantization, model_lib)
        self.embedding = checkpoint.embedding
        self.fusion = None if checkpoint.fusion is None else pack(checkpoint.fusion)

    def forward(self, chunks, PagedCache cache):
        """Take in every chunk's tokens; returns logits float32 (wanted rows, vocab), chunk after chunk."""
        return self.score(self._normed(self._run(chunks, cache)[wanted_rows(chunks)]))

    def states(self, chunks, PagedCache cache, beside=None):
        """The same for the last layer's normed states (tokens, hidden); an eagle head is given others `beside` the ids."""
        return self._normed(self._run(chunks, cache, beside))

    def score(self, states):
        """Logits float32 (rows, vocab) of normed states."""
        states = np.ascontiguousarray(states, np.float32)
        if states.ndim != 2 or states.shape[1] != self.hidden or self.weights.head.weights == NULL:
            raise ValueError(f"a model with a head scores states of {self.hidden} features, not {states.shape}")
        logits = np.empty((len(states), self.vocab_size), np.float32)
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
            if self.weights.head.scales != NULL:
                table().quantize(states, rows, self.hidden, &self.rounded.c)
            multiply(&self.weights.head, states, &self.rounded.c, rows, logits)

    cdef _normed(self, x):
        """Rows of x after the last norm."""
        self._reserve(len(x))
        cdef const float *rows = <const float *>address(x)
        if self.weights.norm == NULL:  # an eagle head has none
            memcpy(self.normed, rows, len(x) * self.hidden * sizeof(float))
        else:
            table().rms_norm(rows, self.weights.norm, self.epsilon, len(x), self.hidden, self.normed)
        self.show(-1, b"norm", self.normed, len(x), self.hidden)
        self.raise_failure()
        return self.scratch["normed"][: len(x)].copy()

    cdef _run(self, chunks, PagedCache cache, beside=None):
        """All rows through all layers."""
        ids = np.concatenate([np.asarray(chunk.token_ids, np.int64) for chunk in chunks])
        self._check(chunks, ids, cache)
        lengths = [len(chunk.token_ids) for chunk in chunks]
        ends = np.cumsum(lengths)
        positions = np.concatenate([np.arange(chunk.start, chunk.start + length, dtype=np.int32)
                                    for chunk, length in zip(chunks, lengths)])
        pages = np.concatenate([np.asarray(chunk.pages, np.int32) for chunk in chunks])
        pages[pages == NO_PAGE] = 0  # what is out of sight is not looked at
        first_pages = np.cumsum([0] + [len(chunk.pages) for chunk in chunks])[: len(lengths)]
        pieces = [self._pieces(length) for length in lengths]
        spans = np.array([ends - lengths, lengths, first_pages, np.cumsum(pieces) - pieces], np.dtype("l")).T.copy()
        embedded = Tensor(self.embedding.name, self.embedding.dtype, self.embedding.bits[ids])
        x = np.ascontiguousarray(embedded.float32())  # (tokens, hidden)
        if self.config.embedding_scale != 1:
            x *= np.float32(self.config.embedding_scale)
        if self.fusion is not None:
            x = self.fusion(np.concatenate([x, beside], axis=1))
        self._reserve(len(x))
        self.show(-1, b"embedding", <float *>address(x), len(x), self.hidden)
        self._layers(rows_of_step(<float *>address(x), len(x), len(spans), sum(pieces), <const span *><size_t>address(spans),
                                  <const int32_t *>address(positions), <const int32_t *>address(pages)), cache)
        return x

    cdef long _pieces(self, long tokens) except -1:
        """Into how many pieces the attention of a chunk is cut."""
        cdef long rows = tokens * (self.shape.num_heads // self.shape.num_kv_heads)
        return (rows + PIECE_ROWS - 1) // PIECE_ROWS * self.shape.num_kv_heads

    cdef _check(self, chunks, ids, PagedCache cache):
        """What the kernels take on trust: they read and write where these numbers say."""
        if len(ids) == 0 or ids.min() < 0 or ids.max() >= self.vocab_size:
            raise IndexError(f"token ids must be at least one and lie in 0..{self.vocab_size - 1}")
        if cache.num_kv_heads != self.shape.num_kv_heads or cache.head_dim != self.shape.head_dim:
            raise ValueError("the cache was made for another model")
        for chunk in chunks:
            stop = chunk.start + len(chunk.token_ids)
            if not 0 <= chunk.start <= stop <= min(self.num_positions, len(chunk.pages) * PACK):
                raise IndexError(f"positions {chunk.start} to {stop - 1} lie outside the context or the chunk's pages")
            held = chunk.pages[chunk.start // PACK :]  # what lies before may have been given back
            if NO_PAGE in held or not all([NO_PAGE <= page < cache.num_pages for page in chunk.pages]):
                raise IndexError(f"pages must lie in 0..{cache.num_pages - 1}, not {chunk.pages}")
