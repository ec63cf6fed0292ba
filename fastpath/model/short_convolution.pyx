"""Mirrored. The gated short convolution of LFM2 on all threads (N14a), and the tails that other mixers have, too.

kernels/states.h has the arithmetic. A work item is some channels of one sequence.
"""

import numpy as np

from verbatim.fastpath.machine.dispatch cimport address, convolution, table
from verbatim.fastpath.machine.threads cimport claim, finish_phase, team
from verbatim.fastpath.model.layers cimport Layers
from verbatim.fastpath.model.mixers cimport Mixer, chunk_states
from verbatim.fastpath.model.phases cimport Phases
from verbatim.fastpath.numerics.packed cimport product
from libc.stdlib cimport calloc, free


cdef class ShortConvolutions(Mixer):
    """The convolutions of a model between two matrices, both of whose sides are gated by the input."""

    def __init__(self, config, stored, quantization, Layers weights):
        cdef long index
        sizes = config.mixer
        self.size, self.channels, self.features, self.owners = sizes.state_size, sizes.channels, sizes.channels, []
        self.scratch = {}
        self.layers = <gated_convolution *>calloc(len(stored), sizeof(gated_convolution))
        if self.layers == NULL:
            raise MemoryError
        for index, tensors in enumerate(stored):
            self.layers[index].into = weights._matrix(tensors.into, quantization)
            weight = np.ascontiguousarray(tensors.weight.float32().reshape(sizes.channels, sizes.length).T)
            bias = None if tensors.bias is None else np.ascontiguousarray(tensors.bias.float32())
            self.owners.append((weight, bias))
            self.layers[index].weights = make_convolution(weight, bias)

    def __dealloc__(self):
        free(self.layers)

    cdef _reserve(self, long rows):
        """Allocate scratch buffers for that many rows."""
        if rows > self.capacity:
            self.inputs = self._buffer("inputs", rows, 3 * self.channels)
            self.mixed = self._buffer("mixed", rows, self.channels)
            self.capacity = rows

    cdef void run(self, Phases model, team *members, long layer, long index) noexcept nogil:
        """Compute `mixed` of the model's normed rows, and save the tails."""
        cdef long rows = model.step.rows
        cdef product into = product(&self.layers[layer].into, model.normed, &model.rounded.c, rows, self.inputs)
        model._multiply(members, &into, 1)
        model.show(index, b"mixer inputs", self.inputs, rows, 3 * self.channels)
        self._scan(model, members, layer)
        self.show_states(model, layer, index)
        model.show(index, b"mixer", self.mixed, rows, self.channels)

    cdef void _scan(self, Phases model, team *members, long layer) noexcept nogil:
        """Gate, convolve and gate again some channels of each sequence."""
        cdef long width = self.channels, step = 3 * width, blocks = (width + CHANNELS - 1) // CHANNELS
        cdef long item = claim(members), row, tokens, start, stop
        cdef const convolution *weights = &self.layers[layer].weights
        cdef const chunk_states *chunk
        cdef const float *tail
        cdef float *x
        cdef float *y
        while item < model.step.num_spans * blocks:
            chunk = &self.chunks[item // blocks]
            row, tokens = model.step.spans[item // blocks].row, model.step.spans[item // blocks].tokens
            start = item % blocks * CHANNELS
            stop = min(start + CHANNELS, width)
            x, y = self.inputs + row * step, self.mixed + row * width
            tail = NULL if chunk.begin == NULL else chunk.begin + layer * self.size
            table().multiply_rows(x, step, x + 2 * width, step, tokens, start, stop)
            table().convolve(weights, x, step, tokens, tail, start, stop, y, width)
            table().multiply_rows(y, width, x + width, step, tokens, start, stop)
            keep_tails(weights, chunk, layer * self.size, x, step, start, stop)
            item = claim(members)
        finish_phase(members)


cdef convolution make_convolution(weight, bias) except *:
    """Of float32 weights (length, channels) and a bias (channels,) or None, which the caller keeps alive."""
    cdef convolution made = convolution(<const float *>address(weight), NULL, len(weight), weight.shape[1])
    if bias is not None:
        made.bias = <const float *>address(bias)
    return made


cdef void keep_tails(const convolution *weights, const chunk_states *chunk, long place, const float *x, long step,
                     long start, long stop) noexcept nogil:
    """Save the tails of a chunk's inputs x, `place` floats into each state: last that which replaces the beginning."""
    cdef const float *tail = NULL if chunk.begin == NULL else chunk.begin + place
    cdef long i, replaced = -1
    for i in range(chunk.num_saves):
        if chunk.saves[i].to == chunk.begin:
            replaced = i
        else:
            table().keep_tail(weights, x, step, chunk.saves[i].count, tail, start, stop, chunk.saves[i].to + place)
    if replaced >= 0:
        i = replaced
        table().keep_tail(weights, x, step, chunk.saves[i].count, tail, start, stop, chunk.saves[i].to + place)


def convolve(x, tail, weight, bias, counts):
    """A causal convolution of each feature over the last tokens, and the tails after so many tokens.

    As in reference/model/short_convolution.py.
    """
    x, tail, weight = [np.ascontiguousarray(each, np.float32) for each in (x, tail, weight.T)]
    bias = None if bias is None else np.ascontiguousarray(bias, np.float32)
    cdef convolution weights = make_convolution(weight, bias)
    cdef long width = x.shape[1]
    y, tails = np.empty_like(x), [np.empty_like(tail) for _ in counts]
    cdef const float *rows = <const float *>address(x)
    cdef const float *past = <const float *>address(tail)
    table().convolve(&weights, rows, width, len(x), past, 0, width, <float *>address(y), width)
    for count, kept in zip(counts, tails):
        table().keep_tail(&weights, rows, width, count, past, 0, width, <float *>address(kept))
    return y, tails
