"""Mirrored. The selective state spaces of Mamba 2 on all threads (N15): threads divide sequences, channels and heads.

kernels/mamba.h has the arithmetic. A head's state goes through all tokens of a chunk before the next head's.
"""

import numpy as np

from verbatim.fastpath.machine.dispatch cimport SILU, address, convolution, mamba_head, table
from verbatim.fastpath.machine.threads cimport claim, finish_phase, team
from verbatim.fastpath.model.layers cimport Layers
from verbatim.fastpath.model.mixers cimport Mixer, chunk_states
from verbatim.fastpath.model.phases cimport Phases, claim_rows
from verbatim.fastpath.model.short_convolution cimport CHANNELS, keep_tails
from verbatim.fastpath.numerics.packed cimport product
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from verbatim.fastpath.numerics.arithmetic import exp2

LOG2E = np.float32(1.4426950408889634)

cdef enum:
    STEP_ROWS = 16  # rows of a work item that makes steps


cdef class StateSpaces(Mixer):
    """The state spaces of a model between two matrices."""

    def __init__(self, config, stored, quantization, Layers weights):
        cdef long index
        sizes = config.mixer
        self.size, self.features, self.owners, self.scratch = sizes.state_size, sizes.values, [], {}
        self.num_heads, self.head_dim, self.state_rows = sizes.num_heads, sizes.head_dim, sizes.state_rows
        self.num_groups, self.values, self.channels = sizes.num_groups, sizes.values, sizes.channels
        self.width, self.tail, self.norms_first = sizes.inputs, sizes.tail, sizes.norm == "before"
        self.epsilon, (self.least, self.greatest) = sizes.norm_epsilon, sizes.step_bounds
        parts = sizes.values, sizes.values, sizes.shared, sizes.shared, sizes.num_heads
        self.factors = np.repeat(np.float32(sizes.factors), parts) if sizes.factors else None
        self.scales = NULL if self.factors is None else <const float *><size_t>address(self.factors)
        self.layers = <state_space *>calloc(len(stored), sizeof(state_space))
        if self.layers == NULL:
            raise MemoryError
        for index, tensors in enumerate(stored):
            self._load(&self.layers[index], sizes, tensors)
            self.layers[index].into = weights._matrix(tensors.into, quantization)

    def __dealloc__(self):
        free(self.layers)

    cdef _load(self, state_space *into, sizes, tensors):
        weight = tensors.convolution.float32().reshape(sizes.channels, sizes.width).T
        bias = tensors.convolution_bias
        into.weights = convolution(self._vector(weight), self._vector(bias), sizes.width, sizes.channels)
        into.step_bias, into.skip = self._vector(tensors.step_bias), self._vector(tensors.skip)
        decays = tensors.decays.float32()
        decays = -decays if tensors.has_negatives else exp2(decays * LOG2E)
        into.decays = self._vector(decays * LOG2E)  # for powers of two
        into.norm = self._vector(tensors.norm)

    cdef const float *_vector(self, stored) except? NULL:
        """The address of float32 numbers, of a stored tensor or computed; NULL for None."""
        if stored is None:
            return NULL
        numbers = np.ascontiguousarray(stored if isinstance(stored, np.ndarray) else stored.float32())
        self.owners.append(numbers)
        return <const float *><size_t>address(numbers)

    cdef _reserve(self, long rows):
        """Allocate scratch buffers for that many rows."""
        if rows > self.capacity:
            self.inputs = self._buffer("inputs", rows, self.width)
            self.convolved = self._buffer("convolved", rows, self.channels)
            self.kept = self._buffer("kept", rows, self.num_heads)
            self.mixed = self._buffer("mixed", rows, self.values)
            self.capacity = rows

    cdef void run(self, Phases model, team *members, long layer, long index) noexcept nogil:
        """Compute `mixed` of the model's normed rows, and save states."""
        cdef long rows = model.step.rows
        cdef product into = product(&self.layers[layer].into, model.normed, &model.rounded.c, rows, self.inputs)
        model._multiply(members, &into, 1)
        if self.scales != NULL:
            self._multiply_by_factors(model, members)
        model.show(index, b"mixer inputs", self.inputs, rows, self.width)
        self._convolve(model, members, layer)
        self._scan(model, members, layer)
        self.show_states(model, layer, index)
        self._gate(model, members, layer)
        model.show(index, b"mixer", self.mixed, rows, self.values)

    cdef void _multiply_by_factors(self, Phases model, team *members) noexcept nogil:
        cdef long start, stop, row
        while claim_rows(members, model.step.rows, &start, &stop):
            for row in range(start, stop):
                table().multiply(self.inputs + row * self.width, self.scales, self.width)
        finish_phase(members)

    cdef void _convolve(self, Phases model, team *members, long layer) noexcept nogil:
        """Convolve the channels of each sequence, and save their tails; make steps and what is kept of the states."""
        cdef long rows = model.step.rows
        cdef long convolutions = model.step.num_spans * ((self.channels + CHANNELS - 1) // CHANNELS)
        cdef long item = claim(members), row, start
        cdef float *steps = self.inputs + self.values + self.channels
        cdef const state_space *own = &self.layers[layer]
        while item < convolutions + (rows + STEP_ROWS - 1) // STEP_ROWS:
            if item < convolutions:
                self._convolve_some(model, layer, item)
            else:
                start = (item - convolutions) * STEP_ROWS
                for row in range(start, min(start + STEP_ROWS, rows)):
                    table().mamba_steps(steps + row * self.width, own.step_bias, own.decays, self.least, self.greatest,
                                        self.num_heads, self.kept + row * self.num_heads)
            item = claim(members)
        finish_phase(members)

    cdef void _convolve_some(self, Phases model, long layer, long item) noexcept nogil:
        """Some channels of one sequence."""
        cdef long blocks = (self.channels + CHANNELS - 1) // CHANNELS, start = item % blocks * CHANNELS
        cdef long stop = min(start + CHANNELS, self.channels), row = model.step.spans[item // blocks].row, i
        cdef long tokens = model.step.spans[item // blocks].tokens, place = layer * self.size
        cdef const chunk_states *chunk = &self.chunks[item // blocks]
        cdef const convolution *weights = &self.layers[layer].weights
        cdef const float *x = self.inputs + row * self.width + self.values
        cdef float *y = self.convolved + row * self.channels
        table().convolve(weights, x, self.width, tokens, NULL if chunk.begin == NULL else chunk.begin + place, start,
                         stop, y, self.channels)
        for i in range(tokens):
            table().activate(y + i * self.channels + start, stop - start, SILU, y + i * self.channels + start)
        keep_tails(weights, chunk, place, x, self.width, start, stop)

    cdef void _scan(self, Phases model, team *members, long layer) noexcept nogil:
        """Take each head of each sequence through its tokens."""
        cdef long item = claim(members)
        while item < model.step.num_spans * self.num_heads:
            self._scan_head(model, layer, item // self.num_heads, item % self.num_heads)
            item = claim(members)
        finish_phase(members)

    cdef void _scan_head(self, Phases model, long layer, long sequence, long index) noexcept nogil:
        """One head: its state moves from where the chunk begins to each save in turn."""
        cdef const chunk_states *chunk = &self.chunks[sequence]
        cdef long size = self.state_rows * self.head_dim, place = layer * self.size + self.tail + index * size
        cdef long row = model.step.spans[sequence].row, done = 0, i
        cdef long group = index // (self.num_heads // self.num_groups) * self.state_rows
        cdef const float *before = NULL if chunk.begin == NULL else chunk.begin + place
        cdef float *convolved
        cdef mamba_head head
        head.state_rows, head.head_dim, head.skip = self.state_rows, self.head_dim, self.layers[layer].skip[index]
        head.row_step, head.out_step = self.channels, self.values
        head.step_step, head.kept_step = self.width, self.num_heads
        for i in range(chunk.num_saves):
            head.state = chunk.saves[i].to + place
            if before == NULL:
                memset(head.state, 0, size * sizeof(float))
            elif before != head.state:
                memcpy(head.state, before, size * sizeof(float))
            head.tokens, convolved = chunk.saves[i].count - done, self.convolved + (row + done) * self.channels
            head.values, head.inward = convolved + index * self.head_dim, convolved + self.values + group
            head.outward = head.inward + self.num_groups * self.state_rows
            head.steps = self.inputs + (row + done) * self.width + self.values + self.channels + index
            head.kept = self.kept + (row + done) * self.num_heads + index
            head.out = self.mixed + (row + done) * self.values + index * self.head_dim
            table().mamba_scan(&head)
            before, done = head.state, chunk.saves[i].count

    cdef void _gate(self, Phases model, team *members, long layer) noexcept nogil:
        """Gate and norm what heads read."""
        cdef long start, stop, row
        while claim_rows(members, model.step.rows, &start, &stop):
            for row in range(start, stop):
                table().gated_norm(self.mixed + row * self.values, self.inputs + row * self.width,
                                   self.layers[layer].norm, self.epsilon, 1, self.num_groups,
                                   self.values // self.num_groups, self.norms_first)
        finish_phase(members)
