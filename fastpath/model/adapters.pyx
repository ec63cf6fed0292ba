"""Mirrored. LoRA adapters in memory: what each adds to the products of its rows (N13).

Rows with the same adapter that lie side by side are a run, of at most RUN_ROWS. A product of some matrices then has two
phases: A x of each run; and strips of W x, to each of which B (A x) is added while it is in the processor's cache.
"""

import numpy as np

from verbatim.fastpath.machine.dispatch cimport PACK, STRIP, address, matrix, strip_of, table
from verbatim.fastpath.machine.threads cimport claim, claim_along, finish_phase
from verbatim.fastpath.numerics.packed cimport PackedMatrix, multiply_strip, num_strips
from libc.stdlib cimport calloc, free, realloc

from verbatim.fastpath.machine.memory import HugePages
from verbatim.fastpath.numerics.packed import pack
from verbatim.reference.checkpoint.lora.modules import PLACES

cdef enum:
    RUN_ROWS = 32


cdef class Packed:
    """One adapter's matrices, kept alive as long as the pointers to them."""

    def __init__(self, layers):
        cdef low_rank *into
        self.owners, self.rank, memory = [], 0, HugePages()
        self.matrices = <low_rank *>calloc(max(1, len(layers) * NUM_PLACES), sizeof(low_rank))
        if self.matrices == NULL:
            raise MemoryError
        for index, layer in enumerate(layers):
            for place, stored in layer.items():
                into = &self.matrices[<long>index * NUM_PLACES + <long>PLACES.index(place)]
                into.a, into.b = self._matrix(stored.a, memory), self._matrix(stored.b, memory)
                into.scale = stored.scale
                self.rank = max(self.rank, into.a.outputs)

    def __dealloc__(self):
        free(self.matrices)

    cdef matrix _matrix(self, source, memory) except *:
        cdef PackedMatrix packed = pack(source, None, None, memory)
        self.owners.append(packed)
        return packed.c


