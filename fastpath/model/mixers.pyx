"""Mirrored. What a layer with a state computes in the place of attention (N14): what all kinds of mixers share.

A kind is a class below `Mixer`, one object for all layers of a model. `run` turns the batch's normed rows into `mixed`
(rows, features), which the layer's last matrix takes, and moves states. Threads divide it by sequences and by channels
or heads, never by time.
"""

import numpy as np

from verbatim.fastpath.machine.dispatch cimport address
from verbatim.fastpath.machine.threads cimport team
from verbatim.fastpath.model.phases cimport Phases, floats

from verbatim.reference.cache.states import NO_STATE


cdef class Mixer:
    """All mixers of a model."""

    cdef lay_out(self, chunks, states):
        """Where the states of a batch's chunks come from and go to; checks the slots, which become addresses."""
        if states is None or states.size != self.size:
            raise ValueError("the cache was made for another model")
        states.check_chunks(chunks)
        cdef long stride = states.numbers.strides[0], base = address(states.numbers)
        unsaved = [i for i, chunk in enumerate(chunks) if not _ends_saved(chunk)]
        others = np.empty((len(unsaved), states.num_layers, states.size), np.float32)
        places = {i: address(others) + at * stride for at, i in enumerate(unsaved)}
        saves = [
            [(count, base + slot * stride) for count, slot in chunk.saves]
            + ([(len(chunk.token_ids), places[i])] if i in places else [])
            for i, chunk in enumerate(chunks)
        ]
        flat = np.array([each for own in saves for each in own], np.dtype("l"))
        starts = np.cumsum([0] + [len(own) for own in saves]) * 2 * flat.itemsize + address(flat)
        rows = [
            (0 if chunk.state == NO_STATE else base + chunk.state * stride, len(own), len(chunk.saves), start)
            for chunk, own, start in zip(chunks, saves, starts)
        ]
        found = np.array(rows, np.dtype("l"))
        self.chunks, self.laid_out = <const chunk_states *><size_t>address(found), (found, flat, others, states)

    cdef _reserve(self, long rows):
        """Allocate scratch buffers for that many rows."""
        raise NotImplementedError

    cdef floats _buffer(self, str name, long rows, long width) except NULL:
        self.scratch[name] = np.empty((rows, width), np.float32)
        return <float *><size_t>address(self.scratch[name])

    cdef void run(self, Phases model, team *members, long layer, long index) noexcept nogil:
        """Compute `mixed` of the model's normed rows, which are rounded already (N4), and save states.

        `layer` counts the layers with a state, `index` all of them.
        """

    cdef void show_states(self, Phases model, long layer, long index) noexcept nogil:
        """Show the states that were saved as the chunks want it."""
        cdef long i, j
        if model.watch is None:
            return
        for i in range(model.step.num_spans):
            for j in range(self.chunks[i].num_wanted):
                model.show(index, b"state", self.chunks[i].saves[j].to + layer * self.size, 1, self.size)


def _ends_saved(chunk) -> bool:
    return bool(chunk.saves) and chunk.saves[len(chunk.saves) - 1][0] == len(chunk.token_ids)
