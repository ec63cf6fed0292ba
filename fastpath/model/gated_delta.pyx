"""Mirrored. Gated delta nets on all threads (N16).

reference/model/gated_delta.py has the arithmetic, kernels/delta.h one head's tokens. A work item is a head of one
sequence: first its convolution, then its matrix, which stays in the processor's cache over the tokens of a chunk.
"""

import numpy as np

from verbatim.fastpath.machine.dispatch cimport SIGMOID, SILU, address, convolution, delta_head, table
from verbatim.fastpath.machine.threads cimport claim, finish_phase
from verbatim.fastpath.model.layers cimport Layers
from verbatim.fastpath.model.mixers cimport save
from verbatim.fastpath.model.short_convolution cimport keep_tails
from verbatim.fastpath.numerics.packed cimport product
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from verbatim.fastpath.numerics.arithmetic import exp2

LOG2E = np.float32(1.4426950408889634)
INPUTS = "inputs", "gates", "rates", "steps"  # in the order of `inputs` of the reference

cdef float UNIT_EPSILON = 1e-6


cdef class GatedDeltaNets(Mixer):
    """All gated delta nets of a model."""

    def __init__(self, config, stored, quantization, Layers weights):
        cdef long index
        sizes = config.mixer
        self.size, self.features, self.owners, self.scratch = sizes.state_size, sizes.values, [], {}
        self.num_key_heads, self.num_heads = sizes.num_key_heads, sizes.num_value_heads
        self.key_dim, self.value_dim = sizes.key_dim, sizes.value_dim
        self.channels, self.tail, self.is_tiled = sizes.channels, sizes.tail, sizes.is_tiled
        self.epsilon, self.query_scale = config.norm_epsilon, query_scale(sizes.key_dim)
        self.layers = <delta_weights *>calloc(len(stored), sizeof(delta_weights))
        if self.layers == NULL:
            raise MemoryError
        for index, tensors in enumerate(stored):
            self._load(index, tensors, sizes.width, quantization, weights)

    def __dealloc__(self):
        free(self.layers)

    def _load(self, long index, tensors, long width, quantization, Layers weights):
        """The weights of a layer."""
        cdef delta_weights *into = &self.layers[index]
        into.mixed = weights._matrix(tensors.mixed, quantization)
        into.gate = weights._matrix(tensors.gate, quantization)
        into.rates, into.steps = weights._matrix(tensors.rates, None), weights._matrix(tensors.steps, None)
        into.step_bias, into.norm = weights._vector(tensors.step_bias, 0), weights._vector(tensors.norm, 0)
        decays = tensors.decays.float32()
        decays = np.ascontiguousarray((-decays if tensors.has_negatives else exp2(decays * LOG2E)) * LOG2E)
        weight = np.ascontiguousarray(tensors.weight.float32().reshape(self.channels, width).T)
        self.owners.append((decays, weight))
        into.decays = <const float *><size_t>address(decays)
        into.weight = convolution(<const float *><size_t>address(weight), NULL, width, self.channels)

    cdef _reserve(self, long rows):
        """Allocate scratch buffers for that many rows."""
        if rows > self.capacity:
            self.inputs = self._buffer("inputs", rows, self.channels)
            self.convolved = self._buffer("convolved", rows, self.channels)
            self.gates = self._buffer("gates", rows, self.features)
            self.mixed = self._buffer("mixed", rows, self.features)
            self.rates = self._buffer("rates", rows, self.num_heads)
            self.steps = self._buffer("steps", rows, self.num_heads)
            self.capacity = rows

    cdef void run(self, Phases model, team *members, long layer, long index) noexcept nogil:
        """Compute `mixed` of the model's normed rows, and save states."""
        cdef long rows = model.step.rows
        cdef const delta_weights *weights = &self.layers[layer]
        cdef product[4] products
        products[0] = product(&weights.mixed, model.normed, &model.rounded.c, rows, self.inputs)
        products[1] = product(&weights.gate, model.normed, &model.rounded.c, rows, self.gates)
        products[2] = product(&weights.rates, model.normed, &model.rounded.c, rows, self.rates)
        products[3] = product(&weights.steps, model.normed, &model.rounded.c, rows, self.steps)
        model._multiply(members, products, 4)
        self._show_inputs(model, index)
        self._convolve(model, members, layer)
        self._read(model, members, layer)
        self.show_states(model, layer, index)
        model.show(index, b"mixer", self.mixed, rows, self.features)

    cdef void _show_inputs(self, Phases model, long index) noexcept nogil:
        """Show the four products, if somebody watches."""
        if model.watch is None:
            return
        with gil:
            self._show_joined(model, index)

    cdef _show_joined(self, Phases model, long index):
        """Show the four products side by side, and take over what the observer changes in them."""
        rows = [self.scratch[name][: model.step.rows] for name in INPUTS]
        joined = np.concatenate(rows, axis=1)
        model.show(index, b"mixer inputs", <float *><size_t>address(joined), len(joined), joined.shape[1])
        for own, shown in zip(rows, np.split(joined, np.cumsum([part.shape[1] for part in rows]), axis=1)):
            own[...] = shown

    cdef void _convolve(self, Phases model, team *members, long layer) noexcept nogil:
        """Convolve the channels of each head, make queries and keys of length 1; decays and rates of each token."""
        cdef long blocks = 2 * self.num_key_heads + self.num_heads + 1, item = claim(members), row, tokens, i, at
        cdef const delta_weights *weights = &self.layers[layer]
        while item < model.step.num_spans * blocks:
            row, tokens = model.step.spans[item // blocks].row, model.step.spans[item // blocks].tokens
            if item % blocks < blocks - 1:
                self._convolve_head(weights, &self.chunks[item // blocks], layer * self.size, row, tokens,
                                    item % blocks)
            else:
                at = row * self.num_heads
                table().activate(self.rates + at, tokens * self.num_heads, SIGMOID, self.rates + at)
                for i in range(tokens):
                    table().decay_steps(self.steps + at + i * self.num_heads, weights.step_bias, weights.decays,
                                        self.num_heads)
            item = claim(members)
        finish_phase(members)

    cdef void _convolve_head(self, const delta_weights *weights, const chunk_states *chunk, long place, long row,
                             long tokens, long block) noexcept nogil:
        """One head of queries, of keys or of values."""
        cdef long keys = self.num_key_heads, step = self.channels, i
        cdef bint is_query = block < keys, is_value = block >= 2 * keys
        cdef long size = self.value_dim if is_value else self.key_dim
        cdef long start = 2 * keys * self.key_dim + (block - 2 * keys) * size if is_value else block * size
        cdef const float *tail = NULL if chunk.begin == NULL else chunk.begin + place
        cdef const float *x = self.inputs + row * step
        cdef float *y = self.convolved + row * step
        table().convolve(&weights.weight, x, step, tokens, tail, start, start + size, y, step)
        for i in range(tokens):
            table().activate(y + i * step + start, size, SILU, y + i * step + start)
            if not is_value:
                table().unit_rows(y + i * step + start, 1, size, UNIT_EPSILON, self.query_scale if is_query else 1)
        keep_tails(&weights.weight, chunk, place, x, step, start, start + size)

    cdef void _read(self, Phases model, team *members, long layer) noexcept nogil:
        """Take each sequence's tokens in each head, one after the other; then norm and gate what was read."""
        cdef long item = claim(members), heads = self.num_heads
        while item < model.step.num_spans * heads:
            self._read_head(&self.layers[layer], &self.chunks[item // heads], layer * self.size,
                            model.step.spans[item // heads].row, model.step.spans[item // heads].tokens, item % heads)
            item = claim(members)
        finish_phase(members)

    cdef void _read_head(self, const delta_weights *weights, const chunk_states *chunk, long place, long row,
                         long tokens, long head) noexcept nogil:
        """One head: each save continues from the one before it."""
        cdef long numbers = self.key_dim * self.value_dim, at = place + self.tail + head * numbers, i, done = 0
        cdef long shared_by = self.num_heads // self.num_key_heads
        cdef long key_head = head % self.num_key_heads if self.is_tiled else head // shared_by
        cdef const float *now = NULL if chunk.begin == NULL else chunk.begin + at
        cdef const float *x = self.convolved + row * self.channels
        cdef const float *values = x + 2 * self.num_key_heads * self.key_dim + head * self.value_dim
        cdef long scalars = row * self.num_heads + head, out = row * self.features + head * self.value_dim
        cdef delta_head part
        cdef const save *to
        for i in range(chunk.num_saves):
            to = &chunk.saves[i]
            if now == NULL:
                memset(to.to + at, 0, numbers * sizeof(float))
            elif now != to.to + at:
                memcpy(to.to + at, now, numbers * sizeof(float))
            part = delta_head(
                x + done * self.channels + key_head * self.key_dim,
                x + done * self.channels + (self.num_key_heads + key_head) * self.key_dim,
                values + done * self.channels, self.steps + scalars + done * self.num_heads,
                self.rates + scalars + done * self.num_heads, self.mixed + out + done * self.features, to.to + at,
                self.channels, self.features, self.num_heads, to.count - done, self.key_dim, self.value_dim,
            )
            table().delta_rule(&part)
            now, done = to.to + at, to.count
        for i in range(tokens):
            table().gated_norm(self.mixed + out + i * self.features, self.gates + out + i * self.features, weights.norm,
                               self.epsilon, 1, 1, self.value_dim, True)


def query_scale(key_dim):
    """1 / sqrt(key_dim), by which queries are multiplied."""
    return np.float32(np.float64(key_dim) ** -0.5)


def unit(x):
    """Rows of length 1: x * (1 / sqrt(lane_sum(x * x) + 1e-6)) over the last axis."""
    y = np.empty(x.shape, np.float32)
    y[...] = x
    *_, length = x.shape
    table().unit_rows(<float *><size_t>address(y), y.size // length, length, UNIT_EPSILON, 1)
    return y


def delta_step(state, query, key, value, decay, rate):
    """One token: what each head reads (heads, value_dim), and the state after it.

    As in reference/model/gated_delta.py.
    """
    cdef long shared_by = len(value) // len(key), head
    cdef delta_head part
    given = query, key, value, decay, rate
    query, key, value, decay, rate = (np.ascontiguousarray(each, np.float32) for each in given)
    found, after = np.empty(value.shape, np.float32), np.array(state, np.float32, order="C")
    for head in range(len(value)):
        at = [query[head // shared_by], key[head // shared_by], value[head], decay[head:], rate[head:], found[head]]
        part = delta_head(
            <const float *><size_t>address(at[0]), <const float *><size_t>address(at[1]),
            <const float *><size_t>address(at[2]), <const float *><size_t>address(at[3]),
            <const float *><size_t>address(at[4]), <float *><size_t>address(at[5]),
            <float *><size_t>address(after[head]), 0, 0, 0, 1, state.shape[1], state.shape[2],
        )
        table().delta_rule(&part)
    return found, after