cdef class Adapters:
    """The adapters that a model has in memory, by their keys, and the runs of the present pass."""

    def __init__(self, layers):
        self._loaded, self.num_layers, self.rank = {}, len(layers), 0

    def __dealloc__(self):
        free(self.runs)

    def __contains__(self, key) -> bool:
        return key in self._loaded

    def add(self, adapter) -> None:
        """Take an adapter of this model into memory; one that is there already stays."""
        if adapter.key not in self._loaded:
            self._loaded[adapter.key] = Packed(adapter.layers)

    def remove(self, key) -> None:
        """Take an adapter out of memory."""
        del self._loaded[key]

    def apply(self, chunks) -> None:
        """Let the next pass add to the rows of each chunk what its adapter says; KeyError for one that is not there."""
        cdef long row = 0, count
        cdef Packed packed
        self.num_runs = 0
        if not any([chunk.adapter for chunk in chunks]):
            return
        self._reserve(sum([len(chunk.token_ids) for chunk in chunks]))
        for chunk in chunks:
            count = len(chunk.token_ids)
            if chunk.adapter:
                packed = self._loaded[chunk.adapter]
                self._add_rows(row, count, packed)
            row += count

    cdef _reserve(self, long num_rows):
        """Memory for the runs of that many rows, and for A x of three matrices."""
        cdef Packed packed
        cdef void *grown
        if num_rows > self.capacity:
            grown = realloc(self.runs, num_rows * sizeof(rows_of_adapter))
            if grown == NULL:
                raise MemoryError
            self.runs, self.capacity = <rows_of_adapter *>grown, num_rows
        self.rank = 0
        for packed in self._loaded.values():
            self.rank = max(self.rank, packed.rank)
        self.num_rows = num_rows
        if self._low is None or self._low.size < 3 * num_rows * self.rank:
            self._low = np.empty(3 * num_rows * self.rank, np.float32)
            self.low = <float *>address(self._low)

    cdef _add_rows(self, long row, long count, Packed packed):
        """Put rows into runs; a run that ends just before them goes on if it has the same adapter."""
        cdef rows_of_adapter *run
        cdef long taken
        while count:
            run = &self.runs[self.num_runs - 1] if self.num_runs else NULL
            if run == NULL or (
                run.matrices != packed.matrices or run.start + run.rows != row or run.rows == RUN_ROWS
            ):
                run = &self.runs[self.num_runs]
                run[0] = rows_of_adapter(row, 0, packed.matrices)
                self.num_runs += 1
            taken = min(count, RUN_ROWS - run.rows)
            run.rows, row, count = run.rows + taken, row + taken, count - taken

    cdef list order(self, chunks):
        """The places of the chunks in an order in which those of an adapter lie side by side; None if they do."""
        if not self._loaded:
            return None
        keys = [chunk.adapter for chunk in chunks]
        num_changes = sum([keys[i] != keys[i - 1] for i in range(1, len(keys))])
        if num_changes < len(set(keys)):
            return None
        return sorted(range(len(keys)), key=keys.__getitem__)

    cdef bint has_any(self):
        return len(self._loaded) > 0

    cdef float *_low_of(self, long slot, long row) noexcept nogil:
        return self.low + (slot * self.num_rows + row) * self.rank

    cdef void lower(self, team *members, const float *x, long layer, long place, long count) noexcept nogil:
        """Compute A x of all runs, for `count` matrices from `place` on; x are the batch's rows."""
        cdef long item = claim(members), slot
        cdef const rows_of_adapter *run
        cdef const matrix *a
        while item < self.num_runs * count:
            run, slot = &self.runs[item // count], item % count
            a = &run.matrices[layer * NUM_PLACES + place + slot].a
            if a.weights != NULL:
                table().linear(a, x + run.start * a.inputs, run.rows, 0, num_strips(a), self._low_of(slot, run.start))
            item = claim(members)
        finish_phase(members)

    cdef void add_strip(self, long layer, long place, long slot, float *y, long start, long rows, long strip,
                        long stride) noexcept nogil:
        """Add scale * (B (A x)) to a strip of a product's outputs.

        y are the strip's outputs of the batch's rows from `start` on, `stride` apart; A x lies in `slot`.
        """
        cdef float[RUN_ROWS * STRIP + PACK] buffer
        cdef float *part = buffer + (64 - <size_t>buffer % 64) % 64 // sizeof(float)
        cdef const rows_of_adapter *run
        cdef const low_rank *own
        cdef matrix b
        cdef long index, first, stop, row
        for index in range(self.num_runs):
            run = &self.runs[index]
            own = &run.matrices[layer * NUM_PLACES + place]
            first, stop = max(start, run.start), min(start + rows, run.start + run.rows)
            if own.b.weights == NULL or first >= stop:
                continue
            b = strip_of(&own.b, strip)
            table().linear(&b, self._low_of(slot, run.start) + (first - run.start) * b.inputs, stop - first, 0, 1, part)
            for row in range(first, stop):
                table().add(y + (row - start) * stride, part + (row - first) * b.outputs, b.outputs, own.scale)

    cdef void multiply(self, team *members, const product *products, long count, long layer, long place) noexcept nogil:
        """Some products of the batch's rows, of the matrices from `place` on, with what adapters add to each."""
        cdef long total = 0, at, item
        cdef const product *work
        self.lower(members, products[0].x, layer, place, count)
        for at in range(count):
            total += num_strips(products[at].w)
        item = claim_along(members, total)
        while item < total:
            at = 0
            while item >= num_strips(products[at].w):
                item, at = item - num_strips(products[at].w), at + 1
            work = &products[at]
            multiply_strip(work, item)
            self.add_strip(layer, place + at, at, work.y + item * STRIP, 0, work.rows, item, work.w.outputs)
            item = claim_along(members, total)
        finish_phase(members)
